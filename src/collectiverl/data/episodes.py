"""Episodes on disk: the episodes of several shards as one table, and windows of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from collectiverl.artifacts.files import allow_many_open
from collectiverl.artifacts.sealed import listed
from collectiverl.data.shards import ABOUT, PER_STEP, UNIT, Shard, paths, write_shard
from collectiverl.types import Episode, Labels, UserError, ValueUnit, Window

SHARD_SIZE = 50  # episodes


def write(folder: Path, episodes: Iterable[Episode], *, policy_hash: str = "") -> int:
    """Writes shards `episodes-00000.h5`, … behind those already in `folder`; returns how many episodes."""
    folder.mkdir(parents=True, exist_ok=True)
    shard, count = len(paths(folder)), 0
    waiting: list[Episode] = []
    for episode in episodes:
        waiting.append(episode)
        count += 1
        if len(waiting) == SHARD_SIZE:
            write_shard(folder / f"episodes-{shard:05d}.h5", waiting, policy_hash)
            shard, waiting = shard + 1, []
    if waiting:
        write_shard(folder / f"episodes-{shard:05d}.h5", waiting, policy_hash)
    return count


class EpisodeTable:
    """The episodes of several shards as one table; windows of them are gathered by vectorised indices."""

    _hidden: tuple[int, ...] = ()  # entries of the observations that read as zero

    def __init__(self, shards: Sequence[Shard]):
        self.shards = shards
        self.about = [row for shard in shards for row in shard.about]
        self.length = np.concatenate([s.length for s in shards]) if shards else np.zeros(0, np.int64)
        self._shard = np.repeat(np.arange(len(shards)), [len(s.length) for s in shards])
        starts = [np.cumsum(s.length) - s.length for s in shards]
        self._start = np.concatenate(starts) if starts else np.zeros(0, np.int64)
        self._row = np.concatenate([np.arange(len(s.length)) for s in shards]) if shards else self._start

    @classmethod
    def open(cls, *folders: Path) -> "EpisodeTable":
        """All shards in these folders; in sealed ones, those that their manifest lists."""
        files = [path for folder in folders for path in listed(folder, paths(folder))]
        if not files:
            raise UserError(f"no episodes in {', '.join(map(str, folders))}: run the stage that records them")
        allow_many_open()  # each shard holds its file open
        shards = [Shard.open(path) for path in files]
        widths = [tuple(shard.columns[name].shape[1] for name in ("obs", "action")) for shard in shards]
        for path, width in zip(files, widths, strict=True):
            if width != widths[0]:
                raise UserError(
                    f"{path} has observations or actions of another length than {files[0]}: leave one out"
                )
        return cls(shards)

    @classmethod
    def join(cls, tables: Sequence["EpisodeTable"]) -> "EpisodeTable":
        """Several tables as one, in their order; all hide the same entries."""
        hidden = {table._hidden for table in tables}
        if len(hidden) > 1:
            raise ValueError(f"tables that hide different entries cannot be joined: {sorted(hidden)}")
        joined = cls.__new__(cls)
        joined._hidden = hidden.pop()
        joined.shards = [shard for table in tables for shard in table.shards]
        joined.about = [row for table in tables for row in table.about]
        firsts = np.cumsum([0, *(len(table.shards) for table in tables)])
        joined._shard = np.concatenate([t._shard + first for t, first in zip(tables, firsts, strict=False)])
        for name in ("length", "_start", "_row"):
            setattr(joined, name, np.concatenate([getattr(table, name) for table in tables]))
        return joined

    def __len__(self) -> int:
        return len(self.length)

    @cached_property
    def tasks(self) -> list[str]:
        return [row["task"] for row in self.about]

    def subset(self, ids: Sequence[int] | np.ndarray) -> "EpisodeTable":
        """A table of some of these episodes, on the same shards."""
        table = EpisodeTable.__new__(EpisodeTable)
        table.shards, table.about = self.shards, [self.about[i] for i in ids]
        for name in ("length", "_shard", "_start", "_row"):
            setattr(table, name, getattr(self, name)[np.asarray(ids, int)])
        table._hidden = self._hidden
        return table

    def hiding(self, entries: Sequence[int]) -> "EpisodeTable":
        """The same episodes with these entries of their observations zero, as for one from whom the goal is hidden."""
        table = self.subset(range(len(self)))
        table._hidden = tuple(sorted({*self._hidden, *entries}))
        return table

    def __getitem__(self, i: int | np.integer) -> Episode:
        shard, start, steps = self.shards[self._shard[i]], self._start[i], self.length[i]
        rows = slice(start, start + steps)
        first = start + self._row[i]
        column = shard.columns
        labels = None
        if "teacher_mean" in column:
            mean, log_std = (np.asarray(column[f"teacher_{name}"][rows]) for name in ("mean", "log_std"))
            q = np.asarray(column["teacher_q"][rows]) if "teacher_q" in column else None
            labels = Labels(mean, log_std, q, self._unit(i))
        return Episode(
            obs=self._shown(np.asarray(column["obs"][first : first + steps + 1])),
            **{name: np.asarray(column[name][rows]) for name in PER_STEP},
            labels=labels,
            **{name: self.about[i][name] for name in ABOUT},
        )

    def _unit(self, i: int | np.integer) -> ValueUnit | None:
        unit = self.about[i].get(UNIT)  # missing in files written before units were stored
        return None if unit is None else ValueUnit(*unit)

    def value_unit(self) -> ValueUnit | None:
        """The unit in which most episodes have their `teacher_q`, of equals the first; None if none has one."""
        units = Counter(unit for i in range(len(self)) if (unit := self._unit(i)) is not None)
        return max(units, key=units.__getitem__, default=None)

    def values(self, unit: ValueUnit) -> Float[np.ndarray, "steps"]:
        """`teacher_q` of every step, one episode behind the other; nan where there is none in this unit.

        Values whose unit was not stored are taken to be in it.
        """
        fits = [self._unit(i) in (None, unit) for i in range(len(self))]
        values = self.column("teacher_q", missing=np.nan)
        return np.where(np.repeat(fits, self.length), values, np.float32(np.nan))

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def _gather(self, name: str, episode: Int[np.ndarray, "B"], step: Int[np.ndarray, "B *L"]) -> np.ndarray:
        """Rows `step` of column `name` of each episode; `step` counts from its episode's start."""
        extra = self._row[episode] if name == "obs" else 0
        rows = (self._start[episode] + extra).reshape(-1, *[1] * (step.ndim - 1)) + step
        sample = self.shards[0].columns[name]
        out = np.empty((*step.shape, *sample.shape[1:]), sample.dtype)
        owner = self._shard[episode]
        for shard in np.unique(owner):
            chosen = owner == shard
            out[chosen] = self.shards[shard].columns[name][rows[chosen]]
        return self._shown(out) if name == "obs" else out

    def _shown(self, obs: Float[np.ndarray, "*rows O"]) -> Float[np.ndarray, "*rows O"]:
        if not self._hidden:
            return obs
        shown = obs.copy()
        shown[..., list(self._hidden)] = 0
        return shown

    def windows(
        self,
        episode: Int[np.ndarray, "B"],
        end: Int[np.ndarray, "B"],
        size: int,
        state_index: Sequence[int],
        context: Int[np.ndarray, "B"] | None = None,
    ) -> Window:
        """The windows of `size` steps whose last state is state `end` (0 … T) of `episode`.

        With `context`, only that many of the last steps (1 … size) are shown; the others are padding.
        """
        at = end[:, None] - np.arange(size)[::-1]
        shown = at >= 0
        if context is not None:
            shown &= np.arange(size)[::-1] < context[:, None]
        has_action = shown & (at >= 1)  # no action led to an episode's first state
        state = self._gather("obs", episode, np.maximum(at, 0))[..., list(state_index)]
        before = np.maximum(at - 1, 0)
        action, reward = self._gather("action", episode, before), self._gather("reward", episode, before)
        return Window(
            np.where(shown[..., None], state, 0),
            np.where(has_action[..., None], action, 0),
            np.where(has_action, reward, np.where(shown, np.float32(np.nan), np.float32(0))),
            shown,
        )

    def column(self, name: str, missing: float | None = None) -> Shaped[np.ndarray, "steps ..."]:
        """A per-step column of all episodes, one behind the other.

        Shards without it give `missing`, or, where that is None, a UserError.
        """
        parts = []
        for shard, start, steps in zip(self._shard, self._start, self.length, strict=True):
            columns = self.shards[int(shard)].columns
            if name in columns:
                parts.append(columns[name][start : start + steps])
            elif missing is not None:
                parts.append(np.full(steps, missing, np.float32))
            else:
                raise UserError(f"these episodes have no {name}: label them with a teacher first")
        return np.concatenate(parts)


def relabel(episodes: Iterable[Episode], label: Callable[[Episode], Labels]) -> Iterator[Episode]:
    """The same episodes with a teacher's labels."""
    return (replace(episode, labels=label(episode)) for episode in episodes)
