"""The flags of the stages of one task: experts and students."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Generic, Self, TypeVar

import tyro

from collectiverl.cli.options import RunOptions
from collectiverl.cli.stage_settings import SeededSettings
from collectiverl.envs.tasks import canonical, resolve
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages import experts, students
from collectiverl.stages.base import Stage
from collectiverl.stages.flags import Flat
from collectiverl.types import ConfigError

C = TypeVar("C")  # the config of the stage
NO_EFFECT = (
    "changes nothing, since the student begins with {}: --strategy.finetune.learning-rate is its rate "
    "(critic-learning-rate, of its critics), and with --strategy.use prior-data imitation it has networks of its own"
)
UNUSED_WARMUP = (
    "changes nothing, since the collective's episodes take its place (--strategy.prior-data.episodes)"
)
UNUSED_IMITATION = "changes nothing without demonstrations: pass --demos scripted:20, say"
STEPS = tyro.conf.arg(metavar="[STEPS]")


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a policy is trained."""

    # environment steps, at most; the same as --steps
    steps: Annotated[int | None, tyro.conf.Positional, STEPS] = None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(SeededSettings, Generic[C]):
    """The flags of a command that trains one policy in one task."""

    config: Flat[C]  # has `task` and `train`
    length: Flat[Length] = field(default_factory=Length)

    def resolved(self) -> Self:
        config: Any = self.config
        steps = config.train.steps if self.length.steps is None else self.length.steps
        changes = {"task": canonical(config.task), "train": replace(config.train, steps=steps)}
        return replace(self, config=replace(config, **changes))

    def positionals(self) -> dict[str, str]:
        return {} if self.length.steps is None else {"config.train.steps": "STEPS"}


@dataclass(frozen=True, kw_only=True)
class TrainTask(TrainingSettings[experts.TrainTask]):
    """Train one SAC expert. Samples of its training episodes are kept beside it, for the trajectory transformer."""

    config: Flat[experts.TrainTask]

    def __post_init__(self) -> None:
        super().__post_init__()
        # a preset's is for all of its tasks, also those without demonstrations
        preset = self.options.base().expert.demo_imitation
        if self.config.train.demo_imitation not in (None, preset) and not self.config.demos:
            raise ConfigError("config.train.demo_imitation", UNUSED_IMITATION)

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = experts.TrainTask(task=tyro.MISSING, backend=run.backend, train=run.expert)
        return cls(options=options, seed=run.seed, config=config)

    def resolved(self) -> Self:
        named, base = super().resolved(), self.options.base().resolved()
        config = named.config
        demos = base.demos_of(config.task) if config.demos is None else config.demos
        also = base.also_of(config.task)
        if config.also is not None:
            resolve((config.task, *config.also))  # raises if they are of two suites
            also = tuple(map(canonical, config.also)) or None
        return replace(named, config=replace(config, demos=demos, also=also))

    def stage(self) -> Stage:
        return experts.train_task_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class TrainStudent(TrainingSettings[students.TrainStudent]):
    """Train a student on one task with the help of the collective; --strategy.use none is plain SAC.

    By default it continues the collective's own networks (finetune).
    """

    config: Flat[students.TrainStudent]

    def __post_init__(self) -> None:
        super().__post_init__()
        strategy, train = self.config.strategy, self.config.train
        base = self.options.base().student
        if strategy and strategy.finetunes:
            for name in students.DECIDED:
                if getattr(train.sac, name) != getattr(base.sac, name):
                    raise ConfigError(
                        f"config.train.sac.{name}", NO_EFFECT.format("the collective's networks")
                    )
        if strategy and strategy.played_first and train.warmup != base.warmup:
            raise ConfigError("config.train.warmup", UNUSED_WARMUP)

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = students.TrainStudent(
            task=tyro.MISSING, backend=run.backend, train=run.student, strategy=run.strategy
        )
        return cls(options=options, seed=run.seed + 1, config=config)

    def stage(self) -> Stage:
        strategy = self.config.strategy
        config = replace(self.config, strategy=strategy.active if strategy else None)
        return students.train_student_stage(config, self.seed)
