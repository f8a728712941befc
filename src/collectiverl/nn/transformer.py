"""A causal pre-norm transformer (Vaswani et al. 2017; Xiong et al. 2020) over sequences of any length.

A token attends to itself and the tokens before it, at most `reach` of them, and knows how far back each lies: every
head has a bias for every distance (Raffel et al. 2020). So a sequence in one pass and the same sequence token by token,
keys and values kept, give the same outputs.

The batch is every array's last axis, see `batch_last`.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.nn.attention import Attention, Memory, View
from collectiverl.nn.batch_last import normalize, project
from collectiverl.nn.mlp import LayerNorm, Linear
from collectiverl.nn.sequence import SequenceModel


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
        return x + dropout(self._fed(x), self.rate, k_feedforward)

    def everywhere(self, x: Float[Array, "dim"], memory: Memory, view: View) -> Float[Array, "dim q B"]:
        """The output for one token, which stands at every place; without dropout."""
        token = x[:, None, None]
        asking = normalize(self.norm_attention, token)[:, 0, 0]
        summed = token + self.attention.everywhere(asking, memory, view)
        return summed + self._fed(summed)

    def _fed(self, x: Float[Array, "dim q B"]) -> Float[Array, "dim q B"]:
        hidden = jax.nn.relu(project(self.widen, normalize(self.norm_feedforward, x)))
        return project(self.narrow, hidden)


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
        return normalize(self.norm, self.blocks[-1].everywhere(self.cls, memory, self._view(mask, wanted)))

    def _view(self, mask: Bool[Array, "n B"], wanted: int) -> View:
        """What the last so many places see."""
        at = np.arange(len(mask))
        return View(mask, at[None, len(mask) - wanted :] - at[:, None])

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
        view = View(shown, np.arange(self.reach)[::-1, None])
        token, found = x[:, None], []
        for block, memory in zip(self.blocks, state.blocks, strict=True):
            new = block.remember(token)
            memory = Memory(
                *(jnp.concatenate([o[:, :, 1:], n], axis=2) for o, n in zip(memory, new, strict=True))
            )
            found.append(memory)
            last = block is self.blocks[-1]
            token = block.everywhere(self.cls, memory, view) if last else block(token, memory, view)
        return Memories(tuple(found), shown), normalize(self.norm, token)[:, 0]
