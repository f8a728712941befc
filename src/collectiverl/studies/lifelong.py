"""`extend-collective`: lifelong learning, one task after another on top of a run's collective."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from collectiverl.artifacts import sealed
from collectiverl.artifacts.paths import COLLECTIVE
from collectiverl.collective.extension import ExtensionConfig
from collectiverl.collective.policy import load_collective
from collectiverl.envs.tasks import resolve
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages.base import Stage, seconds, summary
from collectiverl.stages.buffers import split_online_buffer_stage
from collectiverl.stages.extension import ExtendCollective, extend_collective_stage
from collectiverl.stages.flags import Flat, Tasks
from collectiverl.studies.table import write_table
from collectiverl.types import UserError

RESULT = "extensions.json"


@dataclass(frozen=True, kw_only=True)
class LifelongConfig:
    """Which tasks are added, and how each is learned."""

    tasks: Tasks  # all tasks to add to the run's own collective, in order
    extension: Flat[ExtensionConfig] = field(default_factory=ExtensionConfig)


def result_path(run: Path, settings: LifelongConfig) -> Path:
    return run / RESULT


def stages(run: Path, config: RunConfig, settings: LifelongConfig) -> list[Stage]:
    """For each task: its expert, the extension, and the buffer of its learner's episodes.

    Raises:
        UserError: the run has no collective, or it knows one of these tasks.
    """
    seed, fraction = config.seed, config.validation_fraction
    found: list[Stage] = []
    for extended in _extensions(run, config, settings):
        task = extended.config.task
        found += [
            *plan.experts(replace(config, tasks=(task,))),
            extended,
            split_online_buffer_stage(task, extended.out, f"extend-collective {task}", fraction, seed),
        ]
    return found


def _extensions(run: Path, config: RunConfig, settings: LifelongConfig) -> Iterator[Stage[ExtendCollective]]:
    """One stage per task, each on top of the one before."""
    if not sealed.is_sealed(run / COLLECTIVE):
        raise UserError(f"{run} has no collective yet: 'collectiverl run' makes one")
    first, sac, _ = load_collective(run / COLLECTIVE)
    tasks = resolve(settings.tasks)
    if again := [task for task in tasks if task in first.tasks]:
        raise UserError(f"the collective of {run} knows {', '.join(again)} already: name other tasks")
    base, known = COLLECTIVE, first.tasks
    for task in tasks:
        step = ExtendCollective(
            task=task,
            known=known,
            base=base,
            teacher=config.teacher,
            backend=config.backend,
            fraction=config.validation_fraction,
            online=config.online,
            collective=replace(config.collective, conditioning=first.conditioning.name, sac=sac),
            extension=settings.extension,
        )
        stage = extend_collective_stage(step, config.seed)
        yield stage
        base, known = stage.out, step.tasks


def summarize(run: Path, config: RunConfig, settings: LifelongConfig) -> dict[str, Any]:
    """One row for every extension, written as `extensions.json`."""
    rows = []
    for stage in _extensions(run, config, settings):
        out = run / stage.out
        rows.append({**summary(out), "folder": stage.out, "seconds": round(seconds(out), 1)})
    return write_table(result_path(run, settings), rows, settings)
