"""A stage: a function with a config that reads sealed directories and writes one."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.artifacts.metrics import Report, silent
from collectiverl.types import UserError

SUMMARY = "summary.json"


def available_cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Work:
    """What a stage's function is handed."""

    run: Path  # the run's folder: inputs are found below it
    folder: Path  # to be filled
    seed: int
    config: Any
    report: Report
    inputs: tuple[str, ...] = ()  # relative to `run`


@dataclass(frozen=True)
class Stage:
    """One unit of work of a run; paths are relative to the run's folder."""

    name: str  # the command that does it by itself
    subject: str  # what it is done to, for people: `reach-v3`
    out: str
    function: Callable[[Work], dict[str, Any]]  # returns the summary, numbers for people and tables
    config: Any = None
    inputs: tuple[str, ...] = ()
    seed: int = 0
    makes: dict[str, str] = field(default_factory=dict)  # input -> the command that makes it

    @property
    def label(self) -> str:
        return f"{self.name} {self.subject}".strip()

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on, beside the inputs."""
        return {**sealed.to_jsonable(self.config), "seed": self.seed}


def input_hashes(run: Path, stage: Stage) -> dict[str, str]:
    """Identity of every input, or a message naming the command that makes the missing one."""
    hashes = {}
    for name in stage.inputs:
        if not sealed.is_sealed(run / name):
            command = stage.makes.get(name)
            hint = f": make it with 'collectiverl {command}'" if command else ""
            raise UserError(f"{stage.label} needs {run / name}, which is not there{hint}")
        hashes[name] = sealed.identity(run / name)
    return hashes


def is_done(run: Path, stage: Stage) -> bool:
    """True if the stage's output is there and fits; raises UserError if it is there and does not fit."""
    return sealed.is_sealed(run / stage.out) and sealed.fits(
        run / stage.out, stage.settings, input_hashes(run, stage)
    )


def execute(run: Path, stage: Stage, *, report: Report = silent, overwrite: bool = False) -> dict[str, Any]:
    """Does the stage unless it is done; returns its summary."""
    out = run / stage.out
    if not overwrite and is_done(run, stage):
        return summary(out)
    hashes = input_hashes(run, stage)
    try:
        with sealed.stage(
            out, name=stage.name, config=stage.settings, inputs=hashes, seed=stage.seed, overwrite=overwrite
        ) as folder:
            result = stage.function(Work(run, folder, stage.seed, stage.config, report, stage.inputs))
            checkpoints.write_json(folder / SUMMARY, result)
    except OSError as error:  # a full disk, say: what was finished and the last checkpoint are kept
        raise UserError(
            f"{stage.label} cannot go on: {error}; mend that, and the same command goes on"
        ) from error
    return result


def summary(out: Path) -> dict[str, Any]:
    """What a sealed stage said of itself."""
    sealed.manifest(out)
    return sealed.read_json(out / SUMMARY)
