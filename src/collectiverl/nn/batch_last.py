"""Layers for arrays whose last axis is the batch: (entries of a token, tokens, batch).

Vector registers are then filled along the batch, however small the model: XLA's CPU backend runs softmax and LayerNorm
as loops over contiguous memory, and sums over a token's entries add whole rows. Gradients are written by hand where
automatic differentiation would need another order of axes, and a copy.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from collectiverl.nn.mlp import LayerNorm, Linear


def entries_first(x: Float[Array, "n *batch size"]) -> Float[Array, "size n B"]:
    """The entries as the first axis, and the batch axes merged into the last."""
    return jnp.moveaxis(x.reshape(len(x), -1, x.shape[-1]), -1, 0)


def project(layer: Linear, x: Float[Array, "inputs *tokens B"]) -> Float[Array, "outputs *tokens B"]:
    """A linear layer, applied to the entries of every token."""
    return _affine(layer.weight, layer.bias, x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


@jax.custom_vjp
def _affine(
    weight: Float[Array, "inputs outputs"], bias: Float[Array, "outputs"], x: Float[Array, "inputs N"]
) -> Float[Array, "outputs N"]:
    return _affine_forward(weight, bias, x)[0]


def _affine_forward(weight, bias, x):
    return weight.T @ x + bias[:, None], (weight, x)


def _affine_back(saved, grad):
    weight, x = saved
    return x @ grad.T, _row_sums(grad), weight @ grad


_affine.defvjp(_affine_forward, _affine_back)


def _row_sums(x: Float[Array, "rows N"]) -> Float[Array, "rows"]:
    """As a product: XLA's CPU backend runs a row reduction as a scalar loop."""
    return x @ jnp.ones(x.shape[1])


def normalize(norm: LayerNorm, x: Float[Array, "dim n B"]) -> Float[Array, "dim n B"]:
    """Layer normalisation of the entries of every token."""
    return _normalize(norm.weight, norm.bias, x)


@jax.custom_vjp
def _normalize(
    weight: Float[Array, "dim"], bias: Float[Array, "dim"], x: Float[Array, "dim n B"]
) -> Float[Array, "dim n B"]:
    return _normalize_forward(weight, bias, x)[0]


def _normalize_forward(weight, bias, x):
    centred = x - x.mean(axis=0)
    scale = jax.lax.rsqrt((centred**2).mean(axis=0) + 1e-5)
    normal = centred * scale
    return normal * weight[:, None, None] + bias[:, None, None], (normal, scale, weight)


def _normalize_back(saved, grad):
    normal, scale, weight = saved
    slope = grad * weight[:, None, None]
    to_x = scale * (slope - slope.mean(axis=0) - normal * (slope * normal).mean(axis=0))
    return (grad * normal).sum(axis=(1, 2)), grad.sum(axis=(1, 2)), to_x


_normalize.defvjp(_normalize_forward, _normalize_back)
