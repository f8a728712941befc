"""`online-distill`: what a learner of all tasks visits, labelled by the experts; and the encoder refreshed on it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from collectiverl.artifacts import paths
from collectiverl.artifacts.paths import DISTILL_BUFFER, EPISODES, TRANSFORMER
from collectiverl.artifacts.validation import fraction
from collectiverl.collective.online import EncoderTraining, OnlineConfig, OnlineDistillation
from collectiverl.data.episodes import write
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.tasks import benchmark_of
from collectiverl.representation.encoder import load_encoder, save_encoder
from collectiverl.representation.train import TransformerConfig
from collectiverl.sac.policy import load_expert
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import buffer_inputs, open_buffers
from collectiverl.stages.flags import Derived, Flat, Tasks
from collectiverl.types import ConfigError, TeachingPolicy

TeacherKind = Literal["sac", "scripted"]
LONGEST = 60  # characters of a folder's name; more tasks than fit get a digest


@dataclass(frozen=True, kw_only=True)
class OnlineDistill:
    """Online distillation of one task, or of several at once."""

    tasks: Tasks
    teacher: TeacherKind = "sac"  # who labels: the run's experts, or Meta-World's scripted policies
    backend: Backend = "auto"  # simulator; auto: EnvPool where it agrees with Meta-World
    fraction: float  # of each round's episodes, held out for validation
    online: Flat[OnlineConfig] = field(default_factory=OnlineConfig)
    transformer: Derived[TransformerConfig | None] = None  # how the encoder is trained on

    def __post_init__(self) -> None:
        fraction(self, "fraction")
        if self.online.reads and self.online.refresh:
            _ = self.refresh  # raises if the settings do not fit

    @property
    def refresh(self) -> TransformerConfig:
        """The settings of the encoder's first training, for as many updates as a refresh has."""
        if self.transformer is None:
            raise ConfigError("transformer", "is missing: it says how the learner's encoder is refreshed")
        return self.transformer.lasting(self.online.refresh)


def name_of(tasks: Sequence[str]) -> str:
    """A short name of these tasks, for a folder."""
    name = benchmark_of(tasks) or "+".join(tasks)
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name) <= LONGEST else f"{len(tasks)}_tasks_{digest}"


def online_path(tasks: Sequence[str], seed: int) -> str:
    """The folder of the online distillation of these tasks."""
    return paths.online_distill(name_of(tasks), seed)


def online_distill_stage(config: OnlineDistill, seed: int) -> Stage[OnlineDistill]:
    inputs = {
        paths.expert(t, seed): f"train-task {t} (or pass --teacher scripted)"
        for t in (config.tasks if config.teacher == "sac" else ())
    }
    if config.online.reads:
        inputs[TRANSFORMER] = "train-transformer (or pass --conditioning task_id)"
        inputs |= buffer_inputs(DISTILL_BUFFER, config.tasks, seed)
    return Stage(
        kind="online-distill",
        subject=" ".join(config.tasks) if len(config.tasks) < 4 else f"{len(config.tasks)} tasks",
        out=online_path(config.tasks, seed),
        function=online_distill,
        config=config,
        inputs=inputs,
        seed=seed,
    )


def online_distill(work: Work[OnlineDistill]) -> dict[str, Any]:
    config = work.config
    encoder_training, encoder_config = None, None
    if config.online.reads:
        buffers = open_buffers(work.run, DISTILL_BUFFER, config.tasks, work.seed)
        encoder, encoder_config = load_encoder(work.run / TRANSFORMER)
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
        write(work.folder / task / EPISODES, (e for e in collected if e.task == task))
    if distillation.encoder is not None and encoder_config is not None:
        save_encoder(work.folder, distillation.encoder, encoder_config)
    return {
        "tasks": list(config.tasks),
        "episodes": len(collected),
        "env_steps": sum(len(e) for e in collected),
        "last_round": distillation.success,
    }


def teachers(run: Path, tasks: Sequence[str], kind: TeacherKind, seed: int) -> dict[str, TeachingPolicy]:
    """The policy that labels each task."""
    if kind == "scripted":
        return {task: ScriptedPolicy((task,)) for task in tasks}
    return {task: load_expert(run / paths.expert(task, seed)) for task in tasks}
