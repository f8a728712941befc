"""Checkpoints of a stage at work, copied to a store while it goes on."""

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from collectiverl.artifacts import attempts, checkpoints, sealed
from collectiverl.artifacts.locks import LOCK
from collectiverl.artifacts.store import Store
from collectiverl.types import UserError

OLD = f"{checkpoints.CHECKPOINT}.old"


class Uploads:
    """Uploads a stage's checkpoints, one at a time, at most one in `every` seconds."""

    def __init__(self, store: Store, out: str, work: Path, every: float):
        self.store, self.out, self.work, self.every = store, out, work, every
        self._thread = threading.Thread()  # the last upload; this one never ran
        self._ended = -float("inf")

    def written(self, folder: Path) -> None:
        """A checkpoint was written in `folder`, which is the working folder or a part of it."""
        if self._thread.is_alive() or time.monotonic() - self._ended < self.every:
            return
        copy = self.work.parent / f".upload-{uuid.uuid4().hex[:8]}"
        try:
            snapshot(self.work, copy)
        except (UserError, OSError) as error:
            self._tell(error)
            self._end(copy)
            return
        self._thread = threading.Thread(target=self._upload, args=(copy,), name="upload", daemon=True)
        self._thread.start()

    def _upload(self, copy: Path) -> None:
        try:
            self.store.put_checkpoint(copy, self.out)
        except (UserError, OSError) as error:
            self._tell(error)
        finally:
            self._end(copy)

    def _tell(self, error: Exception) -> None:
        """The stage needs no upload to end: the next one may succeed."""
        print(f"a checkpoint of {self.out} was not uploaded: {error}", flush=True)

    def _end(self, copy: Path) -> None:
        shutil.rmtree(copy, ignore_errors=True)
        self._ended = time.monotonic()

    def wait(self) -> None:
        """Until the upload at work has ended."""
        if self._thread.ident is not None:
            self._thread.join()


def snapshot(work: Path, copy: Path) -> None:
    """What a stage that was killed now would go on from.

    Files of a checkpoint never change once it is whole, so a second name is a copy; logs grow.
    """
    for name in sealed.RESUMABLE:
        top = work / name
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in files:
            relative = path.relative_to(work)
            if path.name == LOCK or OLD in relative.parts:  # the store keeps older ones by itself
                continue
            target = copy / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if relative == Path(attempts.INTENT):
                attempts.write_paused(work, copy)
                continue
            place = _linked if checkpoints.CHECKPOINT in relative.parts else shutil.copyfile
            place(path, target)


def _linked(path: Path, target: Path) -> None:
    """A second name of a file; a copy on a file system that has no second names."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


@contextlib.contextmanager
def uploading(store: Store, out: str, work: Path, every: float) -> Iterator[None]:
    """Checkpoints that are written in the block go to the store, too; `work` is the stage's working folder."""
    uploads = Uploads(store, out, work, every)
    checkpoints.WATCHERS.append(uploads.written)
    try:
        yield
    finally:
        checkpoints.WATCHERS.remove(uploads.written)
        uploads.wait()
