"""`jump-start`: the collective acts the first steps of an episode, fewer and fewer (Uchendu et al. 2023).

Environments differ in how many: in the last one the collective acts longest, in the first one never, so that the
student meets both what follows the collective's start and what follows its own.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from collectiverl.student.strategy import StepContext, Strategy


@dataclass(frozen=True, kw_only=True)
class JumpStartConfig:
    """How long the collective acts."""

    steps: int = 200  # of an episode, in the environment where it acts longest
    decay_steps: int = 20_000  # environment steps until it acts no more

    def __post_init__(self) -> None:
        if self.steps < 0 or self.decay_steps < 0:
            raise ValueError(
                f"strategy.jump-start: steps={self.steps} and decay-steps={self.decay_steps} must not be negative"
            )


class JumpStart(Strategy):
    def __init__(self, config: JumpStartConfig):
        self.config = config

    def act(self, own: Float[np.ndarray, "N A"], now: StepContext) -> Float[np.ndarray, "N A"]:
        if now.env_steps >= self.config.decay_steps:
            return own
        longest = now.trust * self.config.steps * (1 - now.env_steps / self.config.decay_steps)
        shares = np.linspace(0, 1, len(own)) if len(own) > 1 else np.ones(1)
        guided = now.age < longest * shares
        return np.where(guided[:, None], now.view.mean, own)
