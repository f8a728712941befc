"""What each command takes: flags, their defaults from a run, and the stage that they stand for."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from collectiverl.artifacts.sealed import is_sealed
from collectiverl.cli.options import RunOptions
from collectiverl.collective.online import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.envs.make import Backend
from collectiverl.envs.tasks import canonical, resolve
from collectiverl.pipeline import plan
from collectiverl.pipeline.plan import RunConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.sac.settings import TrainConfig
from collectiverl.stages import buffers, collective, experts, online, representation, students
from collectiverl.stages.base import Stage
from collectiverl.student.finetune import FinetuningConfig
from collectiverl.student.strategies import StrategyConfig
from collectiverl.types import UserError

Task = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
Tasks = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
Flat = tyro.conf.arg(name="")  # nested settings without the prefix of the field that holds them


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """A command that does one stage of a run."""

    options: Annotated[RunOptions, Flat] = field(default_factory=RunOptions)

    @staticmethod
    @abstractmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        """What the run's settings say of this command's flags."""

    @abstractmethod
    def stage(self, run: RunConfig) -> Stage:
        """The stage these flags stand for."""


@dataclass(frozen=True, kw_only=True)
class TrainTask(Command):
    """Train one SAC expert. Samples of how it learned stay beside it, for the trajectory transformer."""

    task: Task  # such as reach, reach-v3 or toy-reach
    steps: Annotated[int | None, tyro.conf.Positional] = None  # environment steps, at most
    seed: int = 0
    backend: Backend = "auto"
    demos: str | None = (
        None  # such as scripted:20, half of every batch; "": none; None: as the run's settings say
    )
    train: Annotated[TrainConfig, Flat] = field(default_factory=TrainConfig)

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {"seed": run.seed, "backend": run.backend, "train": run.expert}

    def stage(self, run: RunConfig) -> Stage:
        train = self.train if self.steps is None else replace(self.train, steps=self.steps)
        task = canonical(self.task)
        demos = run.demos_of(task) if self.demos is None else self.demos
        config = experts.TrainTask(task=task, backend=self.backend, demos=demos, train=train)
        return experts.train_task_stage(config, self.seed)


@dataclass(frozen=True, kw_only=True)
class OnlineDistill(Command):
    """Collect what the collective learns from: random actions, a learner labelled by the expert, the expert."""

    tasks: Tasks  # one, or several to be distilled at once
    seed: int = 0
    teacher: online.TeacherKind = "sac"  # the run's experts, or Meta-World's scripted policies
    backend: Backend = "auto"
    fraction: float = 0.2  # of each round's episodes, held out; as in the split of what comes out
    online: Annotated[OnlineConfig, Flat] = field(default_factory=OnlineConfig)

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {
            "seed": run.seed,
            "teacher": run.teacher,
            "backend": run.backend,
            "fraction": run.validation_fraction,
            "online": run.online,
        }

    def stage(self, run: RunConfig) -> Stage:
        run = replace(run, tasks=resolve_tasks(self.tasks), online=self.online)
        config = replace(
            plan.online_distill(run), teacher=self.teacher, backend=self.backend, fraction=self.fraction
        )
        return online.online_distill_stage(config, self.seed)


@dataclass(frozen=True, kw_only=True)
class SplitBuffer(Command):
    """Split an expert's sampled episodes into training and validation, by whole episode."""

    task: Task
    seed: int = 0
    fraction: float = 0.2  # of the episodes, for validation

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {"seed": run.seed, "fraction": run.validation_fraction}

    def stage(self, run: RunConfig) -> Stage:
        return plan.split_buffer(
            replace(run, validation_fraction=self.fraction), canonical(self.task), self.seed
        )


@dataclass(frozen=True, kw_only=True)
class SplitOnlineBuffer(SplitBuffer):
    """Split the episodes of online distillation into training and validation, by whole episode and phase."""

    together: tuple[
        str, ...
    ] = ()  # all tasks of its online-distill; none: it alone, or else those of the run

    def stage(self, run: RunConfig) -> Stage:
        task = canonical(self.task)
        alone = is_sealed(self.options.folder / online.online_path((task,), self.seed))
        together = resolve(self.together) if self.together else (task,) if alone else run.tasks
        run = replace(run, validation_fraction=self.fraction)
        return plan.split_online_buffer(run, task, together, self.seed)


@dataclass(frozen=True, kw_only=True)
class TrainTransformer(Command):
    """Train the trajectory transformer on all `buffer_distill` of the run, self-supervised."""

    tasks: tuple[str, ...] = ()  # tasks or benchmarks; none: those of the run
    seed: int = 0
    transformer: Annotated[TransformerConfig, Flat] = field(default_factory=TransformerConfig)

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {"seed": run.seed, "transformer": run.transformer}

    def stage(self, run: RunConfig) -> Stage:
        config = representation.TrainTransformer(
            tasks=resolve_tasks(self.tasks or run.tasks), transformer=self.transformer
        )
        return representation.train_transformer_stage(config, self.seed)


