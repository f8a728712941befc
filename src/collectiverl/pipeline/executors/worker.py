"""What a worker on another machine does: one stage, from the store and to the store."""

import atexit
import hashlib
import importlib.metadata
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from collectiverl.artifacts import checkpoints, manifests, paths
from collectiverl.artifacts.store import Store
from collectiverl.artifacts.uploads import uploading
from collectiverl.envs import registry
from collectiverl.pipeline.executor import Progress, run_logged, use_threads
from collectiverl.stages.base import Stage
from collectiverl.types import StageFailed, UserError

PACKAGE = Path(__file__).parents[2]
PREFIX = "collectiverl-"  # of a worker's folder, before the number of its process
TELL_EVERY = 1.0  # seconds between two reports of progress
LOG_TAIL = 20_000  # characters of a log that are sent back

Tell = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One attempt at a stage, all that a worker must know."""

    stage: Stage
    url: str  # of the run's store
    run: str  # the run's folder on the driver's machine, for messages
    inputs: Mapping[str, str]  # folder -> identity
    source: str  # of the driver's package
    registered: bytes  # tasks and suites of the user
    checkpoint_every: float = checkpoints.SECONDS
    upload_every: float = 60.0  # seconds from the end of an upload to the next


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended. Errors are values: a cluster must not take them for the death of a worker."""

    user: str = ""  # a message for the user, who can mend something
    defect: str = ""  # of the package
    log: str = field(default="", repr=False)  # the end of what the stage printed, where it failed


@cache
def source() -> str:
    """The version of this package and a hash of its code."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes())
    return f"{importlib.metadata.version('collectiverl')} ({digest.hexdigest()[:12]})"


def mismatch(where: str, found: str, wanted: str) -> str:
    """What to tell a user whose machines have different versions."""
    return (
        f"{where} has collectiverl {found}, and this machine {wanted}: results of different code must not mix. "
        "Install the same version on all of them"
    )


def perform(task: Task, tell: Tell) -> Outcome:
    """Does the stage, unless its result is in the store."""
    if source() != task.source:
        return Outcome(user=mismatch(f"the machine {os.uname().nodename}", source(), task.source))
    folder = _folder()
    log = folder / paths.log(task.stage.out)
    try:
        use_threads(1)
        registry.restore(task.registered)
        _perform(task, folder, tell)
    except UserError as error:
        return Outcome(user=str(error).replace(str(folder), task.run), log=_tail(log))
    except StageFailed as error:
        return Outcome(defect=str(error).replace(str(folder), task.run), log=_tail(log))
    return Outcome()


def _perform(task: Task, folder: Path, tell: Tell) -> None:
    store, out = Store(task.url), task.stage.out
    for name, identity in task.inputs.items():
        _fetch(store, folder, name, identity)
    shutil.rmtree(folder / out, ignore_errors=True)  # of an earlier attempt of this process
    work = manifests.partial(folder / out)
    if store.has(out):
        store.get(out, folder / out)
    else:
        store.get_checkpoint(out, work)
    checkpoints.SECONDS = task.checkpoint_every
    with uploading(store, out, work, task.upload_every):
        run_logged(folder, task.stage, watch=_seldom(tell))
    store.put(folder / out, out)
    store.drop_checkpoints(out)


def _fetch(store: Store, folder: Path, name: str, identity: str) -> None:
    """Makes an input of this identity a sealed folder here; those of earlier stages are still there."""
    if manifests.is_sealed(folder / name) and manifests.identity(folder / name) == identity:
        return
    store.get(name, folder / name)
    if manifests.identity(folder / name) != identity:
        raise UserError(
            f"{name} in {store.url} is not the one that the run has: choose another run name with --run, "
            "or pass --overwrite"
        )


def _seldom(tell: Tell) -> Tell:
    """Reports of a stage, at most one in `TELL_EVERY` seconds; notices are always told."""
    last = -TELL_EVERY

    def told(progress: Progress) -> None:
        nonlocal last
        if progress.notice or time.monotonic() - last >= TELL_EVERY:
            last = time.monotonic()
            tell(progress)

    return told


@cache
def _folder() -> Path:
    """This process's own folder on the disk of its machine; those of processes that are gone are removed."""
    root = Path(tempfile.gettempdir())
    for old in root.glob(f"{PREFIX}[0-9]*"):
        if not Path("/proc", old.name.removeprefix(PREFIX)).exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = root / f"{PREFIX}{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_TAIL:] if log.is_file() else ""
