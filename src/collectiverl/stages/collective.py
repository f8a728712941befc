"""`distill-collective`: from all `online_buffer` and the encoder to the policy that knows all tasks.

And `take-collective`, for students of one that was made elsewhere.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collectiverl.artifacts import sealed
from collectiverl.artifacts.paths import COLLECTIVE, ONLINE_BUFFER, SUMMARY
from collectiverl.collective.dataset import played
from collectiverl.collective.policy import ABOUT, WEIGHTS, load_collective, save_collective
from collectiverl.collective.train import CollectiveConfig, distillation
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.make import spec
from collectiverl.policies import shipped
from collectiverl.representation.encoder import load_encoder
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import buffer_inputs, open_buffers
from collectiverl.stages.flags import Flat
from collectiverl.stages.representation import encoder_input
from collectiverl.types import UserError


@dataclass(frozen=True, kw_only=True)
class DistillCollective:
    """The collective of a run."""

    tasks: tuple[str, ...]  # tasks or benchmarks; none: those of the run
    encoder: str  # its folder in the run; "": the refreshed encoder of these tasks, or else the first one
    collective: Flat[CollectiveConfig] = field(default_factory=CollectiveConfig)


def distill_collective_stage(config: DistillCollective, seed: int) -> Stage[DistillCollective]:
    inputs = buffer_inputs(ONLINE_BUFFER, config.tasks, seed)
    return Stage(
        kind="distill-collective",
        subject=f"{len(config.tasks)} tasks",
        out=COLLECTIVE,
        function=distill_collective,
        config=config,
        inputs=inputs | encoder_input(config.encoder) if config.collective.reads else inputs,
        seed=seed,
    )


def distill_collective(work: Work[DistillCollective]) -> dict[str, Any]:
    config = work.config
    c, shapes = config.collective, spec(config.tasks[0])
    buffers = open_buffers(work.run, ONLINE_BUFFER, config.tasks, work.seed)
    training, held_out = map(EpisodeTable.join, buffers)
    held_out = played(held_out)
    encoder, encoder_config = load_encoder(work.run / config.encoder) if c.reads else (None, None)
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


def take_collective_stage(source: str, out: str = COLLECTIVE) -> Stage[TakeCollective]:
    """`source`: a run's folder, a collective's, or a name such as mt10.

    Raises:
        UserError: there is none.
    """
    folder = _found(source)
    config = TakeCollective(source=str(source), identity=sealed.identity(folder))
    return Stage(kind="take-collective", subject=source, out=out, function=take_collective, config=config)


def _found(source: str) -> Path:
    folder = shipped(source) or Path(source)
    folder = folder / COLLECTIVE if sealed.is_sealed(folder / COLLECTIVE) else folder
    if not sealed.is_sealed(folder) or not (folder / ABOUT).is_file():
        raise UserError(
            f"there is no collective at {source}: name one that comes with the package, such as mt10, "
            "or the folder of a run that has one ('collectiverl run --until collective' makes it)"
        )
    return folder


def take_collective(work: Work[TakeCollective]) -> dict[str, Any]:
    folder = _found(work.config.source)
    collective, *_ = load_collective(folder)
    for name in (WEIGHTS, ABOUT):
        shutil.copy(folder / name, work.folder / name)
    about = sealed.read_json(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}
    return about | {"tasks": list(collective.tasks)}
