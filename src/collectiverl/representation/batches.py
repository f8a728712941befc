"""Training windows: all trajectories as one array on the device, and which windows of it make a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from collectiverl.data.episodes import EpisodeTable
from collectiverl.representation.scales import Point, Scales
from collectiverl.types import ABSENT, AnyArray, Episode, UserError, Window

Positives = Literal["views", "episode", "buffer"]


class Rows(NamedTuple):
    """Every state of every episode, one behind the other, with the action and reward that led to it."""

    state: Float[AnyArray, "rows S"]
    action: Float[AnyArray, "rows A"]  # zero at an episode's first state
    reward: Float[AnyArray, "rows"]  # nan at an episode's first state


@dataclass(frozen=True)
class Pack:
    """The episodes of several buffers, ready to draw windows from."""

    rows: Rows
    first: Int[np.ndarray, "episodes"]  # row of the first state
    length: Int[np.ndarray, "episodes"]  # steps; there is one state more
    offset: Int[np.ndarray, "buffers"]  # first episode of each buffer
    count: Int[np.ndarray, "buffers"]  # its episodes


class Draw(NamedTuple):
    """Windows by row number: first P anchors, then their P positives."""

    first: Int[np.ndarray, "*updates 2P"]  # row of the episode's first state
    end: Int[np.ndarray, "*updates 2P"]  # row of the last state seen
    context: Int[np.ndarray, "*updates 2P"]  # steps seen, at most
    buffer: Int[np.ndarray, "*updates 2P"]
    positive_group: Int[
        np.ndarray, "*updates 2P"
    ]  # windows of one number are positives: a pair, an episode or a buffer
    other: Int[np.ndarray, "*updates 2P"]  # row of another state of the episode, never the first


def pack(tables: Sequence[EpisodeTable], state_index: Sequence[int]) -> Pack:
    """One table a buffer; every one must hold an episode."""
    if not tables or not all(len(table) for table in tables):
        raise UserError("a buffer without episodes: run the stages that record and split it, or leave it out")
    episodes = [_episode_rows(episode, state_index) for table in tables for episode in table]
    length = np.concatenate([table.length for table in tables])
    count = np.asarray([len(table) for table in tables])
    columns = (jnp.asarray(np.concatenate(column)) for column in zip(*episodes, strict=True))
    return Pack(Rows(*columns), np.cumsum(length + 1) - length - 1, length, np.cumsum(count) - count, count)


def _episode_rows(episode: Episode, state_index: Sequence[int]) -> tuple[np.ndarray, ...]:
    action = np.concatenate([np.zeros_like(episode.action[:1]), episode.action])
    reward = np.concatenate([np.full_like(episode.reward[:1], np.nan), episode.reward])
    return episode.obs[:, list(state_index)], action, reward


def fit_scales(data: Pack, points: Sequence[Point] = ()) -> Scales:
    """The statistics of these episodes."""
    state, reward = np.asarray(data.rows.state), np.asarray(data.rows.reward)
    state = np.where(state == ABSENT, np.float32(np.nan), state)
    between = data.first[1:] - 1  # from one episode's last state to the next one's first
    change, reward_change = (np.delete(np.diff(x, axis=0), between, axis=0) for x in (state, reward))
    known = reward_change[~np.isnan(reward_change)]
    return Scales.fit(state, reward[~np.isnan(reward)], change, known, points)


def draw(
    data: Pack,
    rng: np.random.Generator,
    pairs: int,
    window: int,
    prefix_fraction: float,
    positives: Positives,
) -> Draw:
    """A batch: buffers alike likely, then their episodes, then the places in them.

    A share `prefix_fraction` of the windows are an episode's first 1 … `window` steps; the others lie anywhere and
    show their last 1 … `window` steps.
    """
    buffer = np.tile(rng.integers(0, len(data.count), pairs), 2)
    episode = data.offset[buffer] + rng.integers(0, data.count[buffer])
    if positives != "buffer":
        episode[pairs:] = episode[:pairs]
    end, context = _places(data.length[episode], rng, window, prefix_fraction)
    if positives == "views":
        end[pairs:], context[pairs:] = end[:pairs], context[:pairs]
    first = data.first[episode]
    other = rng.integers(1, data.length[episode] + 1)
    positive_group = {"views": np.tile(np.arange(pairs), 2), "episode": episode, "buffer": buffer}[positives]
    arrays = (first, first + end, context, buffer, positive_group, first + other)
    return Draw(*(array.astype(np.int32) for array in arrays))


def _places(length: np.ndarray, rng: np.random.Generator, window: int, prefix_fraction: float):
    """Last state (0 … length) and number of steps seen."""
    at_start = rng.random(len(length)) < prefix_fraction
    early = rng.integers(0, np.minimum(window, length + 1))
    anywhere = rng.integers(0, length + 1)
    context = rng.integers(1, window + 1, len(length))
    return np.where(at_start, early, anywhere), np.where(at_start, window, context)


def gather(
    rows: Rows,
    first: Int[AnyArray, "*batch"],
    end: Int[AnyArray, "*batch"],
    context: Int[AnyArray, "*batch"],
    size: int,
) -> Window:
    """Windows by row numbers; the same as `EpisodeTable.windows` gives. Of NumPy's arrays, or of JAX's."""
    xp = jnp if isinstance(end, jax.Array) else np
    age = xp.arange(size)[::-1]
    at = end[..., None] - age
    mask = (at >= first[..., None]) & (age < context[..., None])
    state, action, reward = (column[xp.clip(at, 0, len(column) - 1)] for column in rows)
    across = mask[..., None]
    return Window(xp.where(across, state, 0), xp.where(across, action, 0), xp.where(mask, reward, 0), mask)
