"""`likelihood`: a bonus for doing what the collective would do, `r + w(t) p(a | s, z)` (SPEC, part 3)."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collectiverl.sac.settings import Weights
from collectiverl.student.mentor import MentorPrediction
from collectiverl.student.schedule import LinearDecay
from collectiverl.student.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class LikelihoodConfig(LinearDecay):
    """The weight, in units of the environment's reward."""

    weight: float = 5.0
    sigma_floor: float = 0.2  # a surer collective would make the likelihood vanish

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_floor <= 0:
            raise ValueError(f"strategy.likelihood.sigma-floor={self.sigma_floor} must be positive")


def likelihood(
    action: Float[Array, "*N A"], mean: Float[Array, "*N A"], std: Float[Array, "*N A"]
) -> Float[Array, "*N"]:
    """exp(-1/2 sum(((a - mean) / std)^2)), in (0, 1]: how much the action is what the collective would do."""
    return jnp.exp(-0.5 * jnp.sum(((action - mean) / std) ** 2, axis=-1))


class Likelihood(Strategy):
    def __init__(self, config: LikelihoodConfig):
        self.config = config

    def bonus(self, action: Float[np.ndarray, "N A"], view: MentorPrediction) -> Float[np.ndarray, "N"]:
        std = np.maximum(np.exp(view.log_std), self.config.sigma_floor)
        return np.asarray(likelihood(jnp.asarray(action), jnp.asarray(view.mean), jnp.asarray(std)))

    def weights(self, env_steps: int, trust: float) -> Weights:
        return Weights(bonus=self.config.at(env_steps))
