"""The rounds of online distillation: who plays which episodes, and the teachers' labels for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from collectiverl.artifacts.validation import MOST_ENVS, MOST_EPISODES, MOST_STEPS, at_least, at_most, between
from collectiverl.collective.playing import (
    NEVER,
    Alternating,
    NoisyActions,
    PerTaskPolicy,
    play_together,
)
from collectiverl.collective.policy import Collective, CollectivePolicy
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import RandomPolicy
from collectiverl.types import ConfigError, EnvSpec, Episode, Policy, TeachingPolicy

PLAY, RANDOM, MIX, LIMIT, NOISE = 0, 4, 1, 2, 3  # streams of random numbers
DEVIATION = 0.5  # standard deviation of the noise in experts' episodes
# share of the stretches in which the teacher acts: in the first learner round, and later
FIRST_SHARE, SHARE = 0.5, 0.3
WHOLE = 0.2  # share of the episodes that `after_success` does not end


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """How `online_buffer` is collected."""

    random_episodes: int = 0  # episodes of random actions per task
    expert_episodes: int = 16  # episodes of the teacher per task, before the learner's rounds
    noisy: float = 0.5  # share of the experts' episodes whose actions carry noise; their labels never do
    learner_rounds: int = 7  # rounds of DAgger
    learner_episodes: int = 16  # episodes per task and round, on average
    taught: float = 0.5  # share of episodes in which the teacher acts at times; first learner round: all
    horizon: int | None = 200  # steps of an episode, at most; None: the environment's own limit
    # steps after its first success until an episode ends, for 4 episodes of 5; None: no episode ends early
    after_success: int | None = None
    first_updates: int = 130  # updates of the learner on the experts' episodes
    round_updates: int = 130  # updates of the learner while a round is played
    num_envs: int = 500  # environments alive at once, at most; each plays one episode

    def __post_init__(self) -> None:
        at_least(self, 0, "random_episodes", "learner_rounds", "after_success")
        at_least(
            self,
            1,
            "expert_episodes",
            "learner_episodes",
            "horizon",
            "first_updates",
            "round_updates",
            "num_envs",
        )
        at_most(self, MOST_ENVS, "num_envs", "learner_rounds")
        at_most(self, MOST_EPISODES, "random_episodes", "expert_episodes", "learner_episodes")
        at_most(self, MOST_STEPS, "horizon", "after_success")
        between(self, 0, 1, "noisy", "taught")
        if self.expert_episodes < 2:
            raise ConfigError("expert_episodes", "at least 2, since one in five is kept for validation")


@runtime_checkable
class Tell(Protocol):
    """Reports the progress of a round."""

    def __call__(self, note: str) -> None: ...


@dataclass(frozen=True)
class Rounds:
    """Plays labelled episodes of all tasks of the teachers, with fresh goals; a function of its seed.

    Args:
        make_envs: makes a number of environments of a task, whose goals the teachers see.
        untold: share of the learner's episodes in which it sees no rewards.
    """

    make_envs: Callable[[str, int], VectorEnv]
    teachers: Mapping[str, TeachingPolicy]
    config: OnlineConfig
    spec: EnvSpec
    seed: int
    untold: float
    tell: Tell

    def of_teachers(self) -> list[Episode]:
        """Random episodes, then the teachers', some with noise."""

        def random(tasks: Sequence[str], seed: int) -> Policy:
            return RandomPolicy(self.spec.action_dim, seed, self.spec.obs_dim)

        def teach(tasks: Sequence[str], seed: int) -> Policy:
            noisy = np.random.default_rng([seed, NOISE]).random(len(tasks)) < self.config.noisy
            teachers = PerTaskPolicy(self.teachers, tasks, self.spec)
            return NoisyActions(teachers, np.where(noisy, DEVIATION, 0.0), seed)

        c = self.config
        played = self._play("random", dict.fromkeys(self.teachers, c.random_episodes), random, 0)
        return played + self._play("expert", dict.fromkeys(self.teachers, c.expert_episodes), teach, 0)

    def of_learner(self, learner: Collective, wanted: Mapping[str, int], number: int) -> list[Episode]:
        """Round `number` (from 1) of a learner, `wanted` episodes per task; at times the teacher acts."""
        first = number == 1  # it cannot do much yet

        def policy(tasks: Sequence[str], seed: int) -> Policy:
            rng = np.random.default_rng([seed, MIX])
            some = rng.random(len(tasks)) < (1.0 if first else self.config.taught)
            share = np.where(some, FIRST_SHARE if first else SHARE, 0.0)
            told = rng.random(len(tasks)) >= self.untold
            teacher = PerTaskPolicy(self.teachers, tasks, self.spec)
            return Alternating(CollectivePolicy(learner, tasks), teacher, share, told, seed)

        return self._play("learner", wanted, policy, number)

    def _play(
        self,
        phase: str,
        wanted: Mapping[str, int],
        policy: Callable[[Sequence[str], int], Policy],
        number: int,
    ) -> list[Episode]:
        """Ordered by task. All episodes of a round carry one seed, by which they are split."""
        stream = RANDOM if phase == "random" else PLAY
        seed = int(np.random.SeedSequence([self.seed, number, stream]).generate_state(1)[0] >> 1)
        parts = play_together(
            self.make_envs,
            wanted,
            self.config.num_envs,
            policy,
            phase=phase,
            seed=seed,
            after_success=self._limits,
        )
        played: list[Episode] = []
        for part in parts:
            played += [self._labelled(replace(e, seed=seed)) for e in part]
            self.tell(f"{phase}: {len(played)} of {sum(wanted.values())} episodes")
        order = list(self.teachers)
        return sorted(played, key=lambda e: order.index(e.task))

    def _limits(self, num_envs: int, seed: int) -> Int[np.ndarray, "N"]:
        """Steps that each episode goes on after its first success."""
        whole = np.random.default_rng([seed, LIMIT]).random(num_envs) < WHOLE
        limit = NEVER if self.config.after_success is None else self.config.after_success
        return np.where(whole, NEVER, limit)

    def _labelled(self, e: Episode) -> Episode:
        return replace(e, labels=self.teachers[e.task].label(e.obs[:-1], e.action))
