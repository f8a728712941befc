"""How the collective shapes a student's reward: `r + w(t) * p` (SPEC, part 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl.collective.policy import Collective, conditioner, features
from collectiverl.envs.rollout import Step
from collectiverl.sac.agent import Agent
from collectiverl.types import AnyArray


@dataclass(frozen=True, kw_only=True)
class ShapingConfig:
    """Weight of the shaping over a student's life, in units of the environment's reward."""

    weight: float = 5.0  # at the start; 0 is plain SAC
    constant_steps: int = 20_000  # environment steps before the weight begins to fall
    decay_steps: int = 20_000  # environment steps from there to 0
    sigma_floor: float = 0.2  # a surer collective would make the likelihood vanish

    def __post_init__(self) -> None:
        if self.weight < 0 or self.constant_steps < 0 or self.decay_steps < 0:
            raise ValueError(
                f"shaping.weight={self.weight}, shaping.constant-steps={self.constant_steps} and "
                f"shaping.decay-steps={self.decay_steps} must not be negative"
            )
        if self.sigma_floor <= 0:
            raise ValueError(f"shaping.sigma-floor={self.sigma_floor} must be positive")


def likelihood(
    action: Float[Array, "A"], mean: Float[Array, "A"], std: Float[Array, "A"]
) -> Float[Array, ""]:
    """exp(-1/2 sum(((a - mean) / std)^2)), in (0, 1]: how much the action is what the collective would do."""
    return jnp.exp(-0.5 * jnp.sum(((action - mean) / std) ** 2))


def scheduled_weight(config: ShapingConfig, env_steps: int) -> float:
    """Constant, then linearly to 0."""
    if not config.decay_steps:
        return config.weight if env_steps < config.constant_steps else 0.0
    left = 1 - (env_steps - config.constant_steps) / config.decay_steps
    return config.weight * float(np.clip(left, 0, 1))


@eqx.filter_jit
def _bonus(
    agent: Agent,
    seen: Float[Array, "N F"],
    action: Float[AnyArray, "N A"],
    floor: float,
) -> Float[Array, "N"]:
    def one(f: Array, a: Array) -> Array:
        gaussian = agent.policy(f)
        return likelihood(a, gaussian.mode, jnp.maximum(jnp.exp(gaussian.log_std), floor))

    return jax.vmap(one)(seen, action)


class LikelihoodShaping:
    """Follows the student's own trajectories with the collective's eyes, and judges each of its actions."""

    def __init__(self, collective: Collective, tasks: Sequence[str], config: ShapingConfig):
        self.collective, self.config = collective, config
        self.conditioner = conditioner(collective, len(tasks), tasks)

    def bonus(self, step: Step) -> Float[np.ndarray, "N"]:
        """The likelihood of each environment's action."""
        z = self.conditioner.embed(step.obs)
        seen = features(self.collective.state_index, step.obs, z)
        self.conditioner.acted(step.action)
        self.conditioner.observe(step.result.reward)
        return np.asarray(_bonus(self.collective.agent, seen, step.action, self.config.sigma_floor))

    def weight(self, env_steps: int) -> float:
        return scheduled_weight(self.config, env_steps)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.conditioner.reset(env_mask)
