"""Segments of labelled episodes, which the collective learns from with a loss at every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from collectiverl.data.episodes import EpisodeTable
from collectiverl.types import AnyArray, Window

SHORTEST = 50  # steps of the smallest bucket of whole episodes; each next one is twice as long


class Batch(NamedTuple):
    """Segments of `T` steps; axes in front of `B`, if there are any, are updates."""

    window: Window  # of T steps; `mask` is False behind an episode's end
    z: Float[AnyArray, "*updates B T Z"]  # of a conditioning that is not trained; else Z is 0
    mean: Float[AnyArray, "*updates B T A"]  # the teacher's labels, see `Labels`
    log_std: Float[AnyArray, "*updates B T A"]
    weight: Float[AnyArray, "*updates B T"]  # of the step in the loss: 0 for padding, else 1


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How a batch is drawn."""

    labels: int  # steps of a batch, padding included
    length: int | None  # steps of a segment; None: whole episodes, batched by similar length
    unrewarded: float  # share of the segments without rewards, so that the policy can act without them


def played(table: EpisodeTable) -> EpisodeTable:
    """The table without its random phase: errors in states that no policy visits say little."""
    wanted = [i for i, row in enumerate(table.about) if row["phase"] != "random"]
    return table.subset(wanted) if wanted else table


class Segments:
    """The steps of a table that have an action, as columns; segments of them are gathered by one index.

    Args:
        z: of each step, from a conditioning that is not trained with the actor.
        share: part of every batch for episodes of `emphasized` tasks; None: all steps are drawn equally often.
    """

    def __init__(
        self,
        table: EpisodeTable,
        state_index: Sequence[int],
        z: Float[np.ndarray, "steps Z"] | None = None,
        *,
        emphasized: Sequence[str] = (),
        share: float | None = None,
    ):
        self.length = table.length.astype(np.int64)
        self.first = np.cumsum(self.length) - self.length
        steps = int(self.length.sum())
        self.state = np.concatenate([e.obs[:-1][:, list(state_index)] for e in table])
        self.action, self.reward = _before(table.column("action")), _before(table.column("reward"))
        self.action[self.first], self.reward[self.first] = 0, np.nan
        self.mean, self.log_std = table.column("teacher_mean"), table.column("teacher_log_std")
        self.z = np.zeros((steps, 0), np.float32) if z is None else z
        self.chance = _chances(table, emphasized, share)

    def __len__(self) -> int:
        return len(self.length)

    def sample(self, rng: np.random.Generator, draw: Draw) -> Batch:
        """One batch; a function of the generator's state alone."""
        length, members = self._shape(rng, draw)
        count = max(1, draw.labels // length)
        chance = self.chance[members] / self.chance[members].sum()
        episode = members[rng.choice(len(members), count, p=chance)]
        spare = self.length[episode] - length
        begin = np.clip(rng.integers(-(length // 2), spare.clip(0) + length // 2 + 1), 0, spare.clip(0))
        batch = self.gather(episode, begin, length)
        blind = rng.random(count) < draw.unrewarded
        reward = np.where(blind[:, None], np.float32(np.nan), batch.window.reward)
        return batch._replace(window=batch.window._replace(reward=reward))

    def _shape(self, rng: np.random.Generator, draw: Draw) -> tuple[int, Int[np.ndarray, "M"]]:
        """The length of this batch's segments, and the episodes to draw them from."""
        if draw.length is not None:
            return draw.length, np.arange(len(self))
        bucket = np.ceil(np.log2(np.maximum(self.length, SHORTEST) / SHORTEST)).astype(int)
        steps = np.bincount(bucket, self.chance)
        chosen = int(rng.choice(len(steps), p=steps / steps.sum()))
        return min(SHORTEST * 2**chosen, int(self.length.max())), np.flatnonzero(bucket == chosen)

    def gather(self, episode: Int[np.ndarray, "B"], begin: Int[np.ndarray, "B"], length: int) -> Batch:
        """The segments of `length` steps from step `begin` of these episodes, padded behind their ends."""
        step = begin[:, None] + np.arange(length)
        mask = step < self.length[episode][:, None]
        row = self.first[episode][:, None] + np.minimum(step, self.length[episode][:, None] - 1)
        window = Window(self.state[row], self.action[row], self.reward[row], mask)
        return Batch(window, self.z[row], self.mean[row], self.log_std[row], mask.astype(np.float32))


def _before(column: Float[np.ndarray, "steps *entries"]) -> Float[np.ndarray, "steps *entries"]:
    """The column shifted by one step: each row is that of the step before."""
    return np.concatenate([column[:1], column[:-1]])


def _chances(
    table: EpisodeTable, emphasized: Sequence[str], share: float | None
) -> Float[np.ndarray, "episodes"]:
    """How often each episode is drawn: in proportion to its length, the emphasized ones to their share."""
    chance = table.length.astype(np.float64)
    chosen = np.isin(table.tasks, emphasized)
    if share is None or not chosen.any() or chosen.all():
        return chance
    parts = ((chosen, share), (~chosen, 1 - share))
    for members, part in parts:
        chance[members] *= part / chance[members].sum()
    return chance
