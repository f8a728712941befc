"""`export`: copies a run's experts or its collective, with a model card, without episodes and logs."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from collectiverl.artifacts import configs, locks, paths, sealed, tensors
from collectiverl.artifacts.contents import hashes
from collectiverl.artifacts.files import write_json
from collectiverl.artifacts.manifests import write_manifest
from collectiverl.artifacts.paths import (
    CARD,
    COLLECTIVE,
    COLLECTIVE_FIGURES,
    CONFIG,
    EXPERTS_FIGURES,
    SUMMARY,
)
from collectiverl.collective import policy as collective
from collectiverl.pipeline.config import RunConfig
from collectiverl.policies import SHIPPED
from collectiverl.reporting.cards import collective_card, experts_card
from collectiverl.sac import policy as expert
from collectiverl.stages.base import summary
from collectiverl.stages.experts import demo_count
from collectiverl.types import UserError


def export_experts(runs: Sequence[Path], out: Path, *, half: bool = False) -> None:
    """Writes `out/<task>/` for every task of the runs, sealed, and `out/README.md`.

    Args:
        runs: of different tasks; the settings of the first stand beside its experts'.
        half: weights are stored in half precision, in half as many bytes.

    Raises:
        UserError: experts are not all trained and evaluated, two runs have one of the same task, or `out` is not empty.
    """
    figures = [_summary_of_experts(run) for run in runs]
    _check_empty(out)
    config = configs.load(runs[0] / CONFIG, RunConfig()).resolved()
    sources = _experts_of(runs)
    records = {task: sealed.verify(source) for task, source in sources.items()}
    if foreign := [task for task, source in sources.items() if not sealed.holds(source, expert.ABOUT)]:
        raise UserError(
            f"{sources[foreign[0]]} was made by another library: only experts of SAC, trained here, are exported"
        )
    # before anything is written: it may be refused
    halves = {task: tensors.halved(source / expert.WEIGHTS) for task, source in sources.items() if half}
    for task, source in sources.items():
        _copy(source, records[task], out / task, (expert.ABOUT, expert.WEIGHTS, SUMMARY), halves.get(task))
    shutil.copy(runs[0] / CONFIG, out / CONFIG)
    together, settings = _together(figures), sealed.to_jsonable(config)
    write_json(out / EXPERTS_FIGURES, together)
    trained = [summary(out / task) for task in sources]
    card = experts_card(out.name, settings, together, trained, demos=demo_count(config.demos), half=half)
    (out / CARD).write_text(card)


def _experts_of(runs: Sequence[Path]) -> dict[str, Path]:
    """The folder of each expert, by task; those of several runs in the order of their tasks.

    Raises:
        UserError: two runs have one of the same task.
    """
    sources: dict[str, Path] = {}
    for run in runs:
        config = configs.load(run / CONFIG, RunConfig()).resolved()
        for task in config.expert_tasks:
            if task in sources:
                raise UserError(
                    f"{sources[task]} and {run} both have an expert of {task}: leave out one of the runs"
                )
            sources[task] = run / paths.expert(task, config.seed)
    return sources if len(runs) == 1 else dict(sorted(sources.items()))


def _summary_of_experts(run: Path) -> dict[str, Any]:
    found = run / paths.summary("experts")
    if not sealed.is_sealed(found):
        raise UserError(f"{found} is not there: 'collectiverl run --until experts' makes it")
    return summary(found)


def _together(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The summaries of several runs as one: rows in the order of their tasks, steps and seconds summed."""
    found = dict(figures[0])
    for one in figures[1:]:
        for name, value in one.items():
            if isinstance(value, dict) and name != "versions":
                found[name] = found.get(name, {}) | value
            elif isinstance(value, list) or (name.endswith("seconds") or name == "env_steps"):
                found[name] = found[name] + value if name in found else value
    if len(figures) > 1:
        found |= {
            "tasks": sorted(found["tasks"]),
            "policies": sorted(found["policies"], key=lambda row: row["task"]),
        }
    return found


def export_collective(runs: Sequence[Path], out: Path, *, half: bool = False) -> None:
    """Writes the collective of the first run to `out`, sealed, and a card with the figures of all.

    Args:
        runs: trainings of the same settings with different seeds.
        half: as for experts.

    Raises:
        UserError: a collective is not distilled and evaluated, the runs do not fit, or `out` is not empty.
    """
    figures = [_summary_of_collective(run) for run in runs]
    _check_empty(out)
    settings = [_settings(run) for run in runs]
    for run, own in zip(runs, settings, strict=True):
        if differing := sealed.differences(own | {"seed": 0}, settings[0] | {"seed": 0}):
            raise UserError(f"{run} is no other seed of {runs[0]}: they differ in {'; '.join(differing[:3])}")
    source = runs[0] / COLLECTIVE
    halves = tensors.halved(source / collective.WEIGHTS) if half else None
    _copy(source, sealed.verify(source), out, (collective.ABOUT, collective.WEIGHTS, SUMMARY), halves)
    shutil.copy(runs[0] / CONFIG, out / CONFIG)
    write_json(out / COLLECTIVE_FIGURES, figures)
    (out / CARD).write_text(collective_card(_name(out), settings[0], figures, half=half))


def policies_of(run: Path, what: Literal["experts", "collective"]) -> dict[str, Path]:
    """The folders of a run's experts, by task, or of its collective, under the name "".

    Raises:
        UserError: one is not trained.
    """
    if what == "collective":
        found = {"": run / COLLECTIVE}
    else:
        if not (run / CONFIG).is_file():
            raise UserError(f"{run} is not there: name a run with --run, or a policy such as mt10")
        config = configs.load(run / CONFIG, RunConfig()).resolved()
        found = {task: run / paths.expert(task, config.seed) for task in config.expert_tasks}
    for folder in found.values():
        sealed.manifest(folder)
    return found


def _settings(run: Path) -> dict[str, Any]:
    return sealed.to_jsonable(configs.load(run / CONFIG, RunConfig()))


def _summary_of_collective(run: Path) -> dict[str, Any]:
    """The summary of the whole run, or of the run up to its collective."""
    for until in ("end", "collective"):
        if sealed.is_sealed(run / paths.summary(until)):
            return summary(run / paths.summary(until))
    raise UserError(f"{run} has no summary: 'collectiverl run --until collective' makes it")


def _name(out: Path) -> str:
    """How `load_policy` finds the folder: by its path, or by the name of a collection of the package."""
    return out.parent.name if out.resolve().parent.parent == SHIPPED.resolve() else str(out)


def _check_empty(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder with --out")


def _copy(
    source: Path,
    record: dict[str, Any],
    target: Path,
    names: Sequence[str],
    weights: dict[str, np.ndarray] | None,
) -> None:
    """Copies the files of a policy, with the part of their manifest that is about them.

    Args:
        weights: in place of those in the file; None: they are copied too.
    """
    locks.make_writable(target)
    for name in names:
        if weights is not None and name.endswith(tensors.SUFFIX):
            tensors.save_arrays(target / name, weights)
        else:
            shutil.copy(source / name, target / name)
    write_manifest(target, record, hashes(target, names))
