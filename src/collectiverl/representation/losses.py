"""What the encoder learns from: masked reconstruction and InfoNCE, and two optional objectives.

All are pure; those that compare windows see the batch, the others one window.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from collectiverl.representation.scales import Standard
from collectiverl.representation.tokens import Parts

Negatives = Literal["buffers", "all"]
MASKED, ZEROED, REPLACED = (
    0.15,
    0.8,
    0.1,
)  # of the parts; of those masked; the rest is kept (Devlin et al. 2019)
SPAN = 5  # steps that are masked together: a single one could be copied from the step before
FAR = -1e9  # a logit that counts for nothing; minus infinity would make gradients of nothing at all


def corrupt(
    window: Standard, other: Standard, key: PRNGKeyArray
) -> tuple[Standard, Bool[Array, "3 L *batch"]]:
    """Windows with some parts hidden, and where: rows are action, reward, state.

    Each part is hidden in spans, all of a window in one way. A replaced part is that of the same place in `other`,
    another random sample. Changes from and to a masked part are hidden with it. A reward that is unknown is not masked.
    """
    k_where, k_how = jax.random.split(key)
    length, *batch = window.mask.shape
    how = jax.random.uniform(k_how, (3, 1, *batch))
    places = spans(k_where, (3, length, *batch)) & there(window)

    def hide(part: Float[Array, "L *batch _"], others: Float[Array, "L *batch _"], row: int):
        zeroed, replaced = places[row] & (how[row] < ZEROED), places[row] & (how[row] >= 1 - REPLACED)
        return jnp.where(zeroed[..., None], 0, jnp.where(replaced[..., None], others, part))

    _, reward_kept, state_kept = (~places & ~jnp.roll(places, 1, axis=1))[..., None]
    hidden = window._replace(
        action=hide(window.action, other.action, 0),
        reward=hide(window.reward, other.reward, 1),
        reward_change=jnp.where(reward_kept, window.reward_change, 0),
        state=hide(window.state, other.state, 2),
        change=jnp.where(state_kept, window.change, 0),
        difference=jnp.where(~places[2][..., None], window.difference, 0),
    )
    return hidden, places


def there(window: Standard) -> Bool[Array, "3 L *batch"]:
    """Where a window has an action, a known reward, a state."""
    return jnp.stack([window.mask, window.known[..., 0] > 0, window.mask])


def spans(key: PRNGKeyArray, shape: tuple[int, ...]) -> Bool[Array, "3 L *batch"]:
    """Random places along axis 1, `SPAN` steps or more at a time; a share of `MASKED` in all."""
    parts, length, *batch = shape
    begins = jax.random.uniform(key, (parts, length + SPAN - 1, *batch)) < 1 - (1 - MASKED) ** (1 / SPAN)
    covered = [begins[:, i : i + length] for i in range(SPAN)]
    return jnp.any(jnp.stack(covered), axis=0)


def copied(truth: Parts, window: Standard, places: Bool[Array, "3 L *batch"]) -> Parts:
    """Each part as it was at the last step that is not masked: what reconstruction has to beat.

    It is zero, which is the mean, where there is no such step.
    """
    step = jnp.arange(window.mask.shape[0]).reshape(-1, *[1] * (window.mask.ndim - 1))
    latest = jax.lax.cummax(jnp.where(there(window) & ~places, step, -1), axis=1)

    def copy(part: Float[Array, "L *batch _"], at: Array) -> Float[Array, "L *batch _"]:
        return jnp.where(at >= 0, jnp.take_along_axis(part, jnp.maximum(at, 0), axis=0), 0)

    return tuple(copy(part, latest[row][..., None]) for part, row in zip(truth, rows_of(truth), strict=True))


def rows_of(truth: Parts) -> tuple[int, ...]:
    """Which rows of `places` these parts have: without rewards, action and state."""
    return (0, 1, 2) if len(truth) == 3 else (0, 2)


def part_errors(guess: Parts, truth: Parts) -> Float[Array, "parts L *batch"]:
    """Mean squared error of each part at each place, in squared standard deviations."""
    return jnp.stack([jnp.mean((g - t) ** 2, axis=-1) for g, t in zip(guess, truth, strict=True)])


def reconstruction_errors(
    guess: Parts, truth: Parts, places: Bool[Array, "3 L batch"]
) -> Float[Array, "parts"]:
    """Error of each part of a batch, averaged over its masked places; 0 where there is none."""
    chosen = places[jnp.asarray(rows_of(truth))]
    errors = part_errors(guess, truth)
    return jnp.sum(errors * chosen, axis=(1, 2)) / jnp.maximum(jnp.sum(chosen, axis=(1, 2)), 1)


def info_nce(
    z: Float[Array, "B Z"],
    positive: Bool[Array, "B B"],
    buffer: Int[Array, "B"],
    temperature: float,
    negatives: Negatives,
) -> Float[Array, ""]:
    """Cross-entropy of finding a window's positive among its negatives (van den Oord et al. 2018).

    Averaged over all pairs in `positive`. `buffers` counts windows of other buffers alone as negatives, `all`
    counts every window but the anchor.
    """
    unit = z * jax.lax.rsqrt(jnp.sum(z**2, axis=1, keepdims=True) + 1e-8)
    logits = unit @ unit.T / temperature
    itself = jnp.eye(len(z), dtype=bool)
    competing = buffer[:, None] != buffer[None, :] if negatives == "buffers" else ~itself
    rest = jax.nn.logsumexp(jnp.where(competing, logits, FAR), axis=1, keepdims=True)
    against = jnp.logaddexp(rest, logits) if negatives == "buffers" else rest  # `all` has the positive in it
    return jnp.sum(positive * (against - logits)) / jnp.maximum(positive.sum(), 1)


def cross_entropy(logits: Float[Array, "classes"], label: Int[Array, ""]) -> Float[Array, ""]:
    return jax.nn.logsumexp(logits) - logits[label]


def spread(z: Float[Array, "batch Z"]) -> dict[str, Array]:
    """Signs of collapse: deviation of the entries (0 if all z agree), and dimensions in use (1 … Z)."""
    centred = z - z.mean(axis=0, keepdims=True)
    covariance = centred.T @ centred / len(z)
    total = jnp.trace(covariance)
    return {
        "z/std": jnp.sqrt(jnp.diag(covariance)).mean(),
        "z/std_min": jnp.sqrt(jnp.diag(covariance)).min(),
        "z/dimensions": total**2 / (jnp.sum(covariance**2) + 1e-12),  # participation ratio
    }
