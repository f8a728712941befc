"""Folders in which one process works: writable, and locked for it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from collectiverl.artifacts import notices
from collectiverl.types import UserError

LOCK = ".lock"
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS)  # of the file system
IN_USE = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def make_writable(folder: Path) -> None:
    """Creates `folder`.

    Raises:
        UserError: it cannot be written; the message says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no write permission")
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; choose another folder with --root"
        ) from error


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Locks `folder` for this process; the kernel releases the lock when the process ends."""
    make_writable(folder)
    file: IO[str] = (folder / LOCK).open("a")  # as it is: its time says when an attempt ended
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            file.close()
            raise UserError(_not_locked(folder, error)) from error
        notices.tell(f"the file system of {folder} has no locks: work on this run from one process at a time")
    try:
        yield
    finally:
        file.close()


def _not_locked(folder: Path, error: OSError) -> str:
    if error.errno in IN_USE:
        return f"{folder} is in use by another process: wait for it, or choose another run name"
    return f"{folder} cannot be locked ({error.strerror or error}): choose another folder with --root"
