"""A GRU (Cho et al. 2014) or an LSTM (Hochreiter & Schmidhuber 1997) over masked sequences, the batch last."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.nn.batch_last import project
from collectiverl.nn.mlp import Linear
from collectiverl.nn.sequence import SequenceModel
from collectiverl.nn.transformer import dropout

Kind = Literal["gru", "lstm"]
GATES = {"gru": 3, "lstm": 4}
UNROLLED = 4  # steps of a scan in one iteration: fewer, larger kernels
State = tuple[Float[Array, "dim B"], ...]  # of a layer: (h,), or (h, c) of an LSTM


class Cell(eqx.Module):
    """One layer. What it makes of its inputs is computed for all steps at once, ahead of the recurrence."""

    inputs: Linear
    hidden: Linear
    kind: Kind = eqx.field(static=True)

    def __init__(self, kind: Kind, dim: int, *, key: PRNGKeyArray):
        k_inputs, k_hidden = jax.random.split(key)
        self.inputs = Linear(dim, GATES[kind] * dim, key=k_inputs)
        self.hidden = Linear(dim, GATES[kind] * dim, key=k_hidden)
        self.kind = kind

    def begin(self, num: int) -> State:
        zero = jnp.zeros((self.hidden.weight.shape[0], num))
        return (zero, zero) if self.kind == "lstm" else (zero,)

    def __call__(self, state: State, given: Float[Array, "gates B"]) -> State:
        """The next state; `given` is what `inputs` makes of the step."""
        recalled = project(self.hidden, state[0])
        return _lstm(state, given + recalled) if self.kind == "lstm" else _gru(state, given, recalled)


def _gru(state: State, given: Float[Array, "gates B"], recalled: Float[Array, "gates B"]) -> State:
    (h,) = state
    (reset, update, new), (r, u, n) = jnp.split(given, 3), jnp.split(recalled, 3)
    keep = jax.nn.sigmoid(update + u + 1)  # begins by remembering (Jozefowicz et al. 2015)
    candidate = jnp.tanh(new + jax.nn.sigmoid(reset + r) * n)
    return (keep * h + (1 - keep) * candidate,)


def _lstm(state: State, gates: Float[Array, "gates B"]) -> State:
    _, c = state
    write, forget, new, show = jnp.split(gates, 4)
    c = jax.nn.sigmoid(forget + 1) * c + jax.nn.sigmoid(write) * jnp.tanh(new)
    return jax.nn.sigmoid(show) * jnp.tanh(c), c


class Recurrent(SequenceModel):
    """Stacked cells; hidden places leave the state as it was."""

    cells: list[Cell]
    rate: float = eqx.field(static=True)  # of dropout, on each layer's input

    def __init__(self, kind: Kind, dim: int, layers: int, rate: float, *, key: PRNGKeyArray):
        self.cells = [Cell(kind, dim, key=k) for k in jax.random.split(key, layers)]
        self.rate = rate

    def __call__(
        self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"], key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "dim B"], Float[Array, "dim n B"]]:
        """The last shown place's output, and those of all places; with dropout if there is a key."""
        keys = [None] * len(self.cells) if key is None else jax.random.split(key, len(self.cells))
        for cell, k in zip(self.cells, keys, strict=True):
            x = _scan(cell, dropout(x, self.rate, k), mask)
        return x[:, -1], x

    def last(self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"]) -> Float[Array, "dim B"]:
        return self(x, mask)[0]

    def every(self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"]) -> Float[Array, "dim n B"]:
        return self(x, mask)[1]

    def begin(self, num: int) -> tuple[State, ...]:
        """States of `num` sequences that have not begun."""
        return tuple(cell.begin(num) for cell in self.cells)

    def step(
        self, state: tuple[State, ...], x: Float[Array, "dim B"], begins: Bool[Array, "B"]
    ) -> tuple[tuple[State, ...], Float[Array, "dim B"]]:
        """Takes in one more token of every sequence, the first of those that begin; the output at it."""
        found = []
        for cell, old in zip(self.cells, state, strict=True):
            new = cell(tuple(jnp.where(begins, 0, part) for part in old), project(cell.inputs, x))
            found.append(new)
            x = new[0]
        return tuple(found), x


def _scan(cell: Cell, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"]) -> Float[Array, "dim n B"]:
    def step(state, inputs):
        given, shown = inputs
        new = cell(state, given)
        state = tuple(jnp.where(shown, n, old) for n, old in zip(new, state, strict=True))
        return state, state[0]

    given = jnp.moveaxis(project(cell.inputs, x), 1, 0)
    _, outputs = jax.lax.scan(step, cell.begin(x.shape[2]), (given, mask), unroll=min(UNROLLED, len(mask)))
    return jnp.moveaxis(outputs, 0, 1)
