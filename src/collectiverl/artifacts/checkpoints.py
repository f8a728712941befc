"""Saving and loading pytrees as safetensors, and a stage's checkpoints. No pickle anywhere."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import safetensors
import safetensors.numpy

from collectiverl.artifacts.sealed import write_atomically
from collectiverl.types import UserError

T = TypeVar("T")
SECONDS = 30.0  # from one checkpoint to the next
WATCHERS: list[
    Callable[[Path], None]
] = []  # of this process; told the folder in which a checkpoint was written


def _named_leaves(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {_name(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError("two leaves of this tree would have the same name: no key may hold a dot")
    return named


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def save_tree(path: Path, tree: Any) -> None:
    """Every array of a pytree, by its path in the tree, as one safetensors file."""
    arrays = {k: np.asarray(v, order="C") for k, v in _named_leaves(tree).items() if _is_array(v)}
    write_atomically(path, safetensors.numpy.save(arrays))


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1).encode())


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is missing or corrupt ({error}): delete {path.parent} and run its stage again"
        ) from error


def load_tree(path: Path, like: T) -> T:
    """The tree saved at `path`, in the structure of `like`; names, shapes and dtypes must agree."""
    saved = load_arrays(path)
    expected = {k: v for k, v in _named_leaves(like).items() if _is_array(v)}
    if saved.keys() != expected.keys():
        odd = sorted(saved.keys() ^ expected.keys())
        raise UserError(
            f"{path} is of another structure (first difference: {odd[0]}): it was made with other settings"
        )
    for name, leaf in expected.items():
        if saved[name].shape != leaf.shape or saved[name].dtype != leaf.dtype:
            raise UserError(
                f"{path} holds {name} as {saved[name].dtype}{saved[name].shape}, "
                f"but {leaf.dtype}{leaf.shape} is needed: it was made with other settings"
            )
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _restored(saved.get(_name(path)), leaf), like)


def _restored(saved: np.ndarray | None, like: Any) -> Any:
    """The saved array as the kind of leaf that `like` is; what is no array was not saved, and stays."""
    if saved is None:
        return like
    return saved if isinstance(like, np.ndarray | np.generic) else jax.numpy.asarray(saved)


@contextlib.contextmanager
def checkpoint(work: Path) -> Iterator[Path]:
    """A fresh folder that replaces the checkpoint in a stage's working folder once it is whole."""
    new, current, stale = (work / f"checkpoint{suffix}" for suffix in (".new", "", ".old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    yield new
    if current.exists():
        shutil.rmtree(stale, ignore_errors=True)
        current.rename(stale)
    new.rename(current)
    shutil.rmtree(stale, ignore_errors=True)


def latest_checkpoint(work: Path) -> Path | None:
    """The last whole checkpoint, if there is one."""
    return next((f for f in (work / "checkpoint", work / "checkpoint.old") if f.is_dir()), None)


class Checkpoints:
    """The checkpoints of one stage, or of a part of it, written by time; the last one is kept.

    Args:
        work: the working folder; None: nothing is written.
    """

    def __init__(self, work: Path | None):
        self.work, self._written = work, time.monotonic()

    @property
    def latest(self) -> Path | None:
        return latest_checkpoint(self.work) if self.work else None

    def offer(self, save: Callable[[Path], None]) -> None:
        """Writes a checkpoint with `save` if it is time for one."""
        if time.monotonic() - self._written >= SECONDS:
            self.write(save)

    def write(self, save: Callable[[Path], None]) -> None:
        """Writes a checkpoint now; `save` fills a folder."""
        if self.work is None:
            return
        with checkpoint(self.work) as folder:
            save(folder)
        for told in WATCHERS:
            told(self.work)
        self._written = time.monotonic()


def part(work: Path | None, name: str) -> Path | None:
    """A folder for the checkpoints and metrics of one part of a stage, where another part has `work` itself."""
    if work is None:
        return None
    folder = work / name
    folder.mkdir(exist_ok=True)
    return folder
