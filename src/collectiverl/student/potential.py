"""`potential`: the collective's value as a potential, `r + w (gamma V(s') - V(s))`.

It changes no optimal policy (Ng, Harada & Russell 1999), and is equivalent to initialising the critic with `w V`
(Wiewiora 2003). The replay stores V(s, z) beside each observation and forms the difference.
"""

from dataclasses import dataclass

from collectiverl.artifacts.validation import at_least
from collectiverl.sac.help import Weights
from collectiverl.student.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class PotentialConfig:
    """Potential-based shaping; the weight is constant, since one that decays would reward waiting."""

    weight: float = 1.0  # of the collective's value; 0: no shaping

    def __post_init__(self) -> None:
        at_least(self, 0, "weight")


class Potential(Strategy):
    def __init__(self, config: PotentialConfig):
        self.config = config

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        return Weights(potential=self.config.weight)
