"""The flags of the commands that do one stage: the stage's own config, with defaults from the run."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Generic, Self, TypeVar

import tyro

from collectiverl.artifacts import validation
from collectiverl.artifacts.sealed import is_sealed
from collectiverl.cli.options import RunOptions
from collectiverl.cli.settings import RunSettings
from collectiverl.envs.tasks import canonical, resolve
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages import collective, experts, online, recording, representation, students
from collectiverl.stages.base import Stage
from collectiverl.stages.flags import Flat, Task
from collectiverl.types import UserError

C = TypeVar("C")  # the config of the stage
STEPS = tyro.conf.arg(metavar="[STEPS]")
WHERE_THERE_IS_ONE = "auto"


@dataclass(frozen=True, kw_only=True)
class StageSettings(RunSettings):
    """The flags of a command that does one stage of a run."""

    @abstractmethod
    def stage(self) -> Stage:
        """The stage that these flags stand for."""


@dataclass(frozen=True, kw_only=True)
class Seeded(StageSettings):
    """The flags of a stage that depends on random numbers."""

    seed: int = 0  # of all random numbers


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a policy is trained."""

    # environment steps, at most; the same as --steps
    steps: Annotated[int | None, tyro.conf.Positional, STEPS] = None


@dataclass(frozen=True, kw_only=True)
class Training(Seeded, Generic[C]):
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
class TrainTask(Training[experts.TrainTask]):
    """Train one SAC expert. Samples of its training episodes are kept beside it, for the trajectory transformer."""

    config: Flat[experts.TrainTask]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = experts.TrainTask(task=tyro.MISSING, backend=run.backend, train=run.expert)
        return cls(options=options, seed=run.seed, config=config)

    def resolved(self) -> Self:
        named = super().resolved()
        demos = named.config.demos
        if demos is None:
            demos = self.options.base().resolved().demos_of(named.config.task)
        return replace(named, config=replace(named.config, demos=demos))

    def stage(self) -> Stage:
        return experts.train_task_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class TrainStudent(Training[students.TrainStudent]):
    """Train a student on one task with the help of the collective; --strategy.use none is plain SAC."""

    config: Flat[students.TrainStudent]

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


@dataclass(frozen=True, kw_only=True)
class FinetuneStudent(Training[students.FinetuneStudent]):
    """Continue SAC on the collective's own networks, in one task."""

    config: Flat[students.FinetuneStudent]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = students.FinetuneStudent(task=tyro.MISSING, backend=run.backend, train=run.student)
        return cls(options=options, seed=run.seed + 1, config=config)

    def stage(self) -> Stage:
        return students.finetune_student_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class Record(Seeded):
    """Record episodes of the random or the scripted policy, or of both, labelled by the scripted one."""

    config: Flat[recording.Record]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = recording.Record(task=tyro.MISSING, backend=run.backend)
        return cls(options=options, seed=run.seed, config=config)

    def resolved(self) -> Self:
        return replace(self, config=replace(self.config, task=canonical(self.config.task)))

    def stage(self) -> Stage:
        return recording.record_stage(self.config, self.seed)


# -- buffers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SplitBuffer(Seeded):
    """Split an expert's sampled episodes into training and validation, by whole episode."""

    task: Task
    fraction: float  # of the episodes, for validation

    def __post_init__(self) -> None:
        validation.fraction(self, "fraction")

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options, seed=run.seed, task=tyro.MISSING, fraction=run.validation_fraction)

    def resolved(self) -> Self:
        return replace(self, task=canonical(self.task))

    def run_config(self) -> RunConfig:
        """The run's settings with these flags."""
        return replace(self.options.base().resolved(), validation_fraction=self.fraction)

    def stage(self) -> Stage:
        return plan.split_buffer(self.run_config(), self.task, self.seed)


@dataclass(frozen=True, kw_only=True)
class SplitOnlineBuffer(SplitBuffer):
    """Split the episodes of online distillation into training and validation, by whole episode and phase."""

    together: tuple[
        str, ...
    ] = ()  # all tasks that were distilled together; none: the task alone, or the run's

    def stage(self) -> Stage:
        run = self.run_config()
        alone = is_sealed(self.options.folder / online.online_path((self.task,), self.seed))
        together = resolve(self.together) or ((self.task,) if alone else run.tasks)
        return plan.split_online_buffer(run, self.task, together, self.seed)


@dataclass(frozen=True, kw_only=True)
class OnlineDistill(Seeded):
    """Collect the episodes that the collective learns from, labelled by the experts.

    First random actions, then a learner of all tasks and the experts themselves.
    """

    config: Flat[online.OnlineDistill]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(
            options=options,
            seed=run.seed,
            config=replace(plan.online_distill(run), tasks=tyro.MISSING),
        )

    def resolved(self) -> Self:
        return replace(self, config=replace(self.config, tasks=resolve_tasks(self.config.tasks)))

    def stage(self) -> Stage:
        return online.online_distill_stage(self.config, self.seed)


# -- encoder and collective --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainTransformer(Seeded):
    """Train the trajectory transformer on all `buffer_distill` of the run, self-supervised."""

    config: Flat[representation.TrainTransformer]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = representation.TrainTransformer(tasks=(), transformer=run.transformer)
        return cls(options=options, seed=run.seed, config=config)

    def resolved(self) -> Self:
        tasks = resolve_tasks(self.config.tasks or self.options.base().tasks)
        return replace(self, config=replace(self.config, tasks=tasks))

    def stage(self) -> Stage:
        return representation.train_transformer_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class Probe(Seeded):
    """Judge an encoder on held-out episodes: probes, clusterings, reconstruction, pictures."""

    config: Flat[representation.Probe]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options, seed=run.seed, config=representation.Probe(tasks=()))

    def resolved(self) -> Self:
        tasks = resolve_tasks(self.config.tasks or self.options.base().tasks)
        return replace(self, config=replace(self.config, tasks=tasks))

    def stage(self) -> Stage:
        return representation.probe_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class DistillCollective(Seeded):
    """Distil all experts of the run into one policy."""

    config: Flat[collective.DistillCollective]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = replace(plan.distill_collective(run), tasks=(), learner=WHERE_THERE_IS_ONE)
        return cls(options=options, seed=run.seed, config=config)

    def resolved(self) -> Self:
        """Without --learner: that of the tasks' online distillation, if they were distilled together."""
        tasks = resolve_tasks(self.config.tasks or self.options.base().tasks)
        learner = self.config.learner
        if learner == WHERE_THERE_IS_ONE:
            together = online.online_path(tasks, self.seed)
            learner = together if is_sealed(self.options.folder / together) else ""
        return replace(self, config=replace(self.config, tasks=tasks, learner=learner))

    def stage(self) -> Stage:
        return collective.distill_collective_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class TakeCollective(StageSettings):
    """Copy a collective that comes with the package, or another run's, into this run, for its students."""

    # or a run's folder
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = "mt10"

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options)

    def stage(self) -> Stage:
        return collective.take_collective_stage(self.source)


def resolve_tasks(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks that these names stand for.

    Raises:
        UserError: none is named, or one is unknown.
    """
    if not names:
        raise UserError("name at least one task, such as reach, or a benchmark such as MT10")
    return resolve(names)
