"""The manifest of a sealed folder: how its result was made, and the checksums of its files."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any

from collectiverl.artifacts.contents import Damaged, check_list, times
from collectiverl.artifacts.files import MOST_JSON, parse_json, read_json, read_limited, write_json
from collectiverl.artifacts.paths import CONFIG, MANIFEST, METRICS, SUMMARY
from collectiverl.types import UserError

SEAL = "seal"  # a hash of all else in a manifest
TIMED = (METRICS, "tensorboard")  # files and folders that hold times
TIMES = (  # in summaries; memory and load differ as times do
    *("seconds", "core_seconds", "wall_seconds"),
    *("stage_seconds", "stage_core_seconds", "stage_load", "stage_memory"),
)
_NUMBER = (int, float)
NEEDED: Mapping[str, tuple[type, ...]] = {  # what each manifest says, and of which type
    "stage": (str,),
    "config": (dict,),
    "inputs": (dict,),
    "seed": (int,),
    "versions": (dict,),
    "seconds": _NUMBER,
    "created": (str,),  # the time in UTC
    "files": (dict, list),  # see `check_list`, which says what is wrong with it
}
KINDS = NEEDED | {  # those of earlier versions lack the rest; what was not measured is None
    "format": (int,),
    "runtime": (dict,),
    "commit": (str, NoneType),
    "core_seconds": (*_NUMBER, NoneType),
    "load": (list, NoneType),
    "peak_memory": (*_NUMBER, NoneType),
    "times": (dict,),
    SEAL: (str,),
}
PARTIAL = ".partial"  # ends the name of the folder of a stage at work


def partial(out: Path) -> Path:
    """The working folder of the stage that will be sealed as `out`."""
    return out.parent / f"{out.name}{PARTIAL}"


def is_sealed(out: Path) -> bool:
    return (out / MANIFEST).is_file()


def sealed_around(folder: Path) -> Path | None:
    """The finished result that a folder is, or lies in; None: it lies in none.

    The search ends at the folder of a stage at work, or of a run. A manifest of another program is passed over: a run
    may lie in any folder.
    """
    for parent in (folder, *folder.parents):
        if parent.name.endswith(PARTIAL):
            return None
        if is_sealed(parent) and not _is_foreign(parent / MANIFEST):
            return parent
        if (parent / CONFIG).is_file():
            return None
    return None


def _is_foreign(path: Path) -> bool:
    """Whether a file named as a manifest has nothing of one; one that cannot be read may be a damaged one."""
    try:
        found = parse_json(read_limited(path, MOST_JSON))
    except (ValueError, OSError):
        return False
    return not isinstance(found, dict) or not NEEDED.keys() & found.keys()


def manifest(out: Path) -> dict[str, Any]:
    """The manifest of a sealed directory; its files are not looked at.

    Raises:
        UserError: the directory is missing or not sealed, or its manifest is damaged.
    """
    path = out / MANIFEST
    if not path.is_file():
        hint = f" ({partial(out).name} is there: the stage was interrupted)" if partial(out).exists() else ""
        raise UserError(f"{out} is not a finished result{hint}")
    record = read_json(path)
    if not isinstance(record, dict) or not NEEDED.keys() & record.keys():
        raise UserError(f"{path} is no manifest of this package: name another folder")
    try:
        _check_fields(record)
        check_list(record["files"])
    except Damaged as error:
        raise UserError(f"{path} is no manifest ({error}): {again(out)}") from error
    if SEAL in record and not is_whole(record):  # manifests of earlier versions have none
        raise UserError(f"{path} is damaged (its own checksum does not fit): {again(out)}")
    return record


def _check_fields(record: Mapping[str, Any]) -> None:
    """Whatever is read of a manifest is there, and of its kind.

    Raises:
        Damaged: something is not.
    """
    if missing := NEEDED.keys() - record.keys():
        raise Damaged(f"it has no {min(missing)}")
    if unknown := record.keys() - KINDS.keys():
        raise Damaged(f"it has a field {min(unknown)!r:.60}")
    for name, value in record.items():
        if not isinstance(value, KINDS[name]) or isinstance(value, bool):
            raise Damaged(f"its {name} is {value!r:.60}")
    try:
        datetime.fromisoformat(record["created"])
    except ValueError:
        raise Damaged("it does not say when it was made") from None


def again(out: Path) -> str:
    return f"delete {out} and run its stage again"


def write_manifest(out: Path, record: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Seals a folder: its files must have these checksums from now on."""
    write_json(out / MANIFEST, with_seal({**record, "files": dict(files), "times": times(out, files)}))


def with_seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its own checksum."""
    rest = {name: value for name, value in record.items() if name != SEAL}
    return rest | {SEAL: hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def is_whole(record: Mapping[str, Any]) -> bool:
    """Whether a record has the checksum that fits it."""
    return with_seal(record)[SEAL] == record.get(SEAL)


def identity(out: Path) -> str:
    """Hash of the content of a sealed directory, for the manifests of the stages that read it.

    It leaves out times: a stage that is made anew with the same result has the same identity.
    """
    record = manifest(out)
    files = dict(record["files"])
    if "format" in record:  # before formats were numbered, the hash was that of all files
        files = {name: hashed for name, hashed in files.items() if not set(Path(name).parts) & set(TIMED)}
        for name in (name for name in files if Path(name).name == SUMMARY):
            files[name] = _timeless(read_json(out / name))
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _timeless(value: Any) -> Any:
    """The same JSON without its times."""
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if name not in TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value
