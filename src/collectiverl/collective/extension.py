"""Lifelong learning: one more task for a collective, from one more teacher, while the old tasks are rehearsed.

A learner that begins as the base plays the new task alone, labelled by its teacher, and is trained on the stored
episodes of the old tasks too (experience replay against forgetting: Robins 1995, Rolnick et al. 2019). Then actor and
critic are distilled once more from all that is stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from collectiverl.artifacts.checkpoints import part
from collectiverl.artifacts.metrics import Report, silent
from collectiverl.artifacts.paths import DISTILLATION
from collectiverl.artifacts.validation import MOST_EPISODES, at_least, at_most, fraction
from collectiverl.collective.online import OnlineDistillation, Rehearsal, Sides
from collectiverl.collective.policy import Collective
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.segments import played
from collectiverl.collective.train import CollectiveConfig, distil, unit_of
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.core import VectorEnv
from collectiverl.types import ConfigError, EnvSpec, Episode, TeachingPolicy, ValueUnit


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig:
    """How one more task is learned; all other settings are those of the run."""

    expert_episodes: int = 20  # episodes of the new task's teacher
    learner_rounds: int = 3  # rounds of DAgger, in the new task alone
    learner_episodes: int = 20  # episodes per round
    learner_updates: int = 150  # updates of the learner per round
    updates: int = 400  # of the actor, in the last distillation
    critic_updates: int = 500  # of the critic, after the actor's
    share: float = 0.3  # part of every batch for the new task; the old tasks get the rest
    rehearsed: float = 1.0  # part of the stored episodes of each old task that is rehearsed
    episodes: int = 50  # evaluation episodes per task, before and after

    def __post_init__(self) -> None:
        at_least(self, 1, "learner_rounds", "learner_episodes", "learner_updates", "updates", "episodes")
        at_least(self, 2, "expert_episodes")
        at_most(self, MOST_EPISODES, "expert_episodes", "learner_rounds", "learner_episodes", "episodes")
        at_least(self, 0, "critic_updates")
        fraction(self, "share")
        if not 0 < self.rehearsed <= 1:
            raise ConfigError("rehearsed", f"{self.rehearsed} is not in (0, 1]")


class Learning(NamedTuple):
    """Settings for one added task: the run's, with the episodes and updates of its extension."""

    online: OnlineConfig
    collective: CollectiveConfig
    share: float  # part of every batch for the new task
    rehearsed: float  # part of the stored episodes of each old task

    @classmethod
    def of(cls, extension: ExtensionConfig, online: OnlineConfig, collective: CollectiveConfig) -> "Learning":
        e = extension
        return cls(
            online=replace(
                online,
                random_episodes=0,
                expert_episodes=e.expert_episodes,
                learner_rounds=e.learner_rounds,
                learner_episodes=e.learner_episodes,
                first_updates=e.learner_updates,
                round_updates=e.learner_updates,
            ),
            collective=replace(
                collective, updates=e.updates, critic=replace(collective.critic, updates=e.critic_updates)
            ),
            share=e.share,
            rehearsed=e.rehearsed,
        )


class Extended(NamedTuple):
    """What adding a task gives."""

    collective: Collective
    collected: list[Episode]  # of the new task, labelled
    validation_loss: float
    unit: ValueUnit  # of its critic


def extend(
    base: Collective,
    teachers: Mapping[str, TeachingPolicy],
    stored: Sides,
    learning: Learning,
    make_envs: Callable[[str, int], VectorEnv],
    spec: EnvSpec,
    *,
    seed: int,
    held_out: float,
    work: Path | None = None,
    report: Report = silent,
) -> Extended:
    """The base collective, taught the tasks of `teachers` (usually one) while its own are rehearsed.

    Args:
        stored: labelled episodes of the old tasks, for training and for validation, one table per task.
        held_out: share of each round's episodes that `split` keeps for validation.
        work: rounds of the learner are checkpointed there.
    """
    wider = replace(base, tasks=(*base.tasks, *teachers))
    kept = [[_drawn(table, learning.rehearsed, seed) for table in side] for side in stored]
    online = OnlineDistillation(
        make_envs,
        teachers,
        learning.online,
        learning.collective,
        spec,
        seed=seed,
        held_out=held_out,
        goals_hidden=base.goals_hidden,
        rehearsal=Rehearsal(wider, *kept, share=learning.share),
        report=report,
    )
    collected = online.run(work)
    training, validation = map(EpisodeTable.join, online.sides())
    last, error = distil(
        online.collective,
        training,
        played(validation),
        learning.collective,
        seed=seed,
        emphasis={"emphasized": online.tasks, "share": learning.share},
        work=part(work, DISTILLATION),
        report=report,
    )
    return Extended(last, collected, error, unit_of(training, learning.collective))


def _drawn(table: EpisodeTable, share: float, seed: int) -> EpisodeTable:
    """A part of the episodes, at least one, drawn at random."""
    if share == 1:
        return table
    count = max(1, round(share * len(table)))
    drawn = np.random.default_rng(seed).choice(len(table), count, replace=False)
    return table.subset(sorted(drawn.tolist()))


def forgetting(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Success that each old task lost; negative where it gained (Lopez-Paz & Ranzato 2017, backward transfer)."""
    return {task: rate - after[task] for task, rate in before.items()}
