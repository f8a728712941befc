"""What a strategy may do for a student. Each of the modules beside this one is one strategy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.rollout import Step
from collectiverl.sac.settings import MentorOutput, Weights
from collectiverl.student.mentor import Mentor, MentorPrediction


class StepContext(NamedTuple):
    """What a strategy knows when somebody is to act."""

    view: MentorPrediction
    age: Int[np.ndarray, "N"]  # steps that the running episodes have lasted
    env_steps: int
    trust: float  # in the collective


class Strategy:
    """Does nothing; a strategy does one of these things."""

    def act(self, own: Float[np.ndarray, "N A"], now: StepContext) -> Float[np.ndarray, "N A"]:
        """Who acts."""
        return own

    def bonus(self, action: Float[np.ndarray, "N A"], view: MentorPrediction) -> Float[np.ndarray, "N"]:
        return np.zeros(len(action), np.float32)

    def weights(self, env_steps: int, trust: float) -> Weights:
        return Weights()


class Guidance:
    """The `Help` of one collective, through one strategy or several: their weights and bonuses add up.

    The collective follows the student's trajectories, whoever acts, so that every strategy sees the same `z`.
    `trust`, from 0 to 1, is what the collective's own episodes in the student's task earned it, if it played any:
    what it does not know, it need not teach.
    """

    def __init__(self, mentor: Mentor, strategies: Sequence[Strategy], num_envs: int):
        self.mentor, self.strategies = mentor, tuple(strategies)
        self.trust = 1.0
        self.age = np.zeros(num_envs, np.int64)
        self.view: MentorPrediction

    def look(self, obs: Float[np.ndarray, "N O"]) -> MentorOutput:
        self.view = self.mentor.look(obs)
        return MentorOutput(potential=self.view.value, advice=self.view.mean)

    def act(self, own: Float[np.ndarray, "N A"], env_steps: int) -> Float[np.ndarray, "N A"]:
        now = StepContext(self.view, self.age, env_steps, self.trust)
        for strategy in self.strategies:
            own = strategy.act(own, now)
        return own

    def bonus(self, step: Step) -> Float[np.ndarray, "N"]:
        self.mentor.see(step.action, step.result.reward)
        self.age += 1
        return sum(
            (strategy.bonus(step.action, self.view) for strategy in self.strategies),
            start=np.zeros(len(step.action), np.float32),
        )

    def weights(self, env_steps: int) -> Weights:
        parts = [strategy.weights(env_steps, self.trust) for strategy in self.strategies]
        return Weights(*(sum(column) for column in zip(Weights(), *parts, strict=True)))

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.mentor.reset(env_mask)
        self.age[env_mask] = 0
