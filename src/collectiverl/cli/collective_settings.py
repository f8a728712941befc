"""The flags of the stages that lead from the experts to the collective."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import tyro

from collectiverl.artifacts import validation
from collectiverl.artifacts.paths import DISTILL_BUFFER, ONLINE_BUFFER
from collectiverl.cli.options import RunOptions
from collectiverl.cli.stage_settings import (
    SeededSettings,
    StageSettings,
    resolve_tasks,
    tasks_or_those_of_run,
)
from collectiverl.envs.tasks import canonical, resolve
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages import collective, cross_play, online, representation
from collectiverl.stages.base import Stage
from collectiverl.stages.flags import Flat, Task
from collectiverl.types import UserError

AUTO = "auto"  # the learner of these tasks' online distillation, if there is one of the same kind


# -- buffers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SplitBuffer(SeededSettings):
    """Split an expert's sampled episodes into training and validation, by whole episode."""

    task: Task  # a name such as push, or your own as package.module:name
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
class CrossPlay(SeededSettings):
    """Let experts of tasks that begin alike play each other's tasks, and choose who labels them.

    One that plays another's task as well as that task's own may label both, so that teachers do not contradict each
    other where nobody can tell the tasks apart. online-distill --agreed and run --agreed go by it.
    """

    config: Flat[cross_play.CrossPlay]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options, seed=run.seed, config=replace(plan.cross_play(run), tasks=tyro.MISSING))

    def resolved(self) -> Self:
        return replace(self, config=replace(self.config, tasks=resolve_tasks(self.config.tasks)))

    def stage(self) -> Stage:
        return cross_play.cross_play_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class OnlineDistill(SeededSettings):
    """Collect the episodes that the collective learns from, labelled by the experts.

    First the experts play. Then one learner plays all tasks that are named, and learns from all episodes so far. By
    default the learner has an encoder of its own (--conditioning own) and needs no trajectory transformer.
    """

    decided: ClassVar[tuple[str, ...]] = ("--updates", "--validation-every", "--critic.")  # of the collective
    config: Flat[online.OnlineDistill]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = plan.online_distill(run)
        learner = replace(config.collective, conditioning="own")
        return cls(
            options=options, seed=run.seed, config=replace(config, tasks=tyro.MISSING, collective=learner)
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
        return cls(options=options, seed=run.seed, config=replace(plan.train_transformer(run), tasks=()))

    def resolved(self) -> Self:
        tasks = tasks_or_those_of_run(self.config.tasks, self.options, DISTILL_BUFFER, self.seed)
        return replace(self, config=replace(self.config, tasks=tasks))

    def stage(self) -> Stage:
        return representation.train_transformer_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class Probe(SeededSettings):
    """Measure how well an encoder tells tasks apart, on held-out episodes: probes, clusters, pictures."""

    config: Flat[representation.Probe]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options, seed=run.seed, config=representation.Probe(tasks=()))

    def resolved(self) -> Self:
        tasks = tasks_or_those_of_run(self.config.tasks, self.options, self.config.buffer, self.seed)
        return replace(self, config=replace(self.config, tasks=tasks))

    def stage(self) -> Stage:
        return representation.probe_stage(self.config, self.seed)


@dataclass(frozen=True, kw_only=True)
class DistillCollective(SeededSettings):
    """Distil all experts of the run into one policy.

    It begins from the learner of the tasks' online distillation. If the tasks were distilled one at a time, no learner
    has played all of them. The collective then begins from random weights, and the updates that such a learner would
    have made are added to its own (--fresh-updates). By default it has an encoder of its own (--conditioning own) and
    needs no trajectory transformer.
    """

    config: Flat[collective.DistillCollective]
    fresh_updates: int  # of the actor, added to --updates, if it begins from random weights

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.at_least(self, 0, "fresh_updates")

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        config = collective.DistillCollective(
            tasks=(), learner=AUTO, goals_hidden=run.goals_hidden, collective=run.collective
        )
        of_learner = run.online.first_updates + run.online.learner_rounds * run.online.round_updates
        return cls(options=options, seed=run.seed, config=config, fresh_updates=of_learner)

    def resolved(self) -> Self:
        c = self.config
        tasks = tasks_or_those_of_run(c.tasks, self.options, ONLINE_BUFFER, self.seed)
        learner = c.learner
        if learner == AUTO:
            kind = c.collective.conditioning, c.goals_hidden
            learner = online.joint_learner(self.options.folder, tasks, self.seed, *kind)
        return replace(self, config=replace(c, tasks=tasks, learner=learner))

    def stage(self) -> Stage:
        c = self.config
        updates = c.collective.updates + (0 if c.learner else self.fresh_updates)
        made = replace(c, collective=replace(c.collective, updates=updates))
        return collective.distill_collective_stage(made, self.seed)


@dataclass(frozen=True, kw_only=True)
class TakeCollective(StageSettings):
    """Copy a collective that comes with the package, or another run's, into this run, for its students."""

    # name of a collective that comes with the package, or a run's folder
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = "mt10"
    decided: ClassVar[tuple[str, ...]] = ("--config", "--threads")  # nothing is computed

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options)

    def stage(self) -> Stage:
        return collective.take_collective_stage(self.source)