@dataclass(frozen=True, kw_only=True)
class Probe(Command):
    """Judge the trajectory transformer on held-out episodes: probes, clusterings, reconstruction, pictures."""

    tasks: tuple[str, ...] = ()  # tasks or benchmarks; none: those of the run
    seed: int = 0
    encoder: str = (
        ""  # the run's folder that holds it; "": refreshed on what these tasks' learner met, if it was
    )
    buffer: buffers.BufferKind = "online_buffer"  # whose episodes: what a learner met, or what experts left

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {"seed": run.seed}

    def stage(self, run: RunConfig) -> Stage:
        tasks = resolve_tasks(self.tasks or run.tasks)
        encoder = self.encoder or _encoder(self.options.folder, replace(run, tasks=tasks, seed=self.seed))
        config = representation.Probe(tasks=tasks, encoder=encoder, buffer=self.buffer)
        return representation.probe_stage(config, self.seed)


@dataclass(frozen=True, kw_only=True)
class DistillCollective(Command):
    """Distil all experts of the run into one policy, conditioned on what the transformer reads."""

    tasks: tuple[str, ...] = ()  # tasks or benchmarks; none: those of the run
    seed: int = 0
    encoder: str = (
        ""  # the run's folder that holds it; "": refreshed on what these tasks' learner met, if it was
    )
    collective: Annotated[CollectiveConfig, Flat] = field(default_factory=CollectiveConfig)

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {"seed": run.seed, "collective": run.collective}

    def stage(self, run: RunConfig) -> Stage:
        tasks = resolve_tasks(self.tasks or run.tasks)
        encoder = self.encoder or _encoder(self.options.folder, replace(run, tasks=tasks, seed=self.seed))
        config = collective.DistillCollective(tasks=tasks, encoder=encoder, collective=self.collective)
        return collective.distill_collective_stage(config, self.seed)


@dataclass(frozen=True, kw_only=True)
class TakeCollective(Command):
    """Take a collective that comes with the package, or another run's, as this run's own: for its students."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = (
        "mt10"  # or a run's folder
    )

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {}

    def stage(self, run: RunConfig) -> Stage:
        return collective.take_collective_stage(self.source)


@dataclass(frozen=True, kw_only=True)
class TrainStudent(Command):
    """Train a student on one task with the help of the collective; --strategy.use none is plain SAC."""

    task: Task
    steps: Annotated[int | None, tyro.conf.Positional] = None  # environment steps, at most
    seed: int = 1
    backend: Backend = "auto"
    train: Annotated[TrainConfig, Flat] = field(default_factory=TrainConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {"seed": run.seed + 1, "backend": run.backend, "train": run.student, "strategy": run.strategy}

    def stage(self, run: RunConfig) -> Stage:
        train = self.train if self.steps is None else replace(self.train, steps=self.steps)
        config = students.TrainStudent(
            task=canonical(self.task), backend=self.backend, train=train, strategy=self.strategy.active
        )
        return students.train_student_stage(config, self.seed)


@dataclass(frozen=True, kw_only=True)
class FinetuneStudent(Command):
    """Go on with SAC on the collective's own networks, on one task."""

    task: Task
    steps: Annotated[int | None, tyro.conf.Positional] = None  # environment steps, at most
    seed: int = 1
    backend: Backend = "auto"
    train: Annotated[TrainConfig, Flat] = field(default_factory=TrainConfig)
    finetuning: FinetuningConfig = field(default_factory=FinetuningConfig)

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {"seed": run.seed + 1, "backend": run.backend, "train": run.student}

    def stage(self, run: RunConfig) -> Stage:
        train = self.train if self.steps is None else replace(self.train, steps=self.steps)
        config = students.FinetuneStudent(
            task=canonical(self.task), backend=self.backend, train=train, finetuning=self.finetuning
        )
        return students.finetune_student_stage(config, self.seed)


@dataclass(frozen=True, kw_only=True)
class Record(Command):
    """Record episodes of a random or scripted policy, or of both, labelled by the scripted one."""

    task: Task
    seed: int = 0
    episodes: int = 20
    policy: Literal["random", "scripted", "mixed", "mixed-skill"] = "scripted"
    num_envs: int = 5
    horizon: int | None = None  # steps of an episode, at most; None: the environment's own limit
    backend: Backend = "auto"

    @staticmethod
    def defaults(run: RunConfig) -> dict[str, Any]:
        return {"seed": run.seed, "backend": run.backend}

    def stage(self, run: RunConfig) -> Stage:
        config = experts.Record(
            task=canonical(self.task),
            policy=self.policy,
            episodes=self.episodes,
            num_envs=self.num_envs,
            horizon=self.horizon,
            backend=self.backend,
        )
        return experts.record_stage(config, self.seed)


STAGES: dict[str, type[Command]] = {
    "train-task": TrainTask,
    "split-buffer": SplitBuffer,
    "train-transformer": TrainTransformer,
    "probe": Probe,
    "online-distill": OnlineDistill,
    "split-online-buffer": SplitOnlineBuffer,
    "distill-collective": DistillCollective,
    "take-collective": TakeCollective,
    "train-student": TrainStudent,
    "finetune-student": FinetuneStudent,
    "record": Record,
}


def _encoder(folder: Path, run: RunConfig) -> str:
    """The refreshed encoder of a run, or that of its first training where its tasks were not distilled together."""
    return run.encoder if is_sealed(folder / run.encoder) else representation.TRANSFORMER


def resolve_tasks(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks that these names stand for.

    Raises:
        UserError: none is named, or one is unknown.
    """
    if not names:
        raise UserError("name at least one task, such as reach, or a benchmark such as MT10")
    return resolve(names)
