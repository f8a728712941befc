"""A stage: a function with a config that reads sealed directories and writes one."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from jax.errors import JaxRuntimeError

from collectiverl.artifacts import attempts, manifests, sealed, validation
from collectiverl.artifacts.files import read_object, write_json
from collectiverl.artifacts.metrics import Report, silent
from collectiverl.artifacts.paths import SUMMARY
from collectiverl.types import ConfigError, UserError

C = TypeVar("C")  # the config of a stage


def available_cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, kw_only=True)
class Work(Generic[C]):
    """What a stage's function gets."""

    run: Path  # the run's folder: inputs are found below it
    folder: Path  # to be filled
    config: C
    inputs: tuple[str, ...] = ()  # folders, relative to `run`
    seed: int = 0
    spent: float = 0.0  # seconds of earlier attempts, which were interrupted
    report: Report = silent


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[C]):
    """One unit of work of a run; paths are relative to the run's folder."""

    kind: str  # the command that does it by itself, such as train-task
    subject: str  # for people: the task or tasks, such as `reach-v3`
    out: str  # the folder that it writes
    function: Callable[[Work[C]], dict[str, Any]]  # returns the summary, numbers for people and tables
    config: C
    inputs: Mapping[str, str] = field(default_factory=dict)  # folder -> the command that makes it, or ""
    seed: int = 0
    format: int = sealed.FORMAT  # one more where a change of the code makes earlier results unfit
    # whether this summary of a finished stage asks for another try on this machine
    again: Callable[[Mapping[str, Any]], bool] | None = None

    def __post_init__(self) -> None:
        if not self.out or ".." in Path(self.out).parts:
            raise UserError(f"{self.label} cannot write {self.out!r}: it is no folder within the run's")
        validation.seed(self)
        validation.all_finite(self.config)

    @property
    def label(self) -> str:
        return f"{self.kind} {self.subject}".strip()

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on, beside the inputs."""
        return {**sealed.to_jsonable(self.config), "seed": self.seed}


def subject_of(tasks: Sequence[str]) -> str:
    """The subject of a stage of several tasks: their names, or how many they are."""
    return " ".join(tasks) if len(tasks) < 4 else f"{len(tasks)} tasks"


def input_hashes(run: Path, stage: Stage) -> dict[str, str]:
    """Identity of every input, or a message naming the command that makes the missing one."""
    hashes = {}
    for name, command in stage.inputs.items():
        if not sealed.is_sealed(run / name):
            hint = f": make it with 'collectiverl {command}'" if command else ""
            raise UserError(f"{stage.label} needs {run / name}, which is not there{hint}")
        sealed.check(run / name)
        hashes[name] = manifests.identity(run / name)
    return hashes


def is_done(run: Path, stage: Stage) -> bool:
    """True if the stage's output is there and fits.

    Raises:
        UserError: it is there and does not fit, or it is damaged.
    """
    out = run / stage.out
    if not sealed.is_sealed(out):
        return False
    sealed.check(out)
    if not sealed.fits(out, stage.settings, input_hashes(run, stage), stage.format):
        return False
    return not (stage.again and stage.again(summary(out)))


def execute(run: Path, stage: Stage, *, report: Report = silent, overwrite: bool = False) -> dict[str, Any]:
    """Does the stage unless it is done; returns its summary."""
    out = run / stage.out
    if not overwrite and is_done(run, stage):
        return summary(out)
    made_from: Any = {"config": stage.settings, "inputs": input_hashes(run, stage), "format": stage.format}
    with explained(stage.label):
        if not overwrite and sealed.finish(out, **made_from):
            return summary(out)
        with sealed.stage(out, name=stage.kind, seed=stage.seed, overwrite=overwrite, **made_from) as folder:
            result = stage.function(
                Work(
                    run=run,
                    folder=folder,
                    config=stage.config,
                    inputs=tuple(stage.inputs),
                    seed=stage.seed,
                    spent=attempts.spent(folder),
                    report=report,
                )
            )
            write_json(folder / SUMMARY, result)
    return result


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """What the machine refuses is the user's to mend: a full disk, say. Finished work and checkpoints are kept.

    Raises:
        UserError: of `what` is done in the block.
    """
    try:
        yield
    except BrokenPipeError:  # nobody reads the output
        raise
    except OSError as error:
        raise UserError(
            f"{what} cannot go on: {error}; remove the cause, and the same command goes on"
        ) from error
    except (MemoryError, JaxRuntimeError) as error:
        if isinstance(error, JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"{what} does not fit in this machine's memory: {error}; choose smaller numbers, "
            "of environments, units or batches"
        ) from error
    except FloatingPointError as error:
        raise UserError(
            f"{what} has diverged: {error}. The checkpoint before is kept; choose a lower learning rate or a "
            "smaller reward scale, and pass --overwrite to begin anew"
        ) from error
    except ConfigError as error:
        raise UserError(f"{what}: {error}") from error


def threads_of(run: Path, stage: Stage, *, otherwise: int = 1) -> int:
    """Threads of linear algebra: those that an interrupted stage began with, since they change roundings."""
    return attempts.begun(run / stage.out).get("runtime", {}).get("threads", otherwise)


def summary(out: Path) -> dict[str, Any]:
    """The summary of a sealed stage.

    Raises:
        UserError: the stage is not finished, or it is damaged.
    """
    if SUMMARY not in sealed.check(out)["files"]:
        raise UserError(f"{out} has no {SUMMARY} that its manifest lists: delete it and run its stage again")
    return read_object(out / SUMMARY)


def seconds(out: Path) -> float:
    """How long a sealed stage took, in all its attempts."""
    return sealed.manifest(out)["seconds"]


def wall_seconds(outs: Iterable[Path]) -> float:
    """How long at least one of these sealed stages was at work, by the clock: side by side they count once.

    A stage is taken to have worked without a break until it was sealed, which is known to a second. One that was
    interrupted worked earlier than that, so what ran beside it may count twice or not at all.
    """
    spans = sorted((_sealed_at(out) - seconds(out), _sealed_at(out)) for out in outs)
    worked, until = 0.0, float("-inf")
    for begin, end in spans:
        worked += max(0.0, end - max(begin, until))
        until = max(until, end)
    return round(worked, 1)


def _sealed_at(out: Path) -> float:
    """In seconds since 1970."""
    return datetime.fromisoformat(sealed.manifest(out)["created"]).timestamp()


def core_seconds(out: Path) -> float | None:
    """What a sealed stage computed, on all cores together; None: interrupted meanwhile, or not recorded.

    Stages start no processes of their own, so this is the time of the stage's process.
    """
    return sealed.manifest(out).get("core_seconds")


def load(out: Path) -> list[float] | None:
    """Processes at work on the machine before a sealed stage and after it; None where it was not recorded."""
    return sealed.manifest(out).get("load")


def peak_memory(out: Path) -> int | None:
    """Bytes that a sealed stage had in memory at most; None where it was not recorded.

    As above, this is that of the stage's process.
    """
    return sealed.manifest(out).get("peak_memory")
