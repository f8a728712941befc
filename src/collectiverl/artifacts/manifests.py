"""The manifest of a sealed folder: how its result was made, and the checksums of its files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collectiverl.artifacts.contents import Damaged, check_list, times
from collectiverl.artifacts.files import read_json, write_json
from collectiverl.artifacts.paths import MANIFEST, METRICS, SUMMARY
from collectiverl.types import UserError

SEAL = "seal"  # a hash of all else in a manifest
TIMED = (METRICS, "tensorboard")  # files and folders that hold times
TIMES = (  # in summaries; memory and load differ as times do
    *("seconds", "core_seconds", "wall_seconds"),
    *("stage_seconds", "stage_core_seconds", "stage_load", "stage_memory"),
)
KEYS = {
    *("stage", "format", "config", "inputs", "seed", "runtime", "versions", "commit", "seconds", "created"),
    *("core_seconds", "load", "peak_memory"),
    *("files", "times", SEAL),
}


def partial(out: Path) -> Path:
    """The working folder of the stage that will be sealed as `out`."""
    return out.parent / f"{out.name}.partial"


def is_sealed(out: Path) -> bool:
    return (out / MANIFEST).is_file()


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
    needed = {"config", "inputs", "files"}
    if not isinstance(record, dict) or not needed <= record.keys() <= KEYS:
        raise UserError(f"{path} is no manifest: {again(out)}")
    if not all(isinstance(record[name], dict) for name in ("config", "inputs")):
        raise UserError(f"{path} is no manifest: {again(out)}")
    if SEAL in record and not is_whole(record):  # manifests of earlier versions have none
        raise UserError(f"{path} is damaged (its own checksum does not fit): {again(out)}")
    try:
        check_list(record["files"])
    except Damaged as error:
        raise UserError(f"{path} is no manifest ({error}): {again(out)}") from error
    return record


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
