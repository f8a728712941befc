"""Files are written whole, and read with suspicion: one reader of JSON and one of YAML, for all files of this package.

A file may be damaged, or made by somebody else. Whatever it holds, reading it ends within a second, in a value or in
one message: its size and its nesting have limits, a name may occur once, and nothing but plain values is made of it.
"""

import contextlib
import errno
import hashlib
import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from collectiverl.types import UserError

MOST_JSON, MOST_YAML = 1 << 22, 1 << 16  # bytes of a file, which are read in a moment
MOST_NESTED = 40  # lists and mappings within each other
MOST_NAME = 1024  # characters of a name or text in YAML
MOST_OPEN = 1 << 16  # files that a process may hold open, where the system lets it
AGAIN = "delete its folder and run the stage again"
GONE = (None, errno.ENOENT, errno.ENOTDIR)  # None: what is there is no file, see `check_regular`
TOO_MANY = "this process may open no more files: raise its limit with 'ulimit -n 65536'"


class NotRead(UserError):
    """The system did not let this process read a file, which may be whole: nothing is deleted because of it."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # in C where there is a library
    """Refuses a name that a mapping has twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            name, line = self.construct_object(key, deep=True), key.start_mark.line + 1
            if not isinstance(name, str):
                raise ValueError(f"{name!r} in line {line} is no name")
            if name in known:
                raise ValueError(f"{name!r} in line {line} is there twice")
            known.add(name)
        return super().construct_mapping(node, deep)


# -- writing -----------------------------------------------------------------------------------------------


def write_atomically(path: Path, data: bytes) -> None:
    """Writes all of `data` to `path` or nothing: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1).encode())


# -- reading -----------------------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    """The hash of a file's content.

    Raises:
        UserError: it cannot be read.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error, f"cannot be read: {error.strerror or error}") from error


def check_regular(path: Path) -> int:
    """The size of a file in bytes.

    Raises:
        OSError: there is none, or it is a folder, a pipe or a device: to read one may never end.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no file")
    return found.st_size


def read_limited(path: Path, most: int) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it has more than `most` bytes.
    """
    size = check_regular(path)
    if size > most:
        raise ValueError(f"it has {size} bytes, and {most} are the most")
    with path.open("rb") as file:
        return file.read(most)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it cannot be read, or it is damaged, too large, nested too deeply, or names something twice.
    """
    try:
        return parse_json(read_limited(path, MOST_JSON))
    except (ValueError, OSError) as error:
        raise unreadable(path, error, f"is not readable JSON ({error}): {AGAIN}") from error


def unreadable(path: Path, error: Exception, damaged: str) -> UserError:
    """What to say of a file that was not read.

    Args:
        damaged: what is said if the file is damaged or missing. Any other error of the system, such as a lack of
            rights, may pass, and deleting the file would lose what it holds.
    """
    if not isinstance(error, OSError) or error.errno in GONE:
        return UserError(f"{path} {damaged}")
    if error.errno == errno.EMFILE:
        return NotRead(f"{path} cannot be read: {TOO_MANY}")
    return NotRead(
        f"{path} cannot be read: {error.strerror or error}; the file itself may be whole, so look at its access "
        "rights and its disk first"
    )


def allow_many_open() -> None:
    """Lets this process open as many files as it may: the usual limit of 1024 is less than the shards of large runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # where even this is not allowed, the limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def parse_json(data: bytes) -> Any:
    """The value of a text in JSON, within the limits above.

    Raises:
        ValueError: it is none.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_depth(value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_NESTED):
        members = (one.values() if isinstance(one, dict) else one for one in level)
        level = [inner for some in members for inner in some if isinstance(inner, dict | list)]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def read_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds whose value is an object.

    Raises:
        UserError: as `read_json`, or it holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object: {AGAIN}")
    return value


def read_yaml(path: Path, name: str = "") -> Any:
    """What a YAML file holds: plain values, without anchors, aliases and tags.

    Args:
        name: of the file in messages; its path without one.

    Raises:
        UserError: it cannot be read, or it is damaged, too large, nested too deeply, or names something twice.
    """
    name = name or str(path)
    try:
        return _parse_yaml(read_limited(path, MOST_YAML).decode())
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{name} is not YAML that can be read: {error}") from error


def _parse_yaml(text: str) -> Any:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"line {line} has an anchor or an alias: write the value in full")
        if getattr(event, "tag", None):
            raise ValueError(f"line {line} has a tag: write a plain value")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MOST_NAME:
            raise ValueError(f"line {line} has a value of more than {MOST_NAME} characters")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_NESTED:
            raise ValueError(f"it is nested too deeply in line {line}")
    try:
        return yaml.load(text, Loader=_Loader)  # a safe loader
    except (
        AttributeError,
        TypeError,
        KeyError,
        IndexError,
    ) as error:  # of values that are nearly dates or numbers
        raise ValueError(f"a value cannot be read ({error})") from error
