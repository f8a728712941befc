"""Matrix products of layers, with operands in bfloat16 where a learner asks for it.

Weights, sums and all that stands between two products stay in float32 (Micikevicius et al. 2018, "Mixed precision
training", https://arxiv.org/abs/1710.03740). A bfloat16 has as many bits of exponent as a float32, so losses need not
be scaled. Processors with AMX multiply it faster.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Float

Precision = Literal["float32", "bfloat16"]
LEAST = 128  # rows and columns: rounding smaller operands takes longer than their product gains
_operands: ContextVar[Precision] = ContextVar("operands", default="float32")


@contextlib.contextmanager
def operands_in(precision: Precision) -> Iterator[None]:
    """Large products that are traced in this block, and those of their gradients, have operands of this precision."""
    token = _operands.set(precision)
    try:
        yield
    finally:
        _operands.reset(token)


def product(
    parts: Sequence[Float[Array, "*batch _"]], weight: Float[Array, "inputs outputs"]
) -> Float[Array, "*batch outputs"]:
    """`concatenate(parts, axis=-1) @ weight`, of which each part has a gradient of its own.

    What nobody reads is not computed: where a policy is improved, only the action's part of the critic's input is.
    """
    rows = parts[0].size // parts[0].shape[-1]
    narrow = _operands.get() == "bfloat16" and min(rows, weight.shape[1]) >= LEAST
    if len(parts) == 1 and not narrow:
        return parts[0] @ weight
    ends = tuple(accumulate(part.shape[-1] for part in parts))
    return _product(_How(narrow and weight.shape[0] >= LEAST, narrow, ends), tuple(parts), weight)


class _How(NamedTuple):
    forward: bool  # whether the operands are rounded, here
    backward: bool  # and in the gradient of the weights, whose inner axis is that of rows
    ends: tuple[int, ...]  # of the parts, in the inputs


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(how: _How, parts: tuple[Array, ...], weight: Array) -> Array:
    return _forward(how, parts, weight)[0]


def _forward(how: _How, parts: tuple[Array, ...], weight: Array) -> tuple[Array, tuple[Array, Array]]:
    operands = (
        _rounded(jnp.concatenate(parts, axis=-1), how.forward),
        _rounded(weight, how.forward),
    )
    return _multiply(*operands), operands


def _backward(how: _How, operands: tuple[Array, Array], grad: Array) -> tuple[tuple[Array, ...], Array]:
    x, weight = operands
    narrow = _rounded(grad, how.backward)
    begins = (0, *how.ends[:-1])
    to_parts = (_to_part(how, narrow, grad, weight[a:b]) for a, b in zip(begins, how.ends, strict=True))
    rows, of_rows = (y.reshape(-1, y.shape[-1]) for y in (_rounded(x, how.backward), narrow))
    to_weight = _multiply(_transposed(rows) if how.backward else rows.T, of_rows)
    return tuple(to_parts), to_weight


def _to_part(how: _How, narrow: Array, grad: Array, weight: Array) -> Array:
    return _multiply(narrow, _transposed(weight)) if how.forward else _multiply(grad, weight.T)


_product.defvjp(_forward, _backward)


def _rounded(x: Array, narrow: bool) -> Array:
    return x.astype(jnp.bfloat16) if narrow else x


def _multiply(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, preferred_element_type=jnp.float32)


def _transposed(x: BFloat16[Array, "rows columns"]) -> BFloat16[Array, "columns rows"]:
    """The transpose, written out.

    XLA's CPU backend multiplies bfloat16 only where the inner axis of the first operand is its last one in memory, and
    else goes back to float32.
    """
    return jax.lax.optimization_barrier(x.T.reshape(-1)).reshape(x.shape[::-1])
