"""From a window to tokens and back: two layouts.

A step's parts are (action, reward, state), the order in which they came about; without rewards (action, state).
"""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from collectiverl.nn.batch_last import entries_first, normalize, project
from collectiverl.nn.mlp import LayerNorm, Linear
from collectiverl.representation.scales import Standard

Parts = tuple[Float[Array, "L *batch _"], ...]


def parts_of(standard: Standard, rewards: bool) -> Parts:
    """What a step consists of, one array [L, …, size] a part."""
    reward = (standard.reward,) if rewards else ()
    return (standard.action, *reward, standard.state)


def inputs_of(standard: Standard, rewards: bool) -> Parts:
    """What a token is made of: each part, and beside it how it differs from the step before."""
    state = jnp.concatenate([standard.state, standard.change, standard.difference], axis=-1)
    reward = jnp.concatenate([standard.reward, standard.reward_change, standard.known], axis=-1)
    return (standard.action, reward, state) if rewards else (standard.action, state)


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
