"""`distill-collective`: from all `online_buffer` and the encoder to the policy that knows all tasks.

And `take-collective`, for students of one that was made elsewhere.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collectiverl.artifacts import sealed
from collectiverl.collective.dataset import played
from collectiverl.collective.policy import ABOUT, WEIGHTS, load_collective, save_collective
from collectiverl.collective.train import CollectiveConfig, distillation
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.make import spec
from collectiverl.policies import RUN_COLLECTIVE, shipped
from collectiverl.stages.base import SUMMARY, Stage, Work
from collectiverl.stages.buffers import open_buffers, split_path
from collectiverl.stages.representation import TRANSFORMER, encoder_of, maker_of
from collectiverl.types import UserError

COLLECTIVE = "model_col"


@dataclass(frozen=True, kw_only=True)
class DistillCollective:
    """The collective of a run."""

    tasks: tuple[str, ...]
    encoder: str = TRANSFORMER  # the run's folder that holds it
    collective: CollectiveConfig = field(default_factory=CollectiveConfig)


def distill_collective_stage(config: DistillCollective, seed: int) -> Stage:
    buffers = tuple(split_path("online_buffer", task, seed) for task in config.tasks)
    makes = {path: f"split-online-buffer {task}" for path, task in zip(buffers, config.tasks, strict=True)}
    return Stage(
        "distill-collective",
        f"{len(config.tasks)} tasks",
        COLLECTIVE,
        distill_collective,
        config,
        (*buffers, config.encoder) if config.collective.reads else buffers,
        seed,
        makes | {config.encoder: maker_of(config.encoder)},
    )


def distill_collective(work: Work) -> dict[str, Any]:
    config: DistillCollective = work.config
    c, shapes = config.collective, spec(config.tasks[0])
    buffers = open_buffers(work.run, "online_buffer", config.tasks, work.seed)
    training, held_out = map(EpisodeTable.join, buffers)
    held_out = played(held_out)
    encoder, encoder_config = encoder_of(work.run, config.encoder) if c.reads else (None, None)
    learning = distillation(training, held_out, encoder, c, shapes, seed=work.seed, report=work.report)
    save_collective(work.folder, learning.run(work.folder), c.sac, encoder_config)
    return {
        "tasks": list(config.tasks),
        "episodes": len(training) + len(held_out),
        "validation_loss": learning.best,
    }


# -- a collective from elsewhere ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TakeCollective:
    """A collective from elsewhere: of another run, or one that comes with the package."""

    source: str
    identity: str  # of its files


def take_collective_stage(source: str, out: str = COLLECTIVE) -> Stage:
    """`source`: a run's folder, a collective's, or a name such as mt10.

    Raises:
        UserError: there is none.
    """
    folder = _found(source)
    config = TakeCollective(source=str(source), identity=sealed.identity(folder))
    return Stage("take-collective", source, out, take_collective, config)


def _found(source: str) -> Path:
    folder = shipped(source) or Path(source)
    folder = folder / RUN_COLLECTIVE if sealed.is_sealed(folder / RUN_COLLECTIVE) else folder
    if not sealed.is_sealed(folder) or not (folder / ABOUT).is_file():
        raise UserError(
            f"there is no collective at {source}: name one that comes with the package, such as mt10, "
            "or the folder of a run that has one ('collectiverl run --until collective' makes it)"
        )
    return folder


def take_collective(work: Work) -> dict[str, Any]:
    config: TakeCollective = work.config
    folder = _found(config.source)
    collective, *_ = load_collective(folder)
    for name in (WEIGHTS, ABOUT):
        shutil.copy(folder / name, work.folder / name)
    about = sealed.read_json(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}
    return about | {"tasks": list(collective.tasks)}
