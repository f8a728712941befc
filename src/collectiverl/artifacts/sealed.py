"""Sealed directories: written under a temporary name, verified by checksum, never changed again.

A stage's folder is `<out>.partial/` while it works (checkpoints live there) and becomes `<out>/` when its
`manifest.json` is complete. Nothing unsealed is ever read as a result.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from collectiverl.artifacts import attempts, notices, provenance, tensors
from collectiverl.artifacts.attempts import INTENT
from collectiverl.artifacts.checkpoints import CHECKPOINT
from collectiverl.artifacts.contents import Damaged, check_file, files_in, hashes, synchronise
from collectiverl.artifacts.files import NotRead
from collectiverl.artifacts.locks import LOCK, lock
from collectiverl.artifacts.manifests import (
    again,
    is_sealed,
    manifest,
    partial,
    sealed_around,
    write_manifest,
)
from collectiverl.artifacts.paths import (
    CARD,
    COLLECTIVE_FIGURES,
    CONFIG,
    DISTILLATION,
    MANIFEST,
    METRICS,
)
from collectiverl.types import UserError

RESUMABLE = (
    *(CHECKPOINT, f"{CHECKPOINT}.old", METRICS, "tensorboard", DISTILLATION),
    *(LOCK, INTENT),
)
FORMAT = 1  # of a stage whose format was never changed
BESIDE = (CARD, CONFIG, COLLECTIVE_FIGURES)  # what `export` writes beside a sealed policy, for people


def to_jsonable(config: Any) -> Any:
    """A config as JSON sees it, for comparing and saving."""
    value = dataclasses.asdict(config) if dataclasses.is_dataclass(type(config)) else config
    return json.loads(json.dumps(value, default=str))


# -- manifests ---------------------------------------------------------------------------------------------


def verify(out: Path) -> dict[str, Any]:
    """The manifest of `out`, after the checksums of all its files were compared.

    Raises:
        UserError: a file is damaged, missing or a link.
    """
    return _checked(out, {})


def check(out: Path) -> dict[str, Any]:
    """The same, but a file whose size and time are those that it was sealed with is not read."""
    return _checked(out, manifest(out).get("times", {}))


def _checked(out: Path, known: Any) -> dict[str, Any]:
    record = manifest(out)
    _check_files(out, record, known if isinstance(known, dict) else {})
    for name in unlisted(out, record):
        notices.tell(
            f"{out / name} is no part of this result, whose manifest does not list it, and is not read"
        )
    return record


def _check_files(out: Path, record: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    try:
        for name, hashed in record["files"].items():
            check_file(out, name, hashed, known.get(name))
    except Damaged as error:
        raise UserError(f"{error}: {again(out)}") from error


def unlisted(out: Path, record: Mapping[str, Any]) -> list[str]:
    """Files in a sealed folder that its manifest does not list; hidden ones and those of `export` are left out."""
    names = (name for name in files_in(out) if name not in record["files"])
    return [n for n in names if n not in (MANIFEST, *BESIDE) and not any(p[0] == "." for p in n.split("/"))]


def holds(out: Path, name: str) -> bool:
    """Whether a sealed folder has a file of this name; one that its manifest does not list is none."""
    return is_sealed(out) and name in manifest(out)["files"]


def listed(folder: Path, found: Iterable[Path]) -> list[Path]:
    """Those of the files below `folder` that may be read: in a sealed folder, those that its manifest lists."""
    out = sealed_around(folder)
    if out is None:
        return list(found)
    names = manifest(out)["files"]
    return [path for path in found if path.relative_to(out).as_posix() in names]


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

    An interrupted stage's folder of the same configuration is handed out again with its checkpoints. `out` is replaced.
    """
    if out.name in ("", ".."):
        raise UserError(f"{out} cannot become the folder of a stage: name a folder of its own")
    work, computed, load = partial(out), time.process_time(), provenance.load()
    with lock(work), _ending(work):
        if overwrite:
            shutil.rmtree(out, ignore_errors=True)
        if overwrite or not (work / INTENT).is_file():  # whose checkpoints these are, nobody knows
            _clear(work, but=(LOCK,))
        if said := attempts.said(work):
            check_fits(work, said, config, inputs, format)
        before = attempts.spent_until_now(work)
        record = {
            "stage": name,
            "format": format,
            "config": to_jsonable(config),
            "inputs": dict(inputs),
            "seed": seed,
            "runtime": provenance.runtime({} if overwrite else attempts.begun(out).get("runtime")),
        }
        _clear(work, but=RESUMABLE)
        began = attempts.begin(work, record, before)
        provenance.forget_peak_memory()
        yield work
        seconds = before + time.time() - began
        record |= {
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "seconds": round(seconds, 3),
            # of an earlier attempt, which was killed, nobody knows what it computed
            "core_seconds": None if before else round(time.process_time() - computed, 3),
            "load": [load, provenance.load()],
            "peak_memory": provenance.peak_memory(),
            "created": now(),
        }
        _seal(work, out, record)


def _clear(work: Path, but: tuple[str, ...]) -> None:
    """Removes the files of an earlier attempt, except those that this attempt resumes from."""
    for path in work.iterdir():
        if path.name not in but:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def _ending(work: Path) -> Iterator[None]:
    """Leaves a trace of when an attempt ended that did not come to its end."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.utime(work / LOCK)
        raise


def _seal(work: Path, out: Path, record: dict[str, Any]) -> None:
    names = [name for name in files_in(work) if _is_result(name)]
    for name in names:
        if Path(name).suffix == tensors.SUFFIX:
            tensors.check_finite(tensors.load_arrays(work / name), work / name)
    synchronise(work, names)
    write_manifest(work, record, hashes(work, names))
    _put_in_place(work, out)


def _is_result(name: str) -> bool:
    """Whether a file of a working folder stays when the stage has ended."""
    *folders, file = name.split("/")
    return file != LOCK and name != INTENT and not any(_is_checkpoint(folder) for folder in folders)


def _is_checkpoint(folder: str) -> bool:
    return folder.startswith(CHECKPOINT)


def _put_in_place(work: Path, out: Path) -> None:
    """From its manifest on, a stage is done: killed in here, it is only put in place when it is started again."""
    for folder in [path for path in work.rglob("*") if path.is_dir() and _is_checkpoint(path.name)]:
        shutil.rmtree(folder)
    (work / INTENT).unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    work.replace(out)
    (out / LOCK).unlink(missing_ok=True)  # held until here: nobody else works in between


def finish(out: Path, *, config: Any, inputs: Mapping[str, str], format: int = FORMAT) -> bool:
    """Puts a stage in place that was killed after its manifest was written, and says whether there was one.

    One that does not fit, or is damaged, is left to `stage`, which says so.
    """
    work = partial(out)
    if not is_sealed(work):
        return False
    with lock(work):
        try:
            record = manifest(work)
            _check_files(work, record, {})
            check_fits(work, record, config, inputs, format)
        except NotRead:
            raise
        except UserError:
            return False
        _put_in_place(work, out)
    return True
