"""From a window to tokens and back: two layouts, and the learnable CLS token and positions.

A step's parts are (action, reward, state), the order in which they came about; without rewards (action, state).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.nn.batch_last import entries_first, normalize, project
from collectiverl.nn.mlp import LayerNorm, Linear
from collectiverl.nn.transformer import Transformer

Parts = tuple[Float[Array, "L *batch _"], ...]
INITIAL_SCALE = 0.5


class Standard(NamedTuple):
    """Windows in standard deviations, steps first, as the networks take them."""

    state: Float[Array, "L *batch S"]
    change: Float[Array, "L *batch S"]  # of the state since the step before; zero where that is unknown
    action: Float[Array, "L *batch A"]  # as it is: actions lie in [-1, 1]
    reward: Float[Array, "L *batch 1"]
    mask: Bool[Array, "L *batch"]  # False: padding


def parts_of(standard: Standard, rewards: bool) -> Parts:
    """What a step consists of, one array [L, …, size] a part."""
    reward = (standard.reward,) if rewards else ()
    return (standard.action, *reward, standard.state)


def part_names(rewards: bool) -> tuple[str, ...]:
    return ("action", "reward", "state") if rewards else ("action", "state")


class Tokens(eqx.Module):
    """A layout: how a window's parts become tokens, and which output speaks for which part."""

    per_step: eqx.AbstractVar[int]

    @abstractmethod
    def __call__(self, parts: Parts) -> Float[Array, "dim n B"]: ...

    @abstractmethod
    def outputs_of_parts(self, outputs: Float[Array, "dim n B"]) -> tuple[Float[Array, "dim L B"], ...]:
        """The outputs [dim, L, B] from which each part is to be reconstructed."""
        ...


class JointTokens(Tokens):
    """One token a step. The sum of the parts' linear embeddings is one linear map of them all."""

    embed: Linear
    sizes: tuple[int, ...] = eqx.field(static=True)
    per_step: int = eqx.field(static=True)

    def __init__(self, sizes: Sequence[int], dim: int, *, key: PRNGKeyArray):
        self.embed = Linear(sum(sizes), dim, key=key)
        self.sizes, self.per_step = tuple(sizes), 1

    def __call__(self, parts: Parts) -> Float[Array, "dim n B"]:
        return project(self.embed, entries_first(jnp.concatenate(parts, axis=-1)))

    def outputs_of_parts(self, outputs: Float[Array, "dim n B"]) -> tuple[Float[Array, "dim L B"], ...]:
        return (outputs,) * len(self.sizes)


class InterleavedTokens(Tokens):
    """One token a part: action, reward, state, action, …; each kind with its own embedding and LayerNorm."""

    embeds: list[Linear]
    norms: list[LayerNorm]
    per_step: int = eqx.field(static=True)

    def __init__(self, sizes: Sequence[int], dim: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(sizes))
        self.embeds = [Linear(size, dim, key=k) for size, k in zip(sizes, keys, strict=True)]
        self.norms = [LayerNorm(dim) for _ in sizes]
        self.per_step = len(sizes)

    def __call__(self, parts: Parts) -> Float[Array, "dim n B"]:
        kinds = zip(self.embeds, self.norms, parts, strict=True)
        tokens = [normalize(norm, project(embed, entries_first(part))) for embed, norm, part in kinds]
        dim, _, batch = tokens[0].shape
        return jnp.stack(tokens, axis=2).reshape(dim, -1, batch)

    def outputs_of_parts(self, outputs: Float[Array, "dim n B"]) -> tuple[Float[Array, "dim L B"], ...]:
        return tuple(outputs[:, i :: self.per_step] for i in range(self.per_step))


class CLSTransformer(eqx.Module):
    """A transformer behind a CLS token, whose output sums the sequence up, and learnable positions.

    Positions are counted back from the last token, now, so that padding on the left changes nothing.
    """

    cls: Float[Array, "dim"]
    position: Float[Array, "most dim"]
    transformer: Transformer

    def __init__(self, transformer: Transformer, most: int, dim: int, *, key: PRNGKeyArray):
        k_cls, k_position = jax.random.split(key)
        self.cls = INITIAL_SCALE * jax.random.normal(k_cls, (dim,))
        self.position = INITIAL_SCALE * jax.random.normal(k_position, (most, dim))
        self.transformer = transformer

    def __call__(
        self, tokens: Float[Array, "dim n B"], mask: Bool[Array, "n B"], key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "dim B"], Float[Array, "dim n B"]]:
        """The sum-up and the outputs of all tokens."""
        outputs = self.transformer(*self._behind_cls(tokens, mask), key)
        return outputs[:, 0], outputs[:, 1:]

    def summary(self, tokens: Float[Array, "dim n B"], mask: Bool[Array, "n B"]) -> Float[Array, "dim B"]:
        """The sum-up alone, at less cost."""
        return self.transformer.first(*self._behind_cls(tokens, mask))

    def _behind_cls(self, tokens, mask):
        dim, n, batch = tokens.shape
        placed = tokens + self.position[len(self.position) - n :].T[:, :, None]
        cls = jnp.broadcast_to(self.cls[:, None, None], (dim, 1, batch))
        shown = jnp.concatenate([jnp.ones((1, batch), bool), mask])
        return jnp.concatenate([cls, placed], axis=1), shown
