"""`online-distill`: what a learner of all tasks visits, labelled by the experts; and the encoder refreshed on it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from collectiverl.collective.online import EncoderTraining, OnlineConfig, OnlineDistillation
from collectiverl.data.episodes import write
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.tasks import benchmark_of
from collectiverl.representation.encoder import save_encoder
from collectiverl.representation.train import TransformerConfig
from collectiverl.sac.policy import load_expert
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import BUFFER, open_buffers, split_path
from collectiverl.stages.experts import model_path
from collectiverl.stages.representation import TRANSFORMER, encoder_of
from collectiverl.types import TeachingPolicy

TeacherKind = Literal["sac", "scripted"]
LONGEST = 60  # characters of a folder's name; more tasks than fit get a digest


@dataclass(frozen=True, kw_only=True)
class OnlineDistill:
    """Stage 2 for one task or several at once."""

    tasks: tuple[str, ...]
    teacher: TeacherKind = "sac"
    backend: Backend = "auto"
    fraction: float = 0.2  # of each round's episodes, held out; as in the split of what comes out
    online: OnlineConfig = field(default_factory=OnlineConfig)
    transformer: TransformerConfig | None = None  # how the encoder is refreshed

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ValueError(f"--fraction={self.fraction} is not between 0 and 1")
        if self.online.reads and self.online.refresh:
            _ = self.refresh  # which says what does not fit

    @property
    def refresh(self) -> TransformerConfig:
        """The settings of the encoder's first training, but for how long."""
        if self.transformer is None:
            raise ValueError(f"--conditioning={self.online.conditioning}: say how its encoder is refreshed")
        return self.transformer.lasting(self.online.refresh)


def together(tasks: Sequence[str]) -> str:
    """A short name of these tasks."""
    name = benchmark_of(tasks) or "+".join(tasks)
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name) <= LONGEST else f"{len(tasks)}_tasks_{digest}"


def online_path(tasks: Sequence[str], seed: int) -> str:
    return f"online_distill/{together(tasks)}/seed_{seed}"


def online_distill_stage(config: OnlineDistill, seed: int) -> Stage:
    makes = {
        model_path(t, seed): f"train-task {t} (or pass --teacher scripted)"
        for t in (config.tasks if config.teacher == "sac" else ())
    }
    if config.online.reads:
        makes[TRANSFORMER] = "train-transformer (or pass --conditioning task_id)"
        makes |= {split_path("buffer_distill", t, seed): f"split-buffer {t}" for t in config.tasks}
    return Stage(
        "online-distill",
        " ".join(config.tasks) if len(config.tasks) < 4 else f"{len(config.tasks)} tasks",
        online_path(config.tasks, seed),
        online_distill,
        config,
        tuple(makes),
        seed,
        makes,
    )


def online_distill(work: Work) -> dict[str, Any]:
    config: OnlineDistill = work.config
    encoder_training, encoder_config = None, None
    if config.online.reads:
        buffers = open_buffers(work.run, "buffer_distill", config.tasks, work.seed)
        encoder, encoder_config = encoder_of(work.run)
        encoder_training = EncoderTraining(encoder, config.refresh, *buffers)
    distillation = OnlineDistillation(
        partial(make_envs, backend=config.backend, goals="fresh", horizon=config.online.horizon),
        teachers(work.run, config.tasks, config.teacher, work.seed),
        config.online,
        spec(config.tasks[0]),
        seed=work.seed,
        held_out=config.fraction,
        encoder_training=encoder_training,
        report=work.report,
    )
    collected = distillation.run(work.folder)
    for task in config.tasks:
        write(work.folder / task / BUFFER, (e for e in collected if e.task == task))
    if distillation.encoder is not None and encoder_config is not None:
        save_encoder(work.folder, distillation.encoder, encoder_config)
    return {
        "tasks": list(config.tasks),
        "episodes": len(collected),
        "env_steps": sum(len(e) for e in collected),
        "last_round": distillation.success,
    }


def teachers(run: Path, tasks: Sequence[str], kind: TeacherKind, seed: int) -> dict[str, TeachingPolicy]:
    if kind == "scripted":
        return {task: ScriptedPolicy((task,)) for task in tasks}
    return {task: load_expert(run / model_path(task, seed)) for task in tasks}
