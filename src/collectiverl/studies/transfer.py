"""`transfer`: what a collective does, without training, in the tasks that it never saw.

Each task is a stage of its own, so a map that was interrupted goes on with the next task.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import tyro

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.paths import TRANSFER
from collectiverl.collective.policy import Collective
from collectiverl.envs.registry import suite_of
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.plan import unfinished
from collectiverl.policies import load_collective, origin_of
from collectiverl.stages.base import Stage, summary
from collectiverl.stages.collective import take_collective_stage
from collectiverl.stages.evaluation import Evaluate, evaluate_stage
from collectiverl.stages.flags import Flat
from collectiverl.studies.table import write_table
from collectiverl.types import UserError

RESULT, PICTURE = "transfer.json", "transfer.png"
KNOWN, UNKNOWN = 0.9, 0.05  # success from which on a task is known, and below which it is unknown
CLASSES = ("known", "half-known", "unknown")


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Which collective plays which tasks, and how they are evaluated."""

    # name of a shipped one, or a run's folder
    collective: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="COLLECTIVE")]
    tasks: tuple[str, ...] = ()  # tasks or benchmarks; none: all of its suite that it was not trained for
    evaluate: Flat[EvaluateConfig] = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        paths.named_after(self.collective)

    @property
    def name(self) -> str:
        """The folder of the map is named after the collective."""
        return paths.named_after(self.collective)


@cache
def _loaded(collective: str) -> Collective:
    return load_collective(collective)


def unseen(settings: TransferConfig) -> tuple[str, ...]:
    """The tasks of the map.

    Raises:
        UserError: the collective was trained for all tasks of its suite, and none is named.
    """
    known = _loaded(settings.collective).tasks
    tasks = settings.tasks or tuple(task for task in suite_of(known[0]).tasks if task not in known)
    if not tasks:
        raise UserError(
            f"{settings.collective} was trained for all tasks of its suite: name some with --tasks"
        )
    return tasks


def stages(run: Path, config: RunConfig, settings: TransferConfig) -> list[Stage]:
    """The collective, copied, and an evaluation for each task."""
    return [_taken(settings), *_evaluations(config, settings)]


def _taken(settings: TransferConfig) -> Stage:
    return take_collective_stage(settings.collective, paths.mapped_collective(settings.name))


def _evaluations(config: RunConfig, settings: TransferConfig) -> Iterator[Stage[Evaluate]]:
    hidden = _loaded(settings.collective).goals_hidden
    how = replace(settings.evaluate, goals_hidden=hidden or settings.evaluate.goals_hidden)
    for task in unseen(settings):
        plays = Evaluate(
            kind="collective", policy=paths.mapped_collective(settings.name), task=task, evaluate=how
        )
        yield replace(evaluate_stage(plays, config.seed), out=paths.mapped_task(settings.name, task))


def summarize(run: Path, config: RunConfig, settings: TransferConfig) -> dict[str, Any]:
    """A row for each task that was played, the best first; written as `transfer.json`.

    The `class` of a task is `known`, `half-known` or `unknown`. `missing` are the tasks that are not done yet.
    """
    known = _loaded(settings.collective).tasks
    todo = {stage.out for stage in unfinished(run, stages(run, config, settings), overwrite=True)}
    every = list(_evaluations(config, settings))
    rows = [
        {**found, "new": found["task"] not in known, "class": class_of(found["success_any"])}
        for found in (summary(run / stage.out) for stage in every if stage.out not in todo)
    ]
    rows.sort(key=lambda row: (-row["success_any"], -row["success_last"], row["task"]))
    about = {
        "collective": settings.collective,
        "trained_for": list(known),
        "missing": [stage.config.task for stage in every if stage.out in todo],
        "made": sealed.now(),
        **origin_of(settings.collective),
    }
    return write_table(result_path(run, settings), rows, settings, **about)


def class_of(success: float) -> str:
    """What a collective without training knows of a task."""
    known, half_known, unknown = CLASSES
    if success >= KNOWN:
        return known
    return unknown if success < UNKNOWN else half_known


def result_path(run: Path, settings: TransferConfig) -> Path:
    """The picture lies beside it."""
    return run / TRANSFER / settings.name / RESULT
