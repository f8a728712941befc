"""Files of episodes, and the episodes in one: immutable HDF5, contiguous and uncompressed, read through memory maps.

A shard holds its episodes one behind the other: `obs` has T+1 rows an episode, every other column T.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Int

from collectiverl.artifacts.files import parse_json, unreadable, write_atomically
from collectiverl.data import hdf5
from collectiverl.types import PHASES, Episode, ValueUnit

PER_STEP = ("action", "reward", "success")
LABELS = ("mean", "log_std", "q")
NEEDED, TAUGHT = {"obs", *PER_STEP}, {f"teacher_{name}" for name in LABELS}  # columns
VECTORS = ("obs", "action", "teacher_mean", "teacher_log_std")  # of two axes
ABOUT = ("task", "phase", "seed", "goal", "terminated")
UNIT = "value_unit"  # of `teacher_q`; None: the episode has none


def _columns(episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    """The columns of a shard, by name: those of the episodes, one behind the other."""
    columns = {name: np.concatenate([getattr(e, name) for e in episodes]) for name in ("obs", *PER_STEP)}
    labels = [e.labels for e in episodes if e.labels is not None]
    if len(labels) not in (0, len(episodes)):
        raise ValueError("either all episodes of a shard are labelled, or none")
    for name in LABELS:
        rows = [row for label in labels if (row := getattr(label, name)) is not None]
        if len(rows) not in (0, len(episodes)):
            raise ValueError(f"either all labels of a shard have {name}, or none")
        if rows:
            columns[f"teacher_{name}"] = np.concatenate(rows)
    return columns


def _unit(episode: Episode) -> ValueUnit | None:
    return None if episode.labels is None or episode.labels.q is None else episode.labels.unit


def write_shard(path: Path, episodes: Sequence[Episode], policy_hash: str) -> None:
    shard, buffer = Shard.of(episodes), io.BytesIO()
    with h5py.File(buffer, "w", libver="earliest") as file:
        for name, column in shard.columns.items():
            file.create_dataset(name, data=column)
        file.create_dataset("length", data=shard.length)
        file.attrs["episodes"] = json.dumps(shard.about)
        file.attrs["policy_hash"] = policy_hash
    write_atomically(path, buffer.getvalue())


def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("episodes-*.h5"))


@dataclass(frozen=True)
class Shard:
    """The episodes of one file, its columns as views of one memory map; or episodes in memory."""

    columns: dict[str, np.ndarray]
    length: Int[np.ndarray, "episodes"]
    about: list[dict]

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> "Shard":
        """Either all episodes are labelled, and with the same kinds of labels, or none."""
        about = [{name: getattr(e, name) for name in ABOUT} | {UNIT: _unit(e)} for e in episodes]
        return cls(_columns(episodes), np.asarray([len(e) for e in episodes], np.int64), about)

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """The episodes of a file.

        Raises:
            UserError: it cannot be read, is damaged, or holds something else than episodes.
        """
        try:
            places, attributes = hdf5.read(path)
            content = np.memmap(path, np.uint8, "r")  # one for all columns: each map holds a file open
            columns = {name: _column(content, place) for name, place in places.items()}
            length = columns.pop("length", np.zeros(0))
            about = parse_json(attributes.get("episodes", "").encode())
            _check(columns, length, about)
        except (ValueError, OSError) as error:
            damaged = f"is missing or corrupt ({error}): delete {path.parent} and run its stage again"
            raise unreadable(path, error, damaged) from error
        return cls(columns, np.asarray(length), about)


def _check(columns: Mapping[str, np.ndarray], length: np.ndarray, about: Any) -> None:
    """Raises ValueError unless these are the columns of whole episodes."""
    if not NEEDED <= columns.keys() <= NEEDED | TAUGHT:
        raise ValueError(f"it has other columns than episodes: {', '.join(sorted(columns))}")
    if length.dtype != np.int64 or length.ndim != 1 or (length < 0).any():
        raise ValueError("it does not say how long its episodes are")
    if not isinstance(about, list) or len(about) != len(length) or not all(map(_is_about, about)):
        raise ValueError("it does not say what its episodes are")
    rows = sum(map(int, length))
    for name, column in columns.items():
        expected = rows + len(length) if name == "obs" else rows
        if len(column) != expected or column.ndim != (2 if name in VECTORS else 1):
            raise ValueError(f"column {name} is of shape {column.shape}, {expected} rows were expected")
        if (column.dtype == bool) != (name == "success") or column.dtype == np.int64:
            raise ValueError(f"column {name} is of {column.dtype}")
    if (np.asarray(columns["success"]).view(np.uint8) > 1).any():
        raise ValueError("column success is neither true nor false somewhere")


def _is_about(row: Any) -> bool:
    """Whether this says of an episode what `ABOUT` names, and the unit of its values, if at all."""
    kinds = dict(zip(ABOUT, (str, str, int, int, bool), strict=True))
    if not isinstance(row, dict) or not kinds.keys() <= row.keys() <= kinds.keys() | {UNIT}:
        return False
    unit = row.get(UNIT)
    known = unit is None or (
        isinstance(unit, list) and len(unit) == 2 and all(type(n) in (int, float) for n in unit)
    )
    return known and row["phase"] in PHASES and all(type(row[name]) is kind for name, kind in kinds.items())


def _column(content: np.ndarray, place: hdf5.Place) -> np.ndarray:
    """A view of what a file holds."""
    if place.offset is None:
        return np.zeros(place.shape, place.dtype)
    return np.frombuffer(content, place.dtype, math.prod(place.shape), place.offset).reshape(place.shape)
