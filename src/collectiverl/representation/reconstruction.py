"""How well the encoder fills in what is hidden from it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collectiverl.representation import losses
from collectiverl.representation.batches import Rows, gather
from collectiverl.representation.encoder import Encoder
from collectiverl.representation.scales import Standard
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
    """Errors on windows given by row numbers, in squared standard deviations.

    `copied` are those of copying the last step that is not masked, `last_state_copied` of copying the state before.
    """
    places = map(jnp.asarray, (first, end, context))
    masked, copied, last, last_copied = _errors(encoder, rows, *places, key=jax.random.key(seed))
    names, found = part_names(encoder.rewards), {}
    for kind, errors in (("masked", masked), ("copied", copied)):
        by_part = {f"{kind}_{name}": float(error) for name, error in zip(names, errors, strict=True)}
        found |= {kind: float(errors.mean()), **by_part}
    return found | {"last_state": float(last), "last_state_copied": float(last_copied)}


def without_last_state(windows: Standard) -> Standard:
    """The windows with all that tells their last state hidden: itself, its change and its differences."""
    hidden = ("state", "change", "difference")
    return windows._replace(**{name: getattr(windows, name).at[-1].set(0) for name in hidden})


@eqx.filter_jit
def _errors(
    encoder: Encoder, rows: Rows, first: Array, end: Array, context: Array, key: PRNGKeyArray
) -> tuple[Float[Array, "parts"], Float[Array, "parts"], Float[Array, ""], Float[Array, ""]]:
    """Mean squared error at masked places, of each part, and of the last state when that alone is hidden.

    Behind each stands that of copying.
    """
    windows = encoder.scales(gather(rows, first, end, context, encoder.window))
    others = jax.tree.map(lambda x: jnp.roll(x, 1, axis=1), windows)
    hidden, places = losses.corrupt(windows, others, key)
    truth = parts_of(windows, encoder.rewards)
    errors = losses.reconstruction_errors(encoder.read(hidden).parts, truth, places)
    copied = losses.reconstruction_errors(losses.copied(truth, windows, places), truth, places)
    last = encoder.read(without_last_state(windows)).parts[-1][-1]
    before = jnp.where(windows.mask[-2][..., None], windows.state[-2], 0) if len(windows.state) > 1 else 0
    apart, copied_apart = (jnp.mean((guess - windows.state[-1]) ** 2) for guess in (last, before))
    return errors, copied, apart, copied_apart
