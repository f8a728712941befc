"""How help fades: constant for a while, then linearly to nothing (SPEC, part 3)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class LinearDecay:
    """A weight over a student's life; environment steps."""

    weight: float = 1.0  # at the start; 0: never
    constant_steps: int = 20_000  # before it begins to fall
    decay_steps: int = 20_000  # from there to 0

    def __post_init__(self) -> None:
        for name in ("weight", "constant_steps", "decay_steps"):
            if getattr(self, name) < 0:
                kind = type(self).__name__.removesuffix("Config").lower()
                raise ValueError(
                    f"{kind}.{name.replace('_', '-')}={getattr(self, name)} must not be negative"
                )

    def at(self, env_steps: int) -> float:
        if not self.decay_steps:
            return self.weight if env_steps < self.constant_steps else 0.0
        left = 1 - (env_steps - self.constant_steps) / self.decay_steps
        return self.weight * float(np.clip(left, 0, 1))
