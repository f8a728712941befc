"""A pre-norm transformer encoder (Vaswani et al. 2017; Xiong et al. 2020) for one sequence of tokens."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.nn.mlp import LayerNorm, Linear


def dropout(x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None) -> Float[Array, "*shape"]:
    """Zeroes entries with probability `rate`, to the nearest 1/256, and scales the others up; no key: identity.

    Random bytes cost a quarter of random words, and random bits are a good part of a small model's update.
    """
    if key is None or rate == 0:
        return x
    kept = min(255, round(256 * (1 - rate)))
    keep = jax.random.bits(key, x.shape, "uint8") < kept
    return jnp.where(keep, x * (256 / kept), 0)


class Attention(eqx.Module):
    """Multi-head self-attention from the first `queries` tokens to all that the mask shows."""

    qkv: Linear
    out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, dim: int, heads: int, *, key: PRNGKeyArray):
        k_qkv, k_out = jax.random.split(key)
        self.qkv = Linear(dim, 3 * dim, key=k_qkv)
        self.out = Linear(dim, dim, key=k_out)
        self.heads = heads

    def __call__(
        self, x: Float[Array, "n dim"], mask: Bool[Array, "n"], queries: int
    ) -> Float[Array, "queries dim"]:
        per_head = jax.vmap(self.qkv)(x).reshape(len(x), 3, self.heads, -1)  # (n, 3, heads, dim / heads)
        query, key, value = per_head[:queries, 0], per_head[:, 1], per_head[:, 2]
        logits = jnp.einsum("qhc,khc->hqk", query, key) / jnp.sqrt(query.shape[-1])
        weight = jax.nn.softmax(jnp.where(mask[None, None, :], logits, -jnp.inf), axis=-1)
        mixed = jnp.einsum("hqk,khc->qhc", weight, value)
        return jax.vmap(self.out)(mixed.reshape(queries, -1))


class Block(eqx.Module):
    """Attention, then a feed-forward layer, each on the normalised tokens and added to them."""

    norm_attention: LayerNorm
    attention: Attention
    norm_feedforward: LayerNorm
    widen: Linear
    narrow: Linear
    rate: float = eqx.field(static=True)  # of dropout, on what is added

    def __init__(self, dim: int, heads: int, feedforward: int, rate: float, *, key: PRNGKeyArray):
        k_attention, k_widen, k_narrow = jax.random.split(key, 3)
        self.norm_attention, self.norm_feedforward = LayerNorm(dim), LayerNorm(dim)
        self.attention = Attention(dim, heads, key=k_attention)
        self.widen = Linear(dim, feedforward, key=k_widen)
        self.narrow = Linear(feedforward, dim, key=k_narrow)
        self.rate = rate

    def __call__(
        self, x: Float[Array, "n dim"], mask: Bool[Array, "n"], key: PRNGKeyArray | None, queries: int
    ) -> Float[Array, "queries dim"]:
        k_attention, k_feedforward = (None, None) if key is None else jax.random.split(key)
        attended = self.attention(jax.vmap(self.norm_attention)(x), mask, queries)
        x = x[:queries] + dropout(attended, self.rate, k_attention)
        hidden = jax.nn.relu(jax.vmap(self.widen)(jax.vmap(self.norm_feedforward)(x)))
        return x + dropout(jax.vmap(self.narrow)(hidden), self.rate, k_feedforward)


class Transformer(eqx.Module):
    """`layers` blocks and a last normalisation. Tokens that the mask hides influence no other token."""

    blocks: list[Block]
    norm: LayerNorm

    def __init__(
        self, dim: int, layers: int, heads: int, feedforward: int, rate: float, *, key: PRNGKeyArray
    ):
        keys = jax.random.split(key, layers)
        self.blocks = [Block(dim, heads, feedforward, rate, key=k) for k in keys]
        self.norm = LayerNorm(dim)

    def __call__(
        self, x: Float[Array, "n dim"], mask: Bool[Array, "n"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "n dim"]:
        """The outputs of all tokens, with dropout if there is a key. At least one token must be shown."""
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        for block, k in zip(self.blocks, keys, strict=True):
            x = block(x, mask, k, queries=len(x))
        return jax.vmap(self.norm)(x)

    def first(self, x: Float[Array, "n dim"], mask: Bool[Array, "n"]) -> Float[Array, "dim"]:
        """The output of the first token alone, which saves the last block's work on the others."""
        for block in self.blocks[:-1]:
            x = block(x, mask, None, queries=len(x))
        return self.norm(self.blocks[-1](x, mask, None, queries=1)[0])
