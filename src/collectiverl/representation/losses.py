"""What the encoder learns from: masked reconstruction and InfoNCE, and two optional objectives.

All are pure; those that compare windows see the batch, the others one window.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from collectiverl.representation.tokens import Parts
from collectiverl.types import Window

Negatives = Literal["buffers", "all"]
MASKED, ZEROED, REPLACED = 0.15, 0.8, 0.1  # of the parts; of those masked; the rest is kept (Devlin et al. 2019)


def corrupt(
    window: Window, other: Window, key: PRNGKeyArray
) -> tuple[Window, Bool[Array, "3 L"]]:
    """The standardised window with some parts hidden, and where: rows are action, reward, state.

    A replaced part is that of the same place in `other`, another random sample.
    """
    k_where, k_how = jax.random.split(key)
    shape = (3, len(window.mask))
    places = (jax.random.uniform(k_where, shape) < MASKED) & window.mask
    how = jax.random.uniform(k_how, shape)

    def hide(part, others, row):
        across = [1] * (part.ndim - 1)
        zeroed = (places[row] & (how[row] < ZEROED)).reshape(-1, *across)
        replaced = (places[row] & (how[row] >= 1 - REPLACED)).reshape(-1, *across)
        return jnp.where(zeroed, 0, jnp.where(replaced, others, part))

    action = hide(window.action, other.action, 0)
    reward = hide(window.reward, other.reward, 1)
    state = hide(window.state, other.state, 2)
    return Window(state, action, reward, window.mask), places


def part_errors(guess: Parts, truth: Parts) -> Float[Array, "parts *batch L"]:
    """Mean squared error of each part at each place, in squared standard deviations."""
    return jnp.stack([jnp.mean((g - t) ** 2, axis=-1) for g, t in zip(guess, truth, strict=True)])


def masked_mean(values: Float[Array, "parts *shape"], places: Bool[Array, "parts *shape"]) -> Float[Array, "parts"]:
    """Mean over the places of each part; 0 where there is none."""
    axes = tuple(range(1, values.ndim))
    return jnp.sum(values * places, axis=axes) / jnp.maximum(jnp.sum(places, axis=axes), 1)


def info_nce(
    z: Float[Array, "2P Z"], buffer: Int[Array, "2P"], temperature: float, negatives: Negatives
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy of each window's positive among its negatives (van den Oord et al. 2018), and accuracy.

    Row i and row i + P are a pair. `buffers` counts windows of other buffers alone as negatives, `all` counts
    every other window.
    """
    count = len(z)
    unit = z * jax.lax.rsqrt(jnp.sum(z**2, axis=1, keepdims=True) + 1e-8)
    logits = unit @ unit.T / temperature
    itself = jnp.eye(count, dtype=bool)
    positive = jnp.roll(itself, count // 2, axis=1)
    apart = buffer[:, None] != buffer[None, :] if negatives == "buffers" else ~itself
    logits = jnp.where(apart | positive, logits, -jnp.inf)
    likeness = jnp.sum(jnp.where(positive, logits, 0), axis=1)
    loss = jnp.mean(jax.nn.logsumexp(logits, axis=1) - likeness)
    return loss, jnp.mean(likeness >= logits.max(axis=1))


def cross_entropy(logits: Float[Array, "classes"], label: Int[Array, ""]) -> Float[Array, ""]:
    return jax.nn.logsumexp(logits) - logits[label]


def spread(z: Float[Array, "batch Z"]) -> dict[str, Array]:
    """Signs of collapse: deviation of the entries (0 if all z agree), and dimensions in use (1 … Z)."""
    centred = z - z.mean(axis=0)
    covariance = centred.T @ centred / len(z)
    total = jnp.trace(covariance)
    return {
        "z/std": jnp.sqrt(jnp.diag(covariance)).mean(),
        "z/std_min": jnp.sqrt(jnp.diag(covariance)).min(),
        "z/dimensions": total**2 / (jnp.sum(covariance**2) + 1e-12),  # participation ratio
    }
