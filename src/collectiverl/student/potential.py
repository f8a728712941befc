"""`potential`: the collective's value as a potential, `r + w (gamma V(s') - V(s))`.

It changes no optimal policy (Ng, Harada & Russell 1999), and is the same as beginning with `w V` as the critic's
first guess (Wiewiora 2003). The replay keeps V(s, z) beside each observation and forms the difference.
"""

from dataclasses import dataclass

from collectiverl.sac.settings import Weights
from collectiverl.student.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class PotentialConfig:
    """Constant: a potential that fades would reward waiting."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"strategy.potential.weight={self.weight} must not be negative")


class Potential(Strategy):
    def __init__(self, config: PotentialConfig):
        self.config = config

    def weights(self, env_steps: int, trust: float) -> Weights:
        return Weights(potential=self.config.weight)
