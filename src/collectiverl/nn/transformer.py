"""A causal pre-norm transformer (Vaswani et al. 2017; Xiong et al. 2020) over sequences of any length.

A token attends to itself and the tokens before it, at most `reach` of them, and knows how far back each lies: every
head has a bias for every distance (Raffel et al. 2020). So a sequence in one pass and the same sequence token by token,
keys and values kept, give the same outputs.

The batch is every array's last axis, see `batch_last`: with 4 entries a head and 20 tokens the matrices of attention
are too small to be worth a call. From 16 entries a head on they are, and attention is made of products.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from collectiverl.nn.batch_last import normalize, project
from collectiverl.nn.mlp import LayerNorm, Linear
from collectiverl.nn.sequence import SequenceModel

AS_MATRICES = 16  # entries of a head from which matrix products are faster than loops over the batch
FALL = 0.05  # of a head's bias a step back, at first: some heads begin near, one sees all alike (Press et al. 2022)
FAR = -1e9  # a logit that counts for nothing; minus infinity would make nan where a query sees no key


def dropout(x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None) -> Float[Array, "*shape"]:
    """Zeroes entries with probability `rate`, to the nearest 1/256, and scales the others up; no key: identity.

    One random byte an entry, drawn four to a word, because drawing single bytes takes longer.
    """
    if key is None or rate == 0:
        return x
    kept = min(255, round(256 * (1 - rate)))
    words = jax.random.bits(key, (-(-x.size // 4),), "uint32")
    drawn = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(drawn < kept, x * (256 / kept), 0)


# -- attention ---------------------------------------------------------------------------------------------


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


class Memory(NamedTuple):
    """Keys and values of the tokens that a block has seen."""

    key: Float[Array, "heads c n B"]
    value: Float[Array, "heads c n B"]


class View(NamedTuple):
    """Which tokens a query sees, and how far back each lies."""

    shown: Bool[Array, "n q #B"]
    distance: Int[np.ndarray, "n q"]


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
        [query] = self._projected(x, 0, 1)
        bias = self.position[:, np.clip(view.distance, 0, self.position.shape[1] - 1)]
        mixed = attend(query * query.shape[1] ** -0.5, *memory, view.shown, bias)
        return project(self.out, mixed.reshape(x.shape))

    def _projected(
        self, x: Float[Array, "dim n B"], begin: int, end: int
    ) -> Float[Array, "parts heads c n B"]:
        """Some of the parts query, key, value."""
        dim, of = len(x), slice(begin * len(x), end * len(x))
        parts = self.qkv.weight[:, of], self.qkv.bias[of]
        part = eqx.tree_at(lambda linear: (linear.weight, linear.bias), self.qkv, parts)
        return project(part, x).reshape(end - begin, self.heads, dim // self.heads, *x.shape[1:])


class Block(eqx.Module):
    """Attention, then a feed-forward layer, each on the normalised tokens and added to them."""

    norm_attention: LayerNorm
    attention: Attention
    norm_feedforward: LayerNorm
    widen: Linear
    narrow: Linear
    rate: float = eqx.field(static=True)  # of dropout, on what is added

    def __init__(self, dim: int, heads: int, feedforward: int, rate: float, reach: int, *, key: PRNGKeyArray):
        k_attention, k_widen, k_narrow = jax.random.split(key, 3)
        self.norm_attention, self.norm_feedforward = LayerNorm(dim), LayerNorm(dim)
        self.attention = Attention(dim, heads, reach, key=k_attention)
        self.widen = Linear(dim, feedforward, key=k_widen)
        self.narrow = Linear(feedforward, dim, key=k_narrow)
        self.rate = rate

    def remember(self, x: Float[Array, "dim n B"]) -> Memory:
        return self.attention.remember(normalize(self.norm_attention, x))

    def __call__(
        self, x: Float[Array, "dim q B"], memory: Memory, view: View, key: PRNGKeyArray | None = None
    ) -> Float[Array, "dim q B"]:
        k_attention, k_feedforward = (None, None) if key is None else jax.random.split(key)
        attended = self.attention(normalize(self.norm_attention, x), memory, view)
        x = x + dropout(attended, self.rate, k_attention)
        hidden = jax.nn.relu(project(self.widen, normalize(self.norm_feedforward, x)))
        return x + dropout(project(self.narrow, hidden), self.rate, k_feedforward)


class Memories(NamedTuple):
    """The last tokens of running sequences, as each block remembers them, oldest first."""

    blocks: tuple[Memory, ...]  # of `reach` tokens
    shown: Bool[Array, "reach B"]  # False: nothing yet


class CLSTransformer(SequenceModel):
    """Blocks over the tokens of a sequence, and a learnable query, CLS, that sums up what lies behind each place.

    CLS reads in the last block, sees all tokens up to its place, and is seen by none.
    """

    blocks: list[Block]
    norm: LayerNorm
    cls: Float[Array, "dim"]
    reach: int = eqx.field(static=True)  # tokens that one sees, itself included

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        feedforward: int,
        rate: float,
        reach: int,
        *,
        key: PRNGKeyArray,
    ):
        k_cls, *keys = jax.random.split(key, layers + 1)
        self.blocks = [Block(dim, heads, feedforward, rate, reach, key=k) for k in keys]
        self.norm = LayerNorm(dim)
        self.cls = 0.5 * jax.random.normal(k_cls, (dim,))
        self.reach = reach

    def __call__(
        self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"], key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "dim B"], Float[Array, "dim n B"]]:
        """CLS at the last place, and the outputs of all tokens; with dropout if there is a key."""
        x, memory, keys = self._up_to_last(x, mask, key)
        summary = self._summary(memory, mask, 1)
        outputs = self.blocks[-1](x, memory, self._view(mask, x.shape[1]), keys[-1])
        return summary[:, 0], normalize(self.norm, outputs)

    def last(self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"]) -> Float[Array, "dim B"]:
        """CLS at the last place alone."""
        return self._summary(self._up_to_last(x, mask, None)[1], mask, 1)[:, 0]

    def every(self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"]) -> Float[Array, "dim n B"]:
        """CLS at every place, in one pass."""
        return self._summary(self._up_to_last(x, mask, None)[1], mask, x.shape[1])

    def _up_to_last(self, x, mask, key):
        """The tokens before the last block, what that one remembers of them, and a dropout key a block."""
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        view = self._view(mask, x.shape[1])
        for block, k in zip(self.blocks[:-1], keys[:-1], strict=True):
            x = block(x, block.remember(x), view, k)
        return x, self.blocks[-1].remember(x), keys

    def _summary(self, memory: Memory, mask: Bool[Array, "n B"], wanted: int) -> Float[Array, "dim wanted B"]:
        """CLS at the last so many places."""
        cls = jnp.broadcast_to(self.cls[:, None, None], (len(self.cls), wanted, mask.shape[1]))
        return normalize(self.norm, self.blocks[-1](cls, memory, self._view(mask, wanted)))

    def _view(self, mask: Bool[Array, "n B"], wanted: int) -> View:
        """What the last so many places see."""
        at = np.arange(len(mask))
        distance = at[None, len(mask) - wanted :] - at[:, None]
        within = (distance >= 0) & (distance < self.reach)
        return View(jnp.asarray(within)[:, :, None] & mask[:, None], distance)

    # -- token by token ------------------------------------------------------------------------------------

    def begin(self, num: int) -> Memories:
        """Memories of `num` sequences that have not begun."""
        heads, dim = self.blocks[0].attention.heads, len(self.cls)
        empty = jnp.zeros((heads, dim // heads, self.reach, num))
        return Memories((Memory(empty, empty),) * len(self.blocks), jnp.zeros((self.reach, num), bool))

    def step(
        self, state: Memories, x: Float[Array, "dim B"], begins: Bool[Array, "B"]
    ) -> tuple[Memories, Float[Array, "dim B"]]:
        """Takes in one more token of every sequence, the first of those that begin; CLS at it."""
        kept = state.shown[1:] & ~begins
        shown = jnp.concatenate([kept, jnp.ones((1, x.shape[1]), bool)])
        view = View(shown[:, None], np.arange(self.reach)[::-1, None])
        token, found = x[:, None], []
        for block, memory in zip(self.blocks, state.blocks, strict=True):
            new = block.remember(token)
            memory = Memory(
                *(jnp.concatenate([o[:, :, 1:], n], axis=2) for o, n in zip(memory, new, strict=True))
            )
            found.append(memory)
            asking = self.cls[:, None, None] + jnp.zeros_like(token) if block is self.blocks[-1] else token
            token = block(asking, memory, view)
        return Memories(tuple(found), shown), normalize(self.norm, token)[:, 0]
