"""Saving and loading pytrees as safetensors, and a stage's checkpoints. No pickle anywhere."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from collectiverl.artifacts import notices
from collectiverl.artifacts.contents import Damaged, check_file, check_list, files_in, hashes
from collectiverl.artifacts.files import NotRead, read_object, write_json
from collectiverl.artifacts.paths import METRICS
from collectiverl.artifacts.tensors import load_arrays, not_finite, save_arrays
from collectiverl.types import UserError

T = TypeVar("T")
SECONDS = 30.0  # from one checkpoint to the next
# of this process; told the folder in which a checkpoint was written
WATCHERS: list[Callable[[Path], None]] = []
CHECKPOINT, FILES = "checkpoint", "files.json"  # its folder, and its list of files


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
    save_arrays(path, arrays_of(tree))


def arrays_of(tree: Any) -> dict[str, np.ndarray]:
    """Every array of a pytree, by its path in the tree."""
    return {name: np.asarray(leaf) for name, leaf in _named_leaves(tree).items() if _is_array(leaf)}


def check_finite(tree: Any, when: str) -> None:
    """No number of a pytree is nan or infinite, such as a loss or the state of a training.

    Args:
        when: for the message, such as `after 300 updates`.

    Raises:
        FloatingPointError: one is; it is named.
    """
    numbers = {name: x for name, x in _named_leaves(tree).items() if _is_array(x) or isinstance(x, float)}
    if name := not_finite(numbers):
        raise FloatingPointError(f"{name} is not finite {when}")


def load_tree(path: Path, like: T) -> T:
    """The tree saved at `path`, in the structure of `like`; names, shapes and dtypes must agree.

    Weights that were stored in half precision become the single precision that `like` has.
    """
    saved = load_arrays(path)
    expected = {k: v for k, v in _named_leaves(like).items() if _is_array(v)}
    if saved.keys() != expected.keys():
        odd = sorted(saved.keys() ^ expected.keys())
        raise UserError(
            f"{path} is of another structure (first difference: {odd[0]}): it was made with other settings"
        )
    for name, leaf in expected.items():
        saved[name] = _widened(saved[name], leaf)
        if saved[name].shape != leaf.shape or saved[name].dtype != leaf.dtype:
            raise UserError(
                f"{path} holds {name} as {saved[name].dtype}{saved[name].shape}, "
                f"but {leaf.dtype}{leaf.shape} is needed: it was made with other settings"
            )
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _restored(saved.get(_name(path)), leaf), like)


def _widened(saved: np.ndarray, like: Any) -> np.ndarray:
    is_half = saved.dtype == np.float16 and like.dtype == np.float32
    return saved.astype(np.float32) if is_half else saved


def _restored(saved: np.ndarray | None, like: Any) -> Any:
    """The saved array as the kind of leaf that `like` is; what is no array was not saved, and stays."""
    if saved is None:
        return like
    return saved if isinstance(like, np.ndarray | np.generic) else jax.numpy.asarray(saved)


# -- checkpoints -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def checkpoint(work: Path) -> Iterator[Path]:
    """A fresh folder that becomes the checkpoint in a stage's working folder once it is whole.

    The one before is kept. A checkpoint lists its files with their checksums, and has what was logged until then.
    """
    new, current, before = (work / f"{CHECKPOINT}{suffix}" for suffix in (".new", "", ".old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    yield new
    if (work / METRICS).is_file():
        shutil.copy(work / METRICS, new / METRICS)
    write_json(new / FILES, {"files": hashes(new, files_in(new))})
    if current.exists():
        shutil.rmtree(before, ignore_errors=True)
        current.rename(before)
    new.rename(current)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint; None: it is as it was written.

    Raises:
        NotRead: a file cannot be read, and may be whole.
    """
    try:
        record = read_object(folder / FILES)
        listed = check_list(record.get("files"))
        if odd := {*files_in(folder)} - {*listed, FILES}:
            raise Damaged(f"{folder / min(odd)} is no part of it")
        for name, hashed in listed.items():
            check_file(folder, name, hashed)
    except NotRead:
        raise
    except (Damaged, UserError) as error:
        return str(error)
    return None


def latest_checkpoint(work: Path) -> Path | None:
    """The last checkpoint that is whole, if there is any; what was logged until then is put back beside it.

    One that is damaged is removed, with a notice, and the one before is taken.

    Raises:
        UserError: none of those that are there is whole.
    """
    wrong = []
    for folder in (work / CHECKPOINT, work / f"{CHECKPOINT}.old"):
        if not folder.is_dir():
            continue
        if found := damage(folder):
            wrong.append((folder, found))
            continue
        for damaged, why in wrong:
            shutil.rmtree(damaged)
            notices.tell(f"{damaged} is damaged ({why}): going on from the one before")
        if (folder / METRICS).is_file():
            shutil.copy(folder / METRICS, work / METRICS)
        return folder
    if wrong:
        raise UserError(
            f"no checkpoint in {work} is whole ({wrong[0][1]}): pass --overwrite to begin this stage anew"
        )
    return None


class Checkpoints:
    """The checkpoints of one stage, or of a part of it, written by time; the last two are kept.

    Args:
        work: the working folder; None: nothing is written.
    """

    def __init__(self, work: Path | None):
        self.work, self._written = work, time.monotonic()
        self._found: Path | None = None  # that was checked, or written by this process

    @property
    def latest(self) -> Path | None:
        """The last one that is whole; see `latest_checkpoint`."""
        if self._found is None and self.work:
            self._found = latest_checkpoint(self.work)
        return self._found

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
        self._found, self._written = self.work / CHECKPOINT, time.monotonic()
        for told in WATCHERS:
            told(self.work)


def part(work: Path | None, name: str) -> Path | None:
    """A folder for the checkpoints and metrics of one part of a stage, where another part has `work` itself."""
    if work is None:
        return None
    folder = work / name
    folder.mkdir(exist_ok=True)
    return folder
