"""`jump-start`: the collective acts the first steps of an episode, fewer and fewer (Uchendu et al. 2023).

The number grows with the index of the environment: in the first one the collective never acts, in the last one it
acts longest. The student thus learns both after the collective's first steps and after its own.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from collectiverl.artifacts.validation import at_least
from collectiverl.student.strategy import StepContext, Strategy


@dataclass(frozen=True, kw_only=True)
class JumpStartConfig:
    """The collective acts the first steps of an episode, fewer and fewer."""

    steps: int = 200  # first steps of an episode, in the environment where the collective acts longest
    decay_steps: int = 20_000  # environment steps until the collective no longer acts

    def __post_init__(self) -> None:
        at_least(self, 0, "steps", "decay_steps")


class JumpStart(Strategy):
    follows: ClassVar[bool] = True

    def __init__(self, config: JumpStartConfig):
        self.config = config

    def act(self, own: Float[np.ndarray, "N A"], context: StepContext) -> Float[np.ndarray, "N A"]:
        if context.env_steps >= self.config.decay_steps:
            return own
        longest = self.config.steps * (1 - context.env_steps / self.config.decay_steps)
        shares = np.linspace(0, 1, len(own)) if len(own) > 1 else np.ones(1)
        collective_acts = context.age < longest * shares
        return np.where(collective_acts[:, None], context.output.mean, own)
