"""`extend-collective`: lifelong learning, one task after another on top of a run's collective."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.collective.extension import ExtensionConfig
from collectiverl.collective.policy import load_collective
from collectiverl.pipeline import plan
from collectiverl.pipeline.plan import RunConfig
from collectiverl.stages.base import Stage, summary
from collectiverl.stages.buffers import split_online_buffer_stage
from collectiverl.stages.collective import COLLECTIVE
from collectiverl.stages.extension import ExtendCollective, extend_collective_stage
from collectiverl.types import UserError

RESULT = "extensions.json"


def stages(run: Path, config: RunConfig, extension: ExtensionConfig, tasks: Sequence[str]) -> list[Stage]:
    """Of each task in turn: its expert, that one's buffer, the extension, and what its learner met.

    `tasks` are the whole sequence, from the run's own collective on.

    Raises:
        UserError: the run has no collective, or it knows one of these tasks.
    """
    if not sealed.is_sealed(run / COLLECTIVE):
        raise UserError(f"{run} has no collective yet: 'collectiverl run' makes one")
    first, sac, encoder = load_collective(run / COLLECTIVE)
    if again := [task for task in tasks if task in first.tasks]:
        raise UserError(f"the collective of {run} knows {', '.join(again)} already: name other tasks")
    found: list[Stage] = []
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
            transformer=replace(config.transformer, encoder=encoder) if encoder else config.transformer,
            collective=replace(config.collective, conditioning=first.conditioning.name, sac=sac),
            extension=extension,
        )
        extended = extend_collective_stage(step, config.seed)
        found += [
            *plan.experts(replace(config, tasks=(task,))),
            plan.split_buffer(config, task, config.seed),
            extended,
            split_online_buffer_stage(
                task, extended.out, f"extend-collective {task}", config.validation_fraction, config.seed
            ),
        ]
        base, known = extended.out, step.tasks
    return found


def summarize(run: Path, every: Sequence[Stage], extension: ExtensionConfig) -> list[dict[str, Any]]:
    """One row for every extension, written as `extensions.json`."""
    rows = [_row(run, stage) for stage in every if stage.name == "extend-collective"]
    checkpoints.write_json(run / RESULT, {"rows": rows, "settings": sealed.to_jsonable(extension)})
    return rows


def _row(run: Path, stage: Stage) -> dict[str, Any]:
    seconds = sealed.manifest(run / stage.out)["seconds"]
    return {**summary(run / stage.out), "folder": stage.out, "seconds": round(seconds, 1)}
