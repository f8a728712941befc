"""`imitation`: a loss that keeps the student's actor near the collective's actions where the student's critics agree.

Kickstarting (Schmitt et al. 2018) in the form of TD3+BC (Fujimoto & Gu 2021), with the filter of Nair et al. (2018),
CRR (Wang et al. 2020) and AWAC: in the states of each batch where `min Q(s, a_c) > min Q(s, tanh mu(s))`, the actor's
loss gains `w mean|Q| |tanh mu(s) - a_c|^2`, a_c the collective's action (`sac.updates.update_actor`). The weight is
constant: the filter ends the help state by state, as the student's actions become the better ones.
"""

from dataclasses import dataclass
from typing import ClassVar

from collectiverl.artifacts.validation import at_least
from collectiverl.sac.help import Weights
from collectiverl.student.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """A loss that keeps the actor near the collective's actions, where the critics prefer these to its own."""

    weight: float = 1.0  # relative to the mean absolute Q; 0: no imitation

    def __post_init__(self) -> None:
        at_least(self, 0, "weight")


class Imitation(Strategy):
    follows: ClassVar[bool] = True

    def __init__(self, config: ImitationConfig):
        self.config = config

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        """None before the student acts: critics that know nothing let bad advice through."""
        return Weights(imitation=self.config.weight if acting else 0.0)
