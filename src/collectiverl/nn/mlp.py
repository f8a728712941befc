"""A multilayer perceptron, and an ensemble of them as one module. Modules take any leading axes."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from collectiverl.nn.products import product


def _mean(x: Float[Array, "*batch size"]) -> Float[Array, "*batch 1"]:
    """Over the last axis, as a product: XLA's CPU backend runs a row reduction as a scalar loop."""
    return x @ jnp.full((x.shape[-1], 1), 1 / x.shape[-1])


@jax.custom_vjp
def rescale(
    x: Float[Array, "*batch size"], weight: Float[Array, "size"], bias: Float[Array, "size"]
) -> Float[Array, "*batch size"]:
    """`x / rms(x) * weight + bias`, with a gradient that passes over the activations half as often."""
    return _rescale(x, weight, bias)[0]


def _rescale(x, weight, bias):
    scale = jax.lax.rsqrt(_mean(x * x) + 1e-5)
    return x * scale * weight + bias, (x, scale, weight)


def _rescale_back(saved, grad):
    x, scale, weight = saved
    slope = grad * x
    mean = slope @ (weight[:, None] / weight.size)  # of slope * weight, over the last axis
    to_x = scale * (grad * weight) - x * (scale**3 * mean)
    # Sums over rows, as products whose first operand is of the batch: with ones, which no batch axis has, XLA would
    # join the members of an ensemble to one wide matrix, and copy every activation there.
    scales = scale.reshape(1, -1)
    slopes, grads = (y.reshape(-1, y.shape[-1]) for y in (slope, grad))
    return to_x, (scales @ slopes)[0], (scales / scales @ grads)[0]


rescale.defvjp(_rescale, _rescale_back)


class LayerNorm(eqx.Module):
    """Layer normalisation (Ba et al. 2016)."""

    weight: Float[Array, "size"]
    bias: Float[Array, "size"]

    def __init__(self, size: int):
        self.weight, self.bias = jnp.ones(size), jnp.zeros(size)

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        return self.of_centred(x - _mean(x))

    def of_centred(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        """The same for an `x` whose mean is 0."""
        return rescale(x, self.weight, self.bias)


class Linear(eqx.Module):
    """`x @ weight + bias`, initialised uniformly within 1/sqrt(inputs), as `equinox.nn.Linear` is.

    Equinox's layer multiplies from the left, `weight @ x`. Mapped over a batch, XLA's CPU backend then transposes.
    """

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, "outputs"]

    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray):
        limit = in_size**-0.5
        drawn = jax.random.uniform(key, (in_size + 1, out_size), minval=-limit, maxval=limit)
        self.weight, self.bias = drawn[:-1], drawn[-1]

    def __call__(self, *parts: Float[Array, "*batch _"]) -> Float[Array, "*batch outputs"]:
        """Of an input in one piece or in several."""
        return product(parts, self.weight) + self.bias

    def centred(self, *parts: Float[Array, "*batch _"]) -> Float[Array, "*batch outputs"]:
        """The outputs minus their mean, which is subtracted from the weights: they are fewer than the activations."""
        return product(parts, self.weight - _mean(self.weight)) + (self.bias - _mean(self.bias))


class MLP(eqx.Module):
    """`depth` hidden layers of `width` ReLU units and a linear head.

    With `layer_norm` every hidden layer is normalised before its activation, which keeps critics from
    extrapolating (Ball et al. 2023, RLPD).
    """

    layers: list[Linear]
    norms: list[LayerNorm]

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width: int,
        depth: int,
        *,
        layer_norm: bool = False,
        key: PRNGKeyArray,
    ):
        sizes = [in_size, *[width] * depth, out_size]
        keys = jax.random.split(key, depth + 1)
        self.layers = [Linear(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)]
        self.norms = [LayerNorm(width) for _ in range(depth)] if layer_norm else []

    def __call__(self, *parts: Float[Array, "*batch _"]) -> Float[Array, "*batch outputs"]:
        """Of an input in one piece or in several."""
        for i, layer in enumerate(self.layers[:-1]):
            x = self.norms[i].of_centred(layer.centred(*parts)) if self.norms else layer(*parts)
            parts = (jax.nn.relu(x),)
        return self.layers[-1](*parts)


class Ensemble(eqx.Module):
    """`size` modules of one structure with their own weights, evaluated together.

    The members' axis stays in front of the batch axes, where XLA's batched products put it. With `jax.vmap` of the
    whole module, XLA would swap the axes at every layer (8 % of a SAC update, median of three alternating runs).
    """

    members: eqx.Module
    size: int = eqx.field(static=True)

    def __init__(self, make: Callable[[PRNGKeyArray], eqx.Module], size: int, *, key: PRNGKeyArray):
        members = [make(k) for k in jax.random.split(key, size)]
        self.members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        self.size = size

    def __call__(self, *parts: Float[Array, "*batch _"]) -> Float[Array, "size *batch outputs"]:
        return eqx.filter_vmap(lambda member: member(*parts))(self.members)


class Critic(eqx.Module):
    """Twin Q functions of one state and action (Fujimoto et al. 2018)."""

    ensemble: Ensemble

    def __init__(
        self, obs_dim: int, action_dim: int, width: int, depth: int, *, layer_norm: bool, key: PRNGKeyArray
    ):
        def make(k: PRNGKeyArray) -> MLP:
            return MLP(obs_dim + action_dim, 1, width, depth, layer_norm=layer_norm, key=k)

        self.ensemble = Ensemble(make, 2, key=key)

    def __call__(
        self, obs: Float[Array, "*batch O"], action: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch 2"]:
        q = self.ensemble(obs, action)
        return jnp.moveaxis(q[..., 0], 0, -1)
