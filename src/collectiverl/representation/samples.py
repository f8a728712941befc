"""Which windows a judge looks at, of both sides of a split, and what it sees of them."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from collectiverl.data.episodes import EpisodeTable
from collectiverl.representation.batches import Pack, pack
from collectiverl.representation.context import embed_all, in_batches
from collectiverl.representation.encoder import Encoder
from collectiverl.representation.tokens import inputs_of
from collectiverl.types import Window

MOST = 1_500  # windows, of each side of the split and each context


class Side(NamedTuple):
    """The episodes of one side of the split."""

    data: Pack
    about: list[dict]  # of each episode
    task: np.ndarray


class Sample(NamedTuple):
    """Windows by row number, and the task each is of."""

    first: Int[np.ndarray, "B"]
    end: Int[np.ndarray, "B"]
    context: Int[np.ndarray, "B"]
    task: np.ndarray


def side_of(tables: Sequence[EpisodeTable], state_index: Sequence[int]) -> Side:
    about = [row for table in tables for row in table.about]
    return Side(pack(tables, state_index), about, np.asarray([row["task"] for row in about]))


def at_start(side: Side, context: int, rng: np.random.Generator) -> Sample:
    """The first `context` steps of episodes that have as many."""
    long = np.flatnonzero(side.data.length >= context - 1)
    episode = rng.permutation(long)[:MOST]
    first = side.data.first[episode]
    return Sample(first, first + context - 1, np.full(len(episode), context), side.task[episode])


def anywhere(side: Side, size: int, rng: np.random.Generator) -> Sample:
    """Windows that end at any state."""
    episode = rng.integers(0, len(side.data.length), MOST)
    first = side.data.first[episode]
    end = first + rng.integers(0, side.data.length[episode] + 1)
    return Sample(first, end, np.full(MOST, size), side.task[episode])


# -- what is seen of them ----------------------------------------------------------------------------------


def embeddings(encoder: Encoder, data: Pack, sample: Sample) -> Float[np.ndarray, "B Z"]:
    return embed_all(encoder, data.rows, *sample[:3])


def last_states(encoder: Encoder, data: Pack, sample: Sample) -> Float[np.ndarray, "B S"]:
    """Raw, but standardised."""
    return np.asarray(encoder.scales.states(data.rows.state[sample.end]))


def whole_windows(encoder: Encoder, data: Pack, sample: Sample) -> Float[np.ndarray, "B CX"]:
    """The steps of windows that are all as long, C, one behind the other."""
    read = in_batches(partial(_read, encoder), data.rows, *sample[:3], encoder.window)
    return read[:, -sample.context[0] :].reshape(len(read), -1)


@eqx.filter_jit
def _read(encoder: Encoder, windows: Window) -> Float[Array, "B L X"]:
    """All that the encoder reads of a step, standardised as it reads it."""
    seen = jnp.concatenate(inputs_of(encoder.scales(windows), encoder.rewards), axis=-1)
    return jnp.moveaxis(seen, 0, 1)  # standardised windows have their steps in front
