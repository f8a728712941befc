"""Attention to the tokens before, with a bias for every distance (Raffel et al. 2020).

The batch is every array's last axis, see `batch_last`: with 4 entries a head and 20 tokens the matrices of attention
are too small to be worth a call. From 16 entries a head on they are, and attention is made of products.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from collectiverl.nn.batch_last import project
from collectiverl.nn.mlp import Linear

AS_MATRICES = 16  # entries of a head from which matrix products are faster than loops over the batch
FALL = 0.05  # of a head's bias a step back, at first: some heads begin near, one sees all alike (Press et al. 2022)
FAR = -1e9  # a logit that counts for nothing; minus infinity would make nan where a query sees no key
# of a key's logit where all places share the query: the sums of `pool` then stay within the range of float32. The
# layer normalisation before bounds it too, in the collectives that come with the package to 33
LARGEST = 40.0


def attend(
    query: Float[Array, "heads c q B"],
    key: Float[Array, "heads c n B"],
    value: Float[Array, "heads c n B"],
    shown: Bool[Array, "n q #B"],
    bias: Float[Array, "heads n q"],
) -> Float[Array, "heads c q B"]:
    """What each query sees: the values, weighted by a softmax over the shown keys; c entries a head."""
    if query.shape[1] >= AS_MATRICES:
        return _attend_by_products(query, key, value, shown, bias)
    return _attend_along_batch(query, key, value, shown, bias)


def _attend_by_products(query, key, value, shown, bias):
    logits = jnp.einsum("hcqb,hcnb->hbqn", query, key) + jnp.swapaxes(bias, 1, 2)[:, None]
    logits = jnp.where(jnp.transpose(shown, (2, 1, 0)), logits, FAR)
    return jnp.einsum("hbqn,hcnb->hcqb", jax.nn.softmax(logits, axis=-1), value)


def products(a: Float[Array, "heads c i B"], b: Float[Array, "heads c j B"]) -> Float[Array, "heads i j B"]:
    """Inner products of the tokens of `a` with those of `b`; written out, since a reduction would not fuse."""
    terms = [a[:, c, :, None] * b[:, c, None, :] for c in range(a.shape[1])]
    return sum(terms[1:], start=terms[0])


def weighted(
    weight: Float[Array, "heads i j B"], x: Float[Array, "heads c _ B"], axis: int
) -> Float[Array, "heads c _ B"]:
    """Sums of `x` over `i` (axis 1) or `j` (axis 2); a loop, since a reduction would not be vectorised."""
    heads, entries, _, batch = x.shape

    def add(i, total):
        part = jax.lax.dynamic_index_in_dim(weight, i, axis, keepdims=False)
        return total + part[:, None] * x[:, :, i, None]

    nothing = jnp.zeros((heads, entries, weight.shape[3 - axis], batch))
    return jax.lax.fori_loop(0, weight.shape[axis], add, nothing)


@jax.custom_vjp
def _attend_along_batch(query, key, value, shown, bias):
    return _attend_forward(query, key, value, shown, bias)[0]


def _attend_forward(query, key, value, shown, bias):
    logits = jnp.where(shown, products(key, query) + bias[..., None], FAR)  # (heads, keys, queries, B)
    weight = jnp.exp(logits - logits.max(axis=1, keepdims=True))
    value = jnp.concatenate([value, jnp.ones_like(value[:, :1])], axis=1)  # one more entry sums the weights
    summed = weighted(weight, value, axis=1)
    scale = 1 / summed[:, -1:]
    mixed = summed[:, :-1] * scale
    return mixed, (query, key, value, weight * shown, scale, mixed)


def _attend_back(saved, grad):
    query, key, value, weight, scale, mixed = saved
    along = (grad * mixed).sum(axis=1, keepdims=True)
    grad = jnp.concatenate([grad, -along], axis=1) * scale
    to_logits = weight * products(value, grad)
    to_key, to_value = weighted(to_logits, query, axis=2), weighted(weight, grad[:, :-1], axis=2)
    return weighted(to_logits, key, axis=1), to_key, to_value, None, to_logits.sum(axis=-1)


_attend_along_batch.defvjp(_attend_forward, _attend_back)


def pool(
    query: Float[Array, "heads c"],
    key: Float[Array, "heads c n B"],
    value: Float[Array, "heads c n B"],
    mask: Bool[Array, "n B"],
    kernel: Float[Array, "heads n q"],
) -> Float[Array, "heads c q B"]:
    """`attend` of one query at all places of all sequences.

    There a key's weight is what the key itself gives, `exp(query . key)`, times what its distance gives, `kernel`. So
    the sums of a head, over the keys of all sequences, are one product with one matrix.
    """
    logits = jnp.einsum("hc,hcnb->hnb", query, key)
    weight = jnp.where(mask, jnp.exp(jnp.clip(logits, -LARGEST, LARGEST)), 0)
    value = jnp.concatenate([value, jnp.ones_like(value[:, :1])], axis=1)  # one more entry sums the weights
    heads, entries, keys, batch = value.shape
    rows = jnp.swapaxes(value * weight[:, None], 1, 2).reshape(heads, keys, -1)
    summed = (jnp.swapaxes(kernel, 1, 2) @ rows).reshape(heads, -1, entries, batch)
    mixed, total = summed[:, :, :-1], summed[:, :, -1:]
    return jnp.swapaxes(mixed / jnp.where(total > 0, total, 1), 1, 2)  # zero where no key is shown


class Memory(NamedTuple):
    """Keys and values of the tokens that a block has seen."""

    key: Float[Array, "heads c n B"]
    value: Float[Array, "heads c n B"]


class View(NamedTuple):
    """Which tokens there are, and how far back from a query each lies."""

    mask: Bool[Array, "n #B"]  # False: padding
    distance: Int[np.ndarray, "n q"]  # below 0: the token comes after the query, which does not see it


class Attention(eqx.Module):
    """Multi-head attention from queries to a memory of tokens."""

    qkv: Linear
    out: Linear
    position: Float[Array, "heads reach"]  # bias by distance: 0 is the token itself
    heads: int = eqx.field(static=True)

    def __init__(self, dim: int, heads: int, reach: int, *, key: PRNGKeyArray):
        k_qkv, k_out = jax.random.split(key)
        self.qkv = Linear(dim, 3 * dim, key=k_qkv)
        self.out = Linear(dim, dim, key=k_out)
        slope = np.where(np.arange(heads) > 0, 2.0 ** (np.arange(heads) % 4 - 1), 0)
        self.position = -FALL * jnp.asarray(slope[:, None] * np.arange(reach), jnp.float32)
        self.heads = heads

    def remember(self, x: Float[Array, "dim n B"]) -> Memory:
        return Memory(*self._projected(x, 1, 3))

    def __call__(self, x: Float[Array, "dim q B"], memory: Memory, view: View) -> Float[Array, "dim q B"]:
        """What each token sees."""
        [query] = self._projected(x, 0, 1)
        shown = jnp.asarray(self._within(view))[:, :, None] & view.mask[:, None]
        mixed = attend(query * query.shape[1] ** -0.5, *memory, shown, self._bias(view))
        return project(self.out, mixed.reshape(x.shape))

    def everywhere(self, x: Float[Array, "dim"], memory: Memory, view: View) -> Float[Array, "dim q B"]:
        """What one token, which stands at every place, sees there."""
        query = self._projected(x[:, None, None], 0, 1)[0, :, :, 0, 0]
        kernel = jnp.where(self._within(view), jnp.exp(self._bias(view)), 0)
        mixed = pool(query * query.shape[1] ** -0.5, *memory, view.mask, kernel)
        return project(self.out, mixed.reshape(len(x), *mixed.shape[2:]))

    def _within(self, view: View) -> Bool[np.ndarray, "n q"]:
        """Which tokens are within reach of a query, and not after it."""
        return (view.distance >= 0) & (view.distance < self.position.shape[1])

    def _bias(self, view: View) -> Float[Array, "heads n q"]:
        return self.position[:, np.clip(view.distance, 0, self.position.shape[1] - 1)]

    def _projected(
        self, x: Float[Array, "dim n B"], begin: int, end: int
    ) -> Float[Array, "parts heads c n B"]:
        """Some of the parts query, key, value."""
        dim, of = len(x), slice(begin * len(x), end * len(x))
        parts = self.qkv.weight[:, of], self.qkv.bias[of]
        part = eqx.tree_at(lambda linear: (linear.weight, linear.bias), self.qkv, parts)
        return project(part, x).reshape(end - begin, self.heads, dim // self.heads, *x.shape[1:])
