"""Distillation losses for one labelled step; the caller maps them. `types.Labels` says what labels are."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from collectiverl.nn.gaussian import Gaussian, kl

ATANH_LIMIT = 0.999  # a teacher's mean of exactly 1 is an infinite mean before tanh
SMOOTH = 1e-3  # squared error below which the absolute error is smooth
# of the log-std error beside that of the mean, as in the public repository
# argator18/A-transformer-based-collective-learning-framework-for-scalable-knowledge-accumulation-and-transfer
LOG_STD_WEIGHT = 0.2


def distill_mse(student: Gaussian, mean: Float[Array, "A"], log_std: Float[Array, "A"]) -> Float[Array, ""]:
    """Squared error of the action-space mean and, weighted, of the log-std.

    Where the teacher's deviation is small (log-std below -2), its exact log-std matters little. The weight
    2 / max(2, -log_std) falls there.
    """
    certainty = 2 / jnp.maximum(2, -log_std)
    mean_error = (student.mode - mean) ** 2
    log_std_error = (student.log_std - log_std) ** 2
    return jnp.mean(mean_error + LOG_STD_WEIGHT * certainty * log_std_error)


def distill_kl(student: Gaussian, mean: Float[Array, "A"], log_std: Float[Array, "A"]) -> Float[Array, ""]:
    """KL(teacher || student) of the Gaussians before tanh; log-stds are bounded by the actor's own bounds."""
    teacher = Gaussian(jnp.arctanh(jnp.clip(mean, -ATANH_LIMIT, ATANH_LIMIT)), log_std)
    return kl(teacher, student)


def absolute_error(student: Gaussian, mean: Float[Array, "A"]) -> Float[Array, ""]:
    """Absolute error of the action-space mean, smooth at 0: its gradient does not fade near the label."""
    return jnp.mean(jnp.sqrt((student.mode - mean) ** 2 + SMOOTH))


def critic_regression(q: Float[Array, "2"], teacher_q: Float[Array, ""]) -> Float[Array, ""]:
    """Squared error of both critics against the teacher's Q-value of the stored action."""
    return jnp.mean((q - teacher_q) ** 2)
