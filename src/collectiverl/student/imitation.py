"""`imitation`: a loss that keeps the student's actor near the collective's actions, with a weight that decays.

Kickstarting (Schmitt et al. 2018) in the form of TD3+BC (Fujimoto & Gu 2021): the actor's loss gains
`w(t) mean|Q| |tanh mu(s) - mu_c(s, z)|^2` in the states of each batch (`sac.updates.update_actor`).
"""

from dataclasses import dataclass

from collectiverl.sac.help import Weights
from collectiverl.student.schedule import LinearDecay
from collectiverl.student.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class ImitationConfig(LinearDecay):
    """A loss that keeps the actor near the collective's actions; its weight is relative to the mean absolute Q."""

    weight: float = 1.0  # at the start; 0: no imitation
    constant_steps: int = 4_000  # environment steps before the weight begins to fall
    decay_steps: int = 8_000  # environment steps from there until the weight is 0


class Imitation(Strategy):
    def __init__(self, config: ImitationConfig):
        self.config = config

    def weights(self, env_steps: int, trust: float) -> Weights:
        return Weights(imitation=trust * self.config.at(env_steps))
