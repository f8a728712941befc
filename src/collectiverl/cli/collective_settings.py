"""The flags of the stages that lead from the experts to the collective."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import tyro

from collectiverl.artifacts import validation
from collectiverl.cli.options import RunOptions
from collectiverl.cli.stage_settings import SeededSettings, StageSettings, resolve_tasks
from collectiverl.envs.tasks import canonical, resolve
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages import collective, online, representation
from collectiverl.stages.base import Stage
from collectiverl.stages.flags import Flat, Task
from collectiverl.types import UserError

AUTO = "auto"  # the learner of the tasks' online distillation, if there is one


# -- buffers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SplitBuffer(SeededSettings):
    """Split an expert's sampled episodes into training and validation, by whole episode."""

    task: Task
    fraction: float  # of the episodes, for validation

    def __post_init__(self) -> None:
        super().__post_init__()
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

    # all tasks that were distilled together; none: those of the only online distillation that has this task
    together: tuple[str, ...] = ()

    def stage(self) -> Stage:
        run = self.run_config()
        together = resolve(self.together) or self._only(run)
        return plan.split_online_buffer(run, self.task, together, self.seed)

    def _only(self, run: RunConfig) -> tuple[str, ...]:
        """The tasks of the online distillation to split, or those of the one that is missing."""
        folder = self.options.folder
        found = [tasks for tasks in online.finished(folder, self.seed) if self.task in tasks]
        if len(found) > 1:
            listed = " or ".join(f"--together {' '.join(tasks)}" for tasks in found)
            raise UserError(
                f"{folder} has {len(found)} online distillations of {self.task}: say which one with {listed}"
            )
        return found[0] if found else run.tasks if self.task in run.tasks else (self.task,)


@dataclass(frozen=True, kw_only=True)
class OnlineDistill(SeededSettings):
    """Collect the episodes that the collective learns from, labelled by the experts.

    First the experts play, then a learner of all tasks, which learns from all episodes so far.
    """

    decided: ClassVar[tuple[str, ...]] = ("--updates", "--validation-every", "--critic.")  # of the collective
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
class TrainTransformer(SeededSettings):
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
class Probe(SeededSettings):
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
class DistillCollective(SeededSettings):
    """Distil all experts of the run into one policy."""

    config: Flat[collective.DistillCollective]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = collective.DistillCollective(
            tasks=(), learner=AUTO, goals_hidden=run.goals_hidden, collective=run.collective
        )
        return cls(options=options, seed=run.seed, config=config)

    def resolved(self) -> Self:
        """Without --learner: that of the tasks' online distillation, if they were distilled together."""
        tasks = resolve_tasks(self.config.tasks or self.options.base().tasks)
        learner = self.config.learner
        if learner == AUTO:
            done = online.finished(self.options.folder, self.seed)
            alike = [found for found in done if set(found) == set(tasks)]
            learner = online.online_path(alike[0], self.seed) if alike else ""
        return replace(self, config=replace(self.config, tasks=tasks, learner=learner))

    def stage(self) -> Stage:
        return collective.distill_collective_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class TakeCollective(StageSettings):
    """Copy a collective that comes with the package, or another run's, into this run, for its students."""

    # name of a shipped collective, or a run's folder
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = "mt10"
    decided: ClassVar[tuple[str, ...]] = ("--config", "--threads")  # nothing is computed

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options)

    def stage(self) -> Stage:
        return collective.take_collective_stage(self.source)
