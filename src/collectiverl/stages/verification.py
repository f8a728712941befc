"""`verify`: reads every file of a run, and compares it with what was sealed."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collectiverl.artifacts import attempts, checkpoints, sealed, tensors
from collectiverl.artifacts.contents import Damaged, check_file
from collectiverl.artifacts.files import MOST_YAML, read_yaml
from collectiverl.artifacts.manifests import PARTIAL
from collectiverl.artifacts.metrics import Report, silent
from collectiverl.artifacts.paths import CONFIG, MANIFEST
from collectiverl.data.shards import Shard
from collectiverl.types import UserError


@dataclass(frozen=True)
class Verified:
    """What a folder was found to be."""

    folder: Path
    kind: str  # the stage; or what else it is
    files: int
    size: int  # bytes
    wrong: tuple[str, ...]  # one sentence for each file; none: all is as it was written


def verify_all(root: Path, report: Report = silent) -> Iterator[Verified]:
    """Every finished and every interrupted stage in a folder, which may be one itself, and the settings of the run.

    Raises:
        UserError: there is none.
    """
    found = _folders(root)
    if not found:
        raise UserError(
            f"{root} holds no result: name the folder of a run, such as runs/quickstart, or of a stage"
        )
    if (root / CONFIG).is_file() and not sealed.is_sealed(root):
        yield _settings(root / CONFIG)
    for i, folder in enumerate(found):
        yield _interrupted(folder) if folder.name.endswith(PARTIAL) else _finished(folder)
        report(i + 1, len(found), folder.name)


def _folders(root: Path) -> list[Path]:
    """Those of stages, in the order of their names; links are not followed."""
    found = []
    for folder, below, files in os.walk(root):
        if MANIFEST in files or folder.endswith(PARTIAL):
            found.append(Path(folder))
            below.clear()
    return sorted(found)


def _finished(folder: Path) -> Verified:
    try:
        record = sealed.manifest(folder)
    except UserError as error:
        return Verified(folder, "", 1, 0, (str(error),))
    wrong, size = [f"{folder / name} is not listed" for name in sealed.unlisted(folder, record)], 0
    for name, hashed in record["files"].items():
        try:
            check_file(folder, name, hashed)
            _check_content(folder / name)
            size += (folder / name).stat().st_size
        except (Damaged, UserError) as error:
            wrong.append(str(error))
    return Verified(folder, str(record.get("stage", "")), len(record["files"]), size, tuple(wrong))


def _check_content(path: Path) -> None:
    """What a checksum does not say: weights are finite, and episodes can be read."""
    if path.suffix == tensors.SUFFIX:
        tensors.check_finite(tensors.load_arrays(path), path)
    if path.suffix == ".h5":
        Shard.open(path)


def _interrupted(folder: Path) -> Verified:
    """A stage that goes on from a checkpoint, which must be whole."""
    wrong: list[str] = []
    try:
        attempts.said(folder)
    except UserError as error:
        wrong.append(str(error))
    found = sorted(path for path in folder.rglob(f"{checkpoints.CHECKPOINT}*") if path.is_dir())
    whole = {path: _damage(path) for path in found if not path.name.endswith(".new")}
    wrong += [f"{path} is damaged: {damage}" for path, damage in whole.items() if damage]
    files = [path for checkpoint in found for path in checkpoint.rglob("*") if path.is_file()]
    return Verified(folder, "interrupted", len(files), sum(p.stat().st_size for p in files), tuple(wrong))


def _damage(checkpoint: Path) -> str | None:
    try:
        return checkpoints.damage(checkpoint)
    except UserError as error:  # it cannot be read
        return str(error)


def _settings(path: Path) -> Verified:
    try:
        read_yaml(path)
    except UserError as error:
        return Verified(path, "settings", 1, 0, (str(error),))
    return Verified(path, "settings", 1, min(path.stat().st_size, MOST_YAML), ())
