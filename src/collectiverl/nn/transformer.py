"""A pre-norm transformer encoder (Vaswani et al. 2017; Xiong et al. 2020) for batches of short sequences.

The batch is the last axis of every array, see `nn.batch_last`. With 4 entries a head and 21 tokens, the matrices of
attention are too small for one matrix product for each head of each window. An update of the encoder's default sizes
takes 14 ms in this layout, and took 33 ms window by window (medians on one core).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.nn.batch_last import normalize, project
from collectiverl.nn.mlp import LayerNorm, Linear


def dropout(x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None) -> Float[Array, "*shape"]:
    """Zeroes entries with probability `rate`, to the nearest 1/256, and scales the others up. Identity without a key.

    Each entry needs one random byte. They are drawn four to a word: drawn as bytes they take nine times as long.
    """
    if key is None or rate == 0:
        return x
    kept = min(255, round(256 * (1 - rate)))
    words = jax.random.bits(key, (-(-x.size // 4),), "uint32")
    drawn = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(drawn < kept, x * (256 / kept), 0)


# -- attention ---------------------------------------------------------------------------------------------


def products(a: Float[Array, "heads c i B"], b: Float[Array, "heads c j B"]) -> Float[Array, "heads i j B"]:
    """Inner products of the tokens of `a` and `b`; a written-out sum, since XLA does not fuse a reduction."""
    terms = [a[:, c, :, None] * b[:, c, None, :] for c in range(a.shape[1])]
    return sum(terms[1:], start=terms[0])


def weighted(
    weight: Float[Array, "heads i j B"], x: Float[Array, "heads c _ B"], axis: int
) -> Float[Array, "heads c _ B"]:
    """Weighted sums of `x` over `i` (axis 1) or `j` (axis 2); a loop, since XLA does not vectorise a reduction."""
    heads, entries, _, batch = x.shape

    def add(i, total):
        part = jax.lax.dynamic_index_in_dim(weight, i, axis, keepdims=False)
        return total + part[:, None] * x[:, :, i, None]

    nothing = jnp.zeros((heads, entries, weight.shape[3 - axis], batch))
    return jax.lax.fori_loop(0, weight.shape[axis], add, nothing)


@jax.custom_vjp
def attend(
    query: Float[Array, "heads c q B"],
    key: Float[Array, "heads c n B"],
    value: Float[Array, "heads c n B"],
    shown: Bool[Array, "n B"],
) -> Float[Array, "heads c q B"]:
    """For each query, the values weighted by a softmax over the keys that `shown` admits; c entries a head."""
    return _attend(query, key, value, shown)[0]


def _attend(query, key, value, shown):
    logits = jnp.where(shown[:, None], products(key, query), -jnp.inf)  # (heads, keys, queries, B)
    weight = jnp.exp(logits - logits.max(axis=1, keepdims=True))
    value = jnp.concatenate([value, jnp.ones_like(value[:, :1])], axis=1)  # one more entry sums the weights
    summed = weighted(weight, value, axis=1)
    scale = 1 / summed[:, -1:]
    mixed = summed[:, :-1] * scale
    return mixed, (query, key, value, weight, scale, mixed)


def _attend_back(saved, grad):
    query, key, value, weight, scale, mixed = saved
    along = (grad * mixed).sum(axis=1, keepdims=True)
    grad = jnp.concatenate([grad, -along], axis=1) * scale
    to_logits = weight * products(value, grad)
    to_key, to_value = weighted(to_logits, query, axis=2), weighted(weight, grad[:, :-1], axis=2)
    return weighted(to_logits, key, axis=1), to_key, to_value, None


attend.defvjp(_attend, _attend_back)


class Attention(eqx.Module):
    """Multi-head self-attention from the first `queries` tokens to all tokens that the mask shows."""

    qkv: Linear
    out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, dim: int, heads: int, *, key: PRNGKeyArray):
        k_qkv, k_out = jax.random.split(key)
        self.qkv = Linear(dim, 3 * dim, key=k_qkv)
        self.out = Linear(dim, dim, key=k_out)
        self.heads = heads

    def __call__(
        self, x: Float[Array, "dim n B"], shown: Bool[Array, "n B"], queries: int
    ) -> Float[Array, "dim queries B"]:
        dim, _, batch = x.shape
        parts = project(self.qkv, x)
        query, key, value = parts.reshape(3, self.heads, dim // self.heads, *x.shape[1:])
        query = query[:, :, :queries] * (dim // self.heads) ** -0.5
        mixed = attend(query, key, value, shown)
        return project(self.out, mixed.reshape(dim, queries, batch))


class Block(eqx.Module):
    """Attention, then a feed-forward layer; each reads normalised tokens, and its output is added to the tokens."""

    norm_attention: LayerNorm
    attention: Attention
    norm_feedforward: LayerNorm
    widen: Linear
    narrow: Linear
    rate: float = eqx.field(static=True)  # of dropout, on the two outputs

    def __init__(self, dim: int, heads: int, feedforward: int, rate: float, *, key: PRNGKeyArray):
        k_attention, k_widen, k_narrow = jax.random.split(key, 3)
        self.norm_attention, self.norm_feedforward = LayerNorm(dim), LayerNorm(dim)
        self.attention = Attention(dim, heads, key=k_attention)
        self.widen = Linear(dim, feedforward, key=k_widen)
        self.narrow = Linear(feedforward, dim, key=k_narrow)
        self.rate = rate

    def __call__(
        self, x: Float[Array, "dim n B"], shown: Bool[Array, "n B"], key: PRNGKeyArray | None, queries: int
    ) -> Float[Array, "dim queries B"]:
        k_attention, k_feedforward = (None, None) if key is None else jax.random.split(key)
        attended = self.attention(normalize(self.norm_attention, x), shown, queries)
        x = x[:, :queries] + dropout(attended, self.rate, k_attention)
        normal = normalize(self.norm_feedforward, x)
        hidden = jax.nn.relu(project(self.widen, normal))
        return x + dropout(project(self.narrow, hidden), self.rate, k_feedforward)


class Transformer(eqx.Module):
    """`layers` blocks and a last normalisation. Hidden tokens have no influence on other tokens."""

    blocks: list[Block]
    norm: LayerNorm

    def __init__(
        self, dim: int, layers: int, heads: int, feedforward: int, rate: float, *, key: PRNGKeyArray
    ):
        keys = jax.random.split(key, layers)
        self.blocks = [Block(dim, heads, feedforward, rate, key=k) for k in keys]
        self.norm = LayerNorm(dim)

    def __call__(
        self, x: Float[Array, "dim n B"], shown: Bool[Array, "n B"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "dim n B"]:
        """The outputs of all tokens, with dropout if there is a key. At least one token must be shown."""
        return self._first(x.shape[1], x, shown, key)

    def first(self, x: Float[Array, "dim n B"], shown: Bool[Array, "n B"]) -> Float[Array, "dim B"]:
        """The output of the first token alone; the last block does not compute the others."""
        return self._first(1, x, shown, None)[:, 0]

    def _first(self, wanted: int, x, shown, key: PRNGKeyArray | None):
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        for block, k in zip(self.blocks[:-1], keys[:-1], strict=True):
            x = block(x, shown, k, queries=x.shape[1])
        return normalize(self.norm, self.blocks[-1](x, shown, keys[-1], queries=wanted))
