"""What all supervised training here shares: the losses, the optimiser, gradient steps and drawing batches.

Batches are a function of the seed and the number of the update, so that a resumed training equals an uninterrupted one.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeVar, cast

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from collectiverl.collective import losses
from collectiverl.nn.gaussian import Gaussian

DistillLoss = Literal["mse", "kl"]
LOSSES: dict[str, Callable[[Gaussian, Array, Array], Array]] = {
    "mse": losses.distill_mse,
    "kl": losses.distill_kl,
}
M = TypeVar("M")  # a module, or a tuple of them


@cache  # one object per setting, so that `descend` compiles once
def optimizer(learning_rate: float, updates: int) -> optax.GradientTransformation:
    """Adam; its learning rate falls to zero along a cosine, so that the last updates are small."""
    schedule = optax.cosine_decay_schedule(learning_rate, updates)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


@eqx.filter_jit
def descend(
    module: M,
    opt_state: optax.OptState,
    batches: Any,
    loss: Callable[[M, Any, Any], Float[Array, ""]],
    opt: optax.GradientTransformation,
    constants: Any = None,
) -> tuple[M, optax.OptState, Float[Array, ""]]:
    """One gradient step per batch along the leading axis of `batches`; returns the mean loss.

    `constants` are passed to the loss; they get no gradient.
    """
    arrays, static = eqx.partition(module, eqx.is_inexact_array)

    def body(carry, batch):
        arrays, opt_state = carry
        value, grads = jax.value_and_grad(lambda a: loss(eqx.combine(a, static), batch, constants))(arrays)
        updates, opt_state = opt.update(grads, opt_state, arrays)
        return (optax.apply_updates(arrays, updates), opt_state), value

    (arrays, opt_state), values = jax.lax.scan(body, (arrays, opt_state), batches)
    return cast(M, eqx.combine(arrays, static)), opt_state, values.mean()


def draw(seed: int, step: int, shape: tuple[int, int], size: int) -> Int[np.ndarray, "U B"]:
    """Uniform indices below `size`; a function of seed and step alone."""
    return np.random.default_rng([seed, step]).integers(0, size, shape)
