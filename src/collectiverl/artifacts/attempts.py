"""What a stage at work said when it began, and how long its attempts took until now."""

import time
from pathlib import Path
from typing import Any

from collectiverl.artifacts.contents import files_in
from collectiverl.artifacts.files import read_json, write_json
from collectiverl.artifacts.manifests import is_sealed, is_whole, manifest, partial, with_seal
from collectiverl.types import UserError

INTENT = ".intent.json"


def begin(work: Path, record: dict[str, Any], seconds: float) -> float:
    """Writes down what a stage is, and that an attempt begins now, after so many seconds of earlier ones."""
    began = time.time()
    write_json(work / INTENT, with_seal(record | {"began": began, "seconds": seconds}))
    return began


def begun(out: Path) -> dict[str, Any]:
    """What a sealed or interrupted stage said when it began; empty if there is none."""
    return manifest(out) if is_sealed(out) else said(partial(out))


def said(work: Path) -> dict[str, Any]:
    """What the stage that works in this folder said when it began; empty if it said nothing.

    Raises:
        UserError: the file is damaged.
    """
    path = work / INTENT
    if not path.is_file():
        return {}
    record = read_json(path)
    if not isinstance(record, dict) or not is_whole(record):
        raise UserError(f"{path} is damaged: pass --overwrite to begin this stage anew")
    return record


def spent(work: Path) -> float:
    """Seconds of all attempts before this one at the stage that works in this folder."""
    return said(work).get("seconds", 0.0)


def spent_until_now(work: Path) -> float:
    """The same, with the last attempt, which ended no earlier than the last change of a file."""
    before = said(work)
    if not before:
        return 0.0
    if before["began"] is None:  # a copy, see `write_paused`: its files have the times of the copying
        return before["seconds"]
    ended = max((work / name).lstat().st_mtime for name in files_in(work))
    return before["seconds"] + max(0.0, ended - before["began"])


def write_paused(work: Path, copy: Path) -> None:
    """What a stage at work said, as if its attempt ended now: for a copy of its folder, to go on from elsewhere.

    It may lie in a store for days, which are no time of the stage.
    """
    if record := said(work):
        seconds = record["seconds"] + max(0.0, time.time() - (record["began"] or time.time()))
        write_json(copy / INTENT, with_seal(record | {"began": None, "seconds": seconds}))
