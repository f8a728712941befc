"""Results and checkpoints of a run where several machines reach them: any file system that fsspec knows.

    objects/<sha256>                           each file of a result, once, under its checksum
    results/<out>/manifest.json                written last: from here on the result is there
    checkpoints/<out>/<number>-<attempt>/…     of a stage at work; its list of files, written last, makes it whole

Objects never change and the first manifest wins. Two attempts at a stage therefore cost time, and never mix. An object
that turns out to be damaged is removed, and so is the manifest that led to it: the stage is then made again.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from collectiverl.artifacts.contents import Damaged, check_list
from collectiverl.artifacts.files import parse_json, sha256, write_atomically
from collectiverl.artifacts.paths import MANIFEST
from collectiverl.types import UserError

FILES = "checkpoint.json"  # names and checksums of a checkpoint's files
KEPT = 2  # whole checkpoints of a stage; one more than the newest, for whoever is reading it
TRIES = 2  # downloads of a file, which may be damaged on its way, too
INSTALL = "pip install 'collectiverl[ray]'"
READABLE = 200  # characters of an error that a message shows


class Store:
    """The folder of one run at `url`, such as `s3://bucket/runs/mt50`, `file:///shared/mt50` or `memory://mt50`.

    Raises:
        UserError: its file system is not installed. All methods: it cannot be read or written.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        with self._reachable():
            try:
                from fsspec.core import url_to_fs
                from fsspec.implementations.local import LocalFileSystem
            except ImportError as error:
                raise UserError(f"--store needs fsspec: {INSTALL}") from error
            try:
                self._fs, self._root = url_to_fs(self.url)
            except ImportError as error:
                raise UserError(
                    f"--store {url}: {error}; {INSTALL}, or pip install s3fs for s3://"
                ) from error
        self._local = isinstance(self._fs, LocalFileSystem)

    # -- results -------------------------------------------------------------------------------------------

    def has(self, out: str) -> bool:
        """Whether the result of the stage that writes `out` is there."""
        with self._reachable():
            return self._read(self._manifest(out)) is not None

    def put(self, folder: Path, out: str) -> bool:
        """Uploads a sealed folder; False if another attempt's result was there first, and stays."""
        data = (folder / MANIFEST).read_bytes()
        with self._reachable():
            first = self._read(self._manifest(out))
            if first is not None:
                return first == data
            for name, checksum in _files(data, self._manifest(out)).items():
                self._upload(folder / name, self._object(checksum), checksum)
            return self._create(self._manifest(out), data)

    def get(self, out: str, folder: Path) -> None:
        """Downloads a result, checks it, and puts it in the place of what is at `folder`.

        Raises:
            UserError: there is none; or one of its objects is damaged, and the store has forgotten the result.
        """
        new = folder.with_name(f"{folder.name}.fetched-{uuid.uuid4().hex[:8]}")
        try:
            with self._reachable():
                data = self._read(self._manifest(out))
                if data is None:
                    raise UserError(f"{self.url} has no result of {out}: run its stage again")
                for name, checksum in _files(data, self._manifest(out)).items():
                    self._get_object(checksum, new / name, out)
            new.mkdir(parents=True, exist_ok=True)
            write_atomically(new / MANIFEST, data)
            shutil.rmtree(folder, ignore_errors=True)
            new.replace(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def drop(self, out: str) -> None:
        """Forgets a stage's result and checkpoints, for --overwrite."""
        with self._reachable():
            self._remove_file(self._manifest(out))
        self.drop_checkpoints(out)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def put_checkpoint(self, folder: Path, out: str) -> None:
        """Uploads a working folder as the stage's newest checkpoint, and removes those before the last ones."""
        with self._reachable():
            found = self._checkpoints(out)
            number = 1 + max((_number(name) for name in found), default=0)
            target = self._at("checkpoints", out, f"{number:06d}-{uuid.uuid4().hex[:8]}")
            files = {}
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                name = path.relative_to(folder).as_posix()
                files[name] = sha256(path)
                self._upload(path, f"{target}/{name}", files[name])
            self._create(f"{target}/{FILES}", json.dumps({"files": files}).encode())
            whole = [name for name in found if self._read(self._at("checkpoints", out, name, FILES))]
            for name in found:
                if _number(name) < number and name not in sorted(whole)[-(KEPT - 1) :]:
                    self._remove(self._at("checkpoints", out, name))

    def get_checkpoint(self, out: str, work: Path) -> bool:
        """Makes the newest whole checkpoint the working folder `work` of a stage; False if there is none."""
        with self._reachable():
            for name in sorted(self._checkpoints(out), reverse=True):
                shutil.rmtree(work, ignore_errors=True)
                source = self._at("checkpoints", out, name)
                data = self._read(f"{source}/{FILES}")
                with contextlib.suppress(
                    FileNotFoundError, _Damaged
                ):  # it is being removed, say: an older one
                    if data:
                        for file, checksum in _files(data, f"{source}/{FILES}").items():
                            self._download(f"{source}/{file}", work / file, checksum)
                        return True
        shutil.rmtree(work, ignore_errors=True)
        return False

    def drop_checkpoints(self, out: str) -> None:
        """Removes what a finished stage no longer needs."""
        with self._reachable():
            self._remove(self._at("checkpoints", out))

    def _checkpoints(self, out: str) -> list[str]:
        """The names of a stage's checkpoints, half-written ones among them."""
        folder = self._at("checkpoints", out)
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            names = [PurePosixPath(path).name for path in self._fs.ls(folder, detail=False)]
            return [name for name in names if name.partition("-")[0].isdecimal()]
        return []

    # -- files ---------------------------------------------------------------------------------------------

    def _at(self, *names: str) -> str:
        return "/".join([self._root.rstrip("/"), *names])

    def _manifest(self, out: str) -> str:
        return self._at("results", out, MANIFEST)

    def _object(self, checksum: str) -> str:
        return self._at("objects", checksum)

    def _read(self, path: str) -> bytes | None:
        """None: it is not there."""
        with contextlib.suppress(FileNotFoundError):
            return self._fs.cat_file(path)
        return None

    def _upload(self, source: Path, target: str, checksum: str) -> None:
        """Nothing where the whole file is there. One that is damaged, or that a killed worker left, is replaced.

        A file is there before its result is only if an attempt died, or another result has the same: reading it to
        compare costs little.
        """
        if self._hash(target) == checksum:
            return
        if not self._local:  # an object store shows whole files only
            self._fs.put_file(str(source), target)
            return
        self._fs.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = f"{target}.{uuid.uuid4().hex[:8]}"
        try:
            shutil.copyfile(source, temporary)
            os.replace(temporary, target)
        finally:
            _unlink(temporary)

    def _hash(self, path: str) -> str | None:
        """None: it is not there."""
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError), self._fs.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return None

    def _get_object(self, checksum: str, target: Path, out: str) -> None:
        """Downloads an object of the result of `out`; one that is damaged or missing is forgotten with the result.

        The same command then makes the result again, or uploads it from where it is whole. With its manifest there,
        it would be taken for finished.
        """
        source = self._object(checksum)
        for _ in range(TRIES):
            with contextlib.suppress(_Damaged, FileNotFoundError):
                return self._download(source, target, checksum)
        self._remove_file(source)
        self._remove_file(self._manifest(out))
        raise _Damaged(
            f"{source} in the store {self.url} was damaged or missing, and the result {out} was removed from there: "
            "the same command makes it again"
        )

    def _download(self, source: str, target: Path, checksum: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(source, str(target))
        if sha256(target) != checksum:
            raise _Damaged(f"{source} is corrupt (its sha256 does not fit)")

    def _create(self, path: str, data: bytes) -> bool:
        """Writes a file that is not there yet; False if it is.

        Local disks and S3 let one writer through. Where a file system does not, a second one replaces the first:
        both name whole results of the same settings, and are read after they were written.
        """
        if self._local:
            self._fs.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = f"{path}.{uuid.uuid4().hex[:8]}"
            self._fs.pipe_file(temporary, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:  # this disk has no second names
                if os.path.exists(path):
                    return False
                os.replace(temporary, path)
            finally:
                _unlink(temporary)
            return True
        try:
            self._fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return self._fs.cat_file(path) == data

    def _remove_file(self, path: str) -> None:
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(path)

    def _remove(self, folder: str) -> None:
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(folder, recursive=True)

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        """Errors of the file system, which are of many types, as one message."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            said: Any = f"{type(error).__name__}: {error}"[:READABLE]
            raise UserError(
                f"the store {self.url} cannot be read or written ({said}): see to the address, to the access and "
                "to its space; the same command then goes on"
            ) from error


class _Damaged(UserError):
    """A file that is not what its checksum says."""


def _files(data: bytes, where: str) -> Mapping[str, str]:
    """The files that a manifest or the list of a checkpoint names, with their checksums.

    Raises:
        _Damaged: it cannot be read, or a name leads out of its folder.
    """
    try:
        found = parse_json(data)
        return check_list(found.get("files") if isinstance(found, dict) else None)
    except (ValueError, Damaged) as error:
        raise _Damaged(f"{where} is damaged ({error}): pass --overwrite to make it anew") from error


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _number(checkpoint: str) -> int:
    return int(checkpoint.partition("-")[0])
