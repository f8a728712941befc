"""Files and folders that the user names for results: checked before there is work to lose, written whole."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from collectiverl.artifacts.files import write_atomically
from collectiverl.types import UserError


def check_file(flag: str, name: str) -> None:
    """Tries whether a file of this name can be written; it is not changed.

    Raises:
        UserError: it cannot; the message names the flag.
    """
    path = Path(name)
    with _named(flag, name):
        if path.is_dir():  # "" is this one
            raise UserError(f"{flag}: {name!r} is a folder: name a file for the results")
        _make_folder(path.parent)
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError("no write permission")
        if not is_special(name):
            trial = _target(path).with_name(f".{path.name}.{os.getpid()}")  # as `write_atomically` names it
            trial.touch()
            trial.unlink()


def check_folder(flag: str, name: str) -> None:
    """Makes the folder.

    Raises:
        UserError: it cannot be written; the message names the flag.
    """
    if not name:
        raise UserError(f"{flag}: '' is no name of a folder")
    with _named(flag, name):
        _make_folder(Path(name))


def write_file(flag: str, name: str, data: bytes) -> None:
    """Writes all of `data` or nothing; what is no file, such as a pipe, is written as it comes.

    Raises:
        UserError: it cannot be written; the message names the flag.
    """
    with _named(flag, name):
        if is_special(name):
            Path(name).write_bytes(data)
        else:
            write_atomically(_target(Path(name)), data)


def is_readonly(folder: Path) -> bool:
    """Whether a folder is there in which nothing can be written."""
    return folder.is_dir() and not os.access(folder, os.W_OK)


def is_special(name: str) -> bool:
    """Whether it is a device or a pipe, which a renamed file must not replace."""
    return Path(name).exists() and not Path(name).is_file()


def _target(path: Path) -> Path:
    """Where a link points to, so that the link stays."""
    return Path(os.path.realpath(path))


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if is_readonly(folder):
        raise PermissionError("no write permission")


@contextlib.contextmanager
def _named(flag: str, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{flag}: {name!r} cannot be written: {error.strerror or error}") from error
