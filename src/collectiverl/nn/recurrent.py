"""A GRU or an LSTM over masked sequences."""

from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.nn.transformer import dropout

Cell = Literal["gru", "lstm"]


class Recurrent(eqx.Module):
    """Stacked cells; positions that the mask hides leave the state unchanged."""

    cells: list[eqx.nn.GRUCell] | list[eqx.nn.LSTMCell]
    rate: float = eqx.field(static=True)  # of dropout, on each layer's input

    def __init__(self, kind: Cell, dim: int, layers: int, rate: float, *, key: PRNGKeyArray):
        make = eqx.nn.GRUCell if kind == "gru" else eqx.nn.LSTMCell
        self.cells = [make(dim, dim, key=k) for k in jax.random.split(key, layers)]  # type: ignore[assignment]
        self.rate = rate

    def __call__(
        self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"], key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "dim B"], Float[Array, "dim n B"]]:
        """The output at the last shown position, and those at all positions; with dropout if there is a key."""
        keys = [None] * len(self.cells) if key is None else jax.random.split(key, len(self.cells))
        for cell, k in zip(self.cells, keys, strict=True):
            scan = jax.vmap(partial(_scan, cell), in_axes=-1, out_axes=-1)
            x = scan(dropout(x, self.rate, k), mask)
        return x[:, -1], x


def _scan(
    cell: eqx.nn.GRUCell | eqx.nn.LSTMCell, x: Float[Array, "dim n"], mask: Bool[Array, "n"]
) -> Float[Array, "dim n"]:
    lstm = isinstance(cell, eqx.nn.LSTMCell)
    zero = jnp.zeros(len(x))

    def step(state, inputs):
        token, shown = inputs
        new = cell(token, state)
        state = jax.tree.map(lambda n, old: jnp.where(shown, n, old), new, state)
        return state, state[0] if lstm else state

    return jax.lax.scan(step, (zero, zero) if lstm else zero, (x.T, mask))[1].T
