"""How well the encoder fills in what is hidden from it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collectiverl.representation import losses
from collectiverl.representation.batches import Rows, gather
from collectiverl.representation.encoder import Encoder
from collectiverl.representation.tokens import part_names, parts_of


def reconstruction(
    encoder: Encoder,
    rows: Rows,
    first: Int[np.ndarray, "B"],
    end: Int[np.ndarray, "B"],
    context: Int[np.ndarray, "B"],
    *,
    seed: int,
) -> dict[str, float]:
    """Errors on windows given by row numbers, in squared standard deviations."""
    places = map(jnp.asarray, (first, end, context))
    masked, last = _errors(encoder, rows, *places, key=jax.random.key(seed))
    names = part_names(encoder.rewards)
    by_part = {f"masked_{name}": float(error) for name, error in zip(names, masked, strict=True)}
    return {"masked": float(masked.mean()), **by_part, "last_state": float(last)}


@eqx.filter_jit
def _errors(
    encoder: Encoder, rows: Rows, first: Array, end: Array, context: Array, key: PRNGKeyArray
) -> tuple[Float[Array, "parts"], Float[Array, ""]]:
    """Mean squared error at masked places, of each part, and of the last state when that alone is hidden."""
    windows = encoder.scales(gather(rows, first, end, context, encoder.window))
    others = jax.tree.map(lambda x: jnp.roll(x, 1, axis=1), windows)
    hidden, places = losses.corrupt(windows, others, key)
    truth = parts_of(windows, encoder.rewards)
    errors = losses.reconstruction_errors(encoder.read(hidden).parts, truth, places)
    hidden_parts = ("state", "change", "difference")
    blind = windows._replace(**{name: getattr(windows, name).at[-1].set(0) for name in hidden_parts})
    last = encoder.read(blind).parts[-1][-1]
    return errors, jnp.mean((last - windows.state[-1]) ** 2)
