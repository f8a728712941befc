"""What a strategy may do for a student; each strategy has a module of its own beside this one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.rollout import Step
from collectiverl.sac.help import MentorOutput, Weights
from collectiverl.student.mentor import Mentor, MentorContext


class StepContext(NamedTuple):
    """What a strategy knows when actions are chosen."""

    output: MentorOutput  # the collective's, at the latest observations
    age: Int[np.ndarray, "N"]  # steps that the running episodes have lasted
    env_steps: int  # of training


class Strategy:
    """The base class, which does nothing. A strategy overrides one of these methods, or several."""

    # whether it follows the collective's actions: these harm where the collective never succeeds
    follows: ClassVar[bool] = False

    def act(self, own: Float[np.ndarray, "N A"], context: StepContext) -> Float[np.ndarray, "N A"]:
        """The actions that are taken, where the student's would be `own`."""
        return own

    def bonus(self, action: Float[np.ndarray, "N A"], output: MentorOutput) -> Float[np.ndarray, "N"]:
        """The reward for these actions, before it is weighted."""
        return np.zeros(len(action), np.float32)

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        """As in `sac.help.Help`."""
        return Weights()


@dataclass(frozen=True)
class Guidance:
    """The `Help` of one collective, through one strategy or several: their weights and bonuses add up.

    The collective follows the student's trajectories, whoever acts, so that every strategy uses the same `z`.
    """

    mentor: Mentor
    strategies: tuple[Strategy, ...]

    def without_following(self) -> "Guidance":
        """The same help without the strategies that follow the collective's actions."""
        return replace(self, strategies=tuple(s for s in self.strategies if not s.follows))

    def begin(self, tasks: Sequence[str]) -> MentorContext:
        return self.mentor.begin(tasks)

    def reset(self, context: MentorContext, env_mask: Bool[np.ndarray, "N"]) -> MentorContext:
        return self.mentor.reset(context, env_mask)

    def predict(
        self, context: MentorContext, obs: Float[np.ndarray, "N O"]
    ) -> tuple[MentorContext, MentorOutput]:
        return self.mentor.predict(context, obs)

    def act(
        self, own: Float[np.ndarray, "N A"], output: MentorOutput, context: MentorContext, env_steps: int
    ) -> Float[np.ndarray, "N A"]:
        at_step = StepContext(output, context.age, env_steps)
        for strategy in self.strategies:
            own = strategy.act(own, at_step)
        return own

    def bonus(self, step: Step, output: MentorOutput) -> Float[np.ndarray, "N"]:
        return sum(
            (strategy.bonus(step.action, output) for strategy in self.strategies),
            start=np.zeros(len(step.action), np.float32),
        )

    def observe(self, context: MentorContext, step: Step) -> MentorContext:
        return self.mentor.observe(context, step)

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        parts = [strategy.weights(env_steps, acting=acting) for strategy in self.strategies]
        return Weights(*(sum(column) for column in zip(Weights(), *parts, strict=True)))
