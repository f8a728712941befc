"""`distill-collective`: from all `online_buffer` and the encoder to the policy that knows all tasks."""

from dataclasses import dataclass, field
from typing import Any

from collectiverl.collective.dataset import played
from collectiverl.collective.policy import save_collective
from collectiverl.collective.train import CollectiveConfig, distillation
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.make import spec
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import open_buffers, split_path
from collectiverl.stages.representation import TRANSFORMER, encoder_of, maker_of

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
