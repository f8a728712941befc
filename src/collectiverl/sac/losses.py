"""The losses of soft actor-critic (Haarnoja et al. 2018b), and imitation, for one transition; the caller maps them.

`q` are the values of the twin critics. `tests/test_sac_against_sb3.py` compares the losses with Stable-Baselines3's.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def td_target(
    reward: Float[Array, ""],
    discount: Float[Array, ""],
    next_q: Float[Array, "2"],
    next_log_prob: Float[Array, ""],
    alpha: Float[Array, ""],
) -> Float[Array, ""]:
    """Soft bootstrapped return; `discount` is gamma^n, and 0 only at a termination (Pardo et al. 2018)."""
    return reward + discount * (jnp.min(next_q) - alpha * next_log_prob)


def critic_loss(q: Float[Array, "2"], target: Float[Array, ""]) -> Float[Array, ""]:
    """Half the squared error, summed over the twins."""
    return 0.5 * jnp.sum((q - target) ** 2)


def actor_loss(q: Float[Array, "2"], log_prob: Float[Array, ""], alpha: Float[Array, ""]) -> Float[Array, ""]:
    """The negative value with entropy regularisation."""
    return alpha * log_prob - jnp.min(q)


def temperature_loss(
    log_alpha: Float[Array, ""], log_prob: Float[Array, ""], target_entropy: float
) -> Float[Array, ""]:
    """Minimised, it raises the temperature while the entropy is below the target, and lowers it above."""
    return -log_alpha * (log_prob + target_entropy)


def imitation(action: Float[Array, "A"], advice: Float[Array, "A"]) -> Float[Array, ""]:
    """Squared distance of a deterministic action from the advised one."""
    return jnp.sum((action - advice) ** 2)


def advice_is_better(q_advice: Float[Array, "2"], q_own: Float[Array, "2"]) -> Float[Array, ""]:
    """1 where the critics give more for the advised action than for the actor's mode, else 0 (Nair et al. 2018)."""
    return (jnp.min(q_advice) > jnp.min(q_own)).astype(q_own.dtype)
