"""`likelihood`: a bonus for actions that are likely under the collective's policy, `r + w(t) p(a | s, z)`."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collectiverl.artifacts.validation import positive
from collectiverl.sac.help import MentorOutput, Weights
from collectiverl.student.schedule import LinearDecay
from collectiverl.student.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class LikelihoodConfig(LinearDecay):
    """A bonus for actions that are likely under the collective; its weight is in units of the reward."""

    weight: float = 5.0  # at the start; 0: no bonus
    sigma_floor: float = 0.2  # least standard deviation used; with smaller ones most likelihoods vanish

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "sigma_floor")


def likelihood(
    action: Float[Array, "*N A"], mean: Float[Array, "*N A"], std: Float[Array, "*N A"]
) -> Float[Array, "*N"]:
    """exp(-1/2 sum(((a - mean) / std)^2)), in (0, 1]: 1 where the action is the collective's own."""
    return jnp.exp(-0.5 * jnp.sum(((action - mean) / std) ** 2, axis=-1))


class Likelihood(Strategy):
    def __init__(self, config: LikelihoodConfig):
        self.config = config

    def bonus(self, action: Float[np.ndarray, "N A"], output: MentorOutput) -> Float[np.ndarray, "N"]:
        std = np.maximum(np.exp(output.log_std), self.config.sigma_floor)
        return np.asarray(likelihood(jnp.asarray(action), jnp.asarray(output.mean), jnp.asarray(std)))

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        return Weights(bonus=self.config.at(env_steps))
