"""How the weight of a strategy falls: constant at first, then linearly to 0."""

from dataclasses import dataclass

import numpy as np

from collectiverl.artifacts.validation import at_least


@dataclass(frozen=True, kw_only=True)
class LinearDecay:
    """A weight over a student's training; times are in environment steps."""

    weight: float = 1.0  # at the start; 0: the strategy has no effect
    constant_steps: int = 20_000  # environment steps before the weight begins to fall
    decay_steps: int = 20_000  # environment steps from there until the weight is 0

    def __post_init__(self) -> None:
        at_least(self, 0, "weight", "constant_steps", "decay_steps")

    def at(self, env_steps: int) -> float:
        if not self.decay_steps:
            return self.weight if env_steps < self.constant_steps else 0.0
        left = 1 - (env_steps - self.constant_steps) / self.decay_steps
        return self.weight * float(np.clip(left, 0, 1))
