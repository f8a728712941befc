"""What a folder should hold: a list of its files with their checksums, and what does not fit that list.

Lists are read from files, and are not trusted either: a name leads to a file within the folder, and to no link.
"""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from collectiverl.artifacts import hub
from collectiverl.artifacts.files import sha256

SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_CHARACTERS = 1_000  # of a name


class Damaged(Exception):
    """A folder does not hold what its list says; the message says what is wrong, and not what to do."""


def files_in(folder: Path) -> list[str]:
    """The names of all files and links below a folder, relative to it; links are not followed."""
    found = []
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        found += [(Path(root) / name).relative_to(folder).as_posix() for name in (*names, *links)]
    return sorted(found)


def hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """A checksum for each of these files."""
    return {name: sha256(folder / name) for name in names}


def synchronise(folder: Path, names: Iterable[str]) -> None:
    """Waits until the disk has these files: logs, films and cards are not written by `write_atomically`."""
    for name in names:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def times(folder: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """Size, and time of the last change in nanoseconds, of each of these files."""
    return {name: _time(folder / name) for name in names}


def _time(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def check_list(files: Any) -> Mapping[str, str]:
    """A list of files, as it was read.

    Raises:
        Damaged: it is empty, a name leads out of the folder, or there is something else than checksums.
    """
    if not isinstance(files, dict) or not files:
        raise Damaged("it lists no files")
    for name, hashed in files.items():
        if not _is_plain(name):
            raise Damaged(f"it lists {name!r:.60}, which is no name of a file in this folder")
        if not isinstance(hashed, str) or not SHA256.fullmatch(hashed):
            raise Damaged(f"it lists {name!r:.60} without a checksum")
    return files


def _is_plain(name: str) -> bool:
    """Whether a name leads down from a folder, the shortest way."""
    path = PurePosixPath(name)
    printable = name.isprintable() and len(name) <= MOST_CHARACTERS
    return (
        bool(path.parts)
        and printable
        and not path.is_absolute()
        and ".." not in path.parts
        and name == str(path)
    )


def check_file(folder: Path, name: str, hashed: str, time: Any = None) -> None:
    """A file of a list is there and has its checksum.

    Args:
        time: the size and time that it was sealed with. If they are still so, it is not read. They change when a
            folder is copied; then it is read, once in the life of this process.

    Raises:
        Damaged: it is missing, it is a link, or its content is another.
    """
    path = folder / name
    if link := _link(folder, name):
        raise Damaged(f"{link} is a link to somewhere else")
    if not path.is_file():
        raise Damaged(f"{path} is missing")
    if time is None:
        found = sha256(path)
    else:
        now = _time(path)
        if now == time:
            return
        found = _hash_at(path, *now)
    if found != hashed:
        raise Damaged(f"{path} is corrupt (its sha256 does not fit)")


@cache
def _hash_at(path: Path, size: int, changed: int) -> str:
    return sha256(path)


def _link(folder: Path, name: str) -> Path | None:
    """The part of a file's path below the folder that is a link; those of the Hub's cache lead to its own files."""
    parts = PurePosixPath(name).parts
    for i in range(len(parts)):
        path = folder.joinpath(*parts[: i + 1])
        if path.is_symlink() and not hub.is_blob(path):
            return path
    return None
