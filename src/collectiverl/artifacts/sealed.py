"""Sealed directories: written under a temporary name, verified by checksum, never changed again.

A stage's folder is `<out>.partial/` while it works (checkpoints live there) and becomes `<out>/` when its
`manifest.json` is complete. Nothing unsealed is ever read as a result.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from collectiverl.artifacts import provenance
from collectiverl.artifacts.paths import DISTILLATION, MANIFEST, METRICS, SUMMARY
from collectiverl.types import UserError

INTENT = ".intent.json"  # what a stage said when it began
RESUMABLE = (
    *("checkpoint", "checkpoint.old", METRICS, "tensorboard", DISTILLATION),
    *(".lock", INTENT),
)
TIMED = (METRICS, "tensorboard")  # files and folders that hold times
TIMES = (
    "seconds",
    "core_seconds",
    "stage_seconds",
    "stage_memory",
)  # in summaries; memory differs as times do
FORMAT = 1  # of a stage whose format was never changed


def partial(out: Path) -> Path:
    """The working folder of the stage that will be sealed as `out`."""
    return out.parent / f"{out.name}.partial"


def to_jsonable(config: Any) -> Any:
    """A config as JSON sees it, for comparing and saving."""
    value = dataclasses.asdict(config) if dataclasses.is_dataclass(type(config)) else config
    return json.loads(json.dumps(value, default=str))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Writes all of `data` to `path` or nothing: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"{path} is not readable JSON ({error}): delete its folder and run the stage again"
        ) from error


# -- manifests ---------------------------------------------------------------------------------------------


def manifest(out: Path) -> dict[str, Any]:
    """The manifest of a sealed directory.

    Raises:
        UserError: the directory is missing or not sealed.
    """
    if not (out / MANIFEST).is_file():
        hint = f" ({partial(out).name} is there: the stage was interrupted)" if partial(out).exists() else ""
        raise UserError(f"{out} is not a finished result{hint}")
    record = read_json(out / MANIFEST)
    if not isinstance(record, dict) or not {"config", "inputs", "files"} <= record.keys():
        raise UserError(f"{out / MANIFEST} is no manifest: delete {out} and run its stage again")
    return record


def is_sealed(out: Path) -> bool:
    return (out / MANIFEST).is_file()


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


def verify(out: Path) -> dict[str, Any]:
    """The manifest of `out`, after the checksums of all its files were compared."""
    record = manifest(out)
    for name, expected in record["files"].items():
        path = out / name
        if not path.is_file():
            raise UserError(f"{path} is missing: delete {out} and run its stage again")
        if sha256(path) != expected:
            raise UserError(
                f"{path} is corrupt (its sha256 does not fit the manifest): delete {out} and run its stage again"
            )
    return record


def differences(expected: Any, found: Any, prefix: str = "") -> list[str]:
    """Names of the settings in which two configs differ, with both values; both as JSON sees them."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = sorted(expected.keys() | found.keys())
        return [d for k in keys for d in differences(expected.get(k), found.get(k), f"{prefix}{k}.")]
    return [] if expected == found else [f"{prefix.rstrip('.')}: {found!r} there, {expected!r} now"]


def check_fits(
    folder: Path, record: Mapping[str, Any], config: Any, inputs: Mapping[str, str], format: int = FORMAT
) -> None:
    """Raises if a stage's folder was made with another configuration, from other inputs, or in another format."""
    changed = [
        *differences({"format": format}, {"format": record.get("format", FORMAT)}),
        *differences(to_jsonable(config), record["config"]),
        *differences(dict(inputs), record["inputs"], "input "),
    ]
    if changed:
        raise UserError(
            f"{folder} was made with other settings ({'; '.join(changed[:3])}): "
            "pass --overwrite to make it anew, or choose another run name with --run"
        )


def fits(out: Path, config: Any, inputs: Mapping[str, str], format: int = FORMAT) -> bool:
    """True if `out` is sealed and fits; refuses one that does not fit."""
    if not is_sealed(out):
        return False
    check_fits(out, manifest(out), config, inputs, format)
    return True


def now() -> str:
    """The time in UTC, as records have it."""
    return time.strftime("%FT%TZ", time.gmtime())


# -- stages ------------------------------------------------------------------------------------------------


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
    file: IO[str] = (folder / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UserError(
            f"{folder} is in use by another process: wait for it, or choose another run name"
        ) from error
    try:
        yield
    finally:
        file.close()


def begun(out: Path) -> dict[str, Any]:
    """What a sealed or interrupted stage said when it began; empty if there is none."""
    if is_sealed(out):
        return manifest(out)
    intent = partial(out) / INTENT
    return read_json(intent) if intent.is_file() else {}


@contextlib.contextmanager
def stage(
    out: Path,
    *,
    name: str,
    config: Any,
    inputs: Mapping[str, str],
    seed: int = 0,
    format: int = FORMAT,
    overwrite: bool = False,
) -> Iterator[Path]:
    """The folder in which a stage works; sealed as `out` when the block ends without an exception.

    An interrupted stage's folder of the same configuration is handed out again, checkpoints and all.
    """
    work, began = partial(out), time.time()
    with lock(work):
        intent = work / INTENT
        if overwrite:
            shutil.rmtree(out, ignore_errors=True)
            _clear(work, but=(".lock",))
        if intent.is_file():
            check_fits(work, read_json(intent), config, inputs, format)
        record = {
            "stage": name,
            "format": format,
            "config": to_jsonable(config),
            "inputs": dict(inputs),
            "seed": seed,
            "runtime": provenance.runtime({} if overwrite else begun(out).get("runtime")),
        }
        _clear(work, but=RESUMABLE)
        write_atomically(intent, json.dumps(record).encode())
        provenance.forget_peak_memory()
        yield work
        seconds = time.time() - began
        record |= {
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "seconds": round(seconds, 3),
            "peak_memory": provenance.peak_memory(),
            "created": now(),
        }
        _seal(work, out, record)


def _clear(work: Path, but: tuple[str, ...]) -> None:
    """Removes the files of an earlier attempt, except those that this attempt resumes from."""
    for path in work.iterdir():
        if path.name not in but:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _seal(work: Path, out: Path, record: dict[str, Any]) -> None:
    for checkpoint in [path for path in work.rglob("checkpoint*") if path.is_dir()]:
        shutil.rmtree(checkpoint)
    (work / INTENT).unlink(missing_ok=True)
    files = sorted(p for p in work.rglob("*") if p.is_file() and p.name != ".lock")
    record["files"] = {str(p.relative_to(work)): sha256(p) for p in files}
    write_atomically(work / MANIFEST, json.dumps(record, indent=1).encode())
    shutil.rmtree(out, ignore_errors=True)
    work.replace(out)
    (out / ".lock").unlink(missing_ok=True)  # held until here: nobody else works in between
