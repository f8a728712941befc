"""The store of several machines: results once and whole, checkpoints by number."""

import json
import os
import threading
from pathlib import Path

import pytest

from collectiverl.artifacts import attempts, checkpoints, sealed
from collectiverl.artifacts.store import FILES, Store
from collectiverl.artifacts.uploads import Uploads, snapshot, uploading
from collectiverl.types import UserError

fsspec = pytest.importorskip("fsspec", reason="the store needs fsspec: pip install 'collectiverl[ray]'")


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    """An empty store."""
    if request.param == "file":
        return Store(f"file://{tmp_path / 'store'}")
    memory = fsspec.filesystem("memory")
    for path in memory.ls("/", detail=False):
        memory.rm(path, recursive=True)
    return Store("memory://run")


def made(out: Path, text: str = "weights", seed: int = 0) -> Path:
    """A sealed folder."""
    with sealed.stage(out, name="train", config={"steps": 3}, inputs={}, seed=seed) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "agent").write_text(text)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def checkpoint(work: Path, step: int) -> Path:
    """A working folder with a checkpoint."""
    (work / "checkpoint").mkdir(parents=True, exist_ok=True)
    (work / "checkpoint" / "state").write_text(f"step {step}")
    return work


def test_a_result_comes_back_as_it_was_sealed(store, tmp_path):
    there = made(tmp_path / "a" / "model/push")
    assert not store.has("model/push")
    assert store.put(there, "model/push")
    assert store.has("model/push")
    store.get("model/push", tmp_path / "b" / "model/push")
    assert files(tmp_path / "b") == files(tmp_path / "a")
    sealed.verify(tmp_path / "b" / "model/push")


def test_the_first_manifest_wins_and_later_attempts_change_nothing(store, tmp_path):
    first, second = made(tmp_path / "a", "first"), made(tmp_path / "b", "second")
    assert store.put(first, "model")
    assert not store.put(second, "model")
    store.get("model", second)
    assert files(second) == files(first)


def test_of_many_attempts_at_once_one_wins_and_its_files_are_whole(store, tmp_path):
    attempts = [made(tmp_path / str(i), f"attempt {i}" * 1000) for i in range(8)]
    won = []
    together = threading.Barrier(len(attempts))

    def upload(attempt):
        together.wait()
        won.append(store.put(attempt, "model"))

    threads = [threading.Thread(target=upload, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.get("model", tmp_path / "got")
    sealed.verify(tmp_path / "got")
    assert won.count(True) == 1 or store.url.startswith("memory")  # of one process, whose threads may meet
    assert files(tmp_path / "got") in map(files, attempts)


def test_without_a_manifest_there_is_no_result(store, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_create", lambda path, data: False)  # killed before
    store.put(made(tmp_path / "a"), "model")
    assert not store.has("model")
    with pytest.raises(UserError, match="has no result of model"):
        store.get("model", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_half_an_upload_is_written_anew(store, tmp_path):
    there = made(tmp_path / "a")
    name, checksum = next(iter(json.loads((there / "manifest.json").read_text())["files"].items()))
    if store.url.startswith("file"):
        (tmp_path / "store" / "objects").mkdir(parents=True)
    store._fs.pipe_file(store._object(checksum), (there / name).read_bytes()[:3])
    store.put(there, "model")
    store.get("model", tmp_path / "b")
    assert files(tmp_path / "b") == files(there)


def damage(store, there: Path) -> None:
    """Another content of the same size."""
    store._fs.pipe_file(agent(store, there), b"weighty")


def remove(store, there: Path) -> None:
    store._fs.rm_file(agent(store, there))


def agent(store, there: Path) -> str:
    """Where the store has a file of this result."""
    return store._object(json.loads((there / "manifest.json").read_text())["files"]["deep/agent"])


@pytest.mark.parametrize("harm", [damage, remove])
def test_a_file_that_was_damaged_in_the_store_is_refused_and_the_same_command_mends_it(store, tmp_path, harm):
    there = made(tmp_path / "a")
    store.put(there, "model")
    harm(store, there)
    with pytest.raises(UserError, match=r"was damaged or missing.*the same command makes it again"):
        store.get("model", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert not store.has("model")  # so that its stage is done again
    assert store.put(made(tmp_path / "again"), "model")
    store.get("model", tmp_path / "b")
    assert files(tmp_path / "b") == files(tmp_path / "again")


def test_a_damaged_file_that_no_result_names_yet_is_replaced(store, tmp_path):
    there = made(tmp_path / "a")
    store.put(there, "model")
    damage(store, there)
    store.drop("model")  # --overwrite, which makes the same again
    store.put(there, "model")
    store.get("model", tmp_path / "b")
    assert files(tmp_path / "b") == files(there)


def test_on_a_disk_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    store = Store(f"file://{tmp_path / 'store'}")
    there, seen = made(tmp_path / "a"), []

    def killed(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:3])
        seen.append(Path(target))
        raise OSError("no space left")

    monkeypatch.setattr("collectiverl.artifacts.store.shutil.copyfile", killed)
    with pytest.raises(UserError, match="no space left"):
        store.put(there, "model")
    assert seen
    assert not any(path.is_file() for path in (tmp_path / "store").rglob("*"))


def test_a_stage_goes_on_from_the_newest_whole_checkpoint(store, tmp_path):
    assert not store.get_checkpoint("model", tmp_path / "work")
    for step in (1, 2, 3):
        store.put_checkpoint(checkpoint(tmp_path / "at_work", step), "model")
    newest = sorted(store._checkpoints("model"))[-1]
    store._fs.rm_file(store._at("checkpoints", "model", newest, FILES))  # its upload was killed
    assert store.get_checkpoint("model", tmp_path / "work")
    assert files(tmp_path / "work") == {"checkpoint/state": b"step 2"}


def test_a_damaged_checkpoint_gives_way_to_the_one_before(store, tmp_path):
    for step in (1, 2):
        store.put_checkpoint(checkpoint(tmp_path / "at_work", step), "model")
    newest = sorted(store._checkpoints("model"))[-1]
    store._fs.pipe_file(store._at("checkpoints", "model", newest, "checkpoint/state"), b"step X")
    assert store.get_checkpoint("model", tmp_path / "work")
    assert files(tmp_path / "work") == {"checkpoint/state": b"step 1"}


def test_old_checkpoints_are_removed_and_those_of_a_finished_stage_too(store, tmp_path):
    for step in range(5):
        store.put_checkpoint(checkpoint(tmp_path / "at_work", step), "model")
    assert len(store._checkpoints("model")) == 2
    store.drop_checkpoints("model")
    assert store._checkpoints("model") == []


def test_dropping_a_stage_forgets_its_result(store, tmp_path):
    store.put(made(tmp_path / "a"), "model")
    store.drop("model")
    store.drop("model")
    assert not store.has("model")
    assert store.put(made(tmp_path / "b", "other"), "model")


def test_a_snapshot_is_what_a_kill_would_leave(tmp_path):
    work = checkpoint(tmp_path / "work", 1)
    (work / "metrics.jsonl").write_text("1\n")
    attempts.begin(work, {"stage": "train"}, 3.0)
    (work / ".lock").touch()
    (work / "agent.safetensors").touch()  # half a result, which the next attempt removes
    snapshot(work, tmp_path / "copy")
    with (work / "metrics.jsonl").open("a") as log:
        log.write("2\n")
    copied = files(tmp_path / "copy")
    assert copied.keys() == {"checkpoint/state", "metrics.jsonl", attempts.INTENT}
    assert copied["checkpoint/state"] == b"step 1"
    assert copied["metrics.jsonl"] == b"1\n"
    assert attempts.said(tmp_path / "copy")["stage"] == "train"
    assert 3 <= attempts.spent_until_now(tmp_path / "copy") < 13  # whatever is copied to it later
    assert os.stat(work / "checkpoint/state").st_ino == os.stat(tmp_path / "copy/checkpoint/state").st_ino


def refuse(*args, **kwargs):
    raise PermissionError(1, "Operation not permitted")


def test_without_second_names_a_snapshot_is_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr("collectiverl.artifacts.uploads.os.link", refuse)
    snapshot(checkpoint(tmp_path / "work", 1), tmp_path / "copy")
    assert files(tmp_path / "copy") == {"checkpoint/state": b"step 1"}


def test_without_second_names_the_first_manifest_wins_too(tmp_path, monkeypatch):
    monkeypatch.setattr("collectiverl.artifacts.store.os.link", refuse)
    store = Store(f"file://{tmp_path / 'store'}")
    assert store.put(made(tmp_path / "a", "first"), "model")
    assert not store.put(made(tmp_path / "b", "second"), "model")
    store.get("model", tmp_path / "b")
    assert files(tmp_path / "b") == files(tmp_path / "a")


def test_a_snapshot_that_fails_does_not_stop_the_stage(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("collectiverl.artifacts.uploads.os.link", refuse)
    monkeypatch.setattr("collectiverl.artifacts.uploads.shutil.copyfile", refuse)  # a disk that is full, say
    work = checkpoint(tmp_path / "model.partial", 1)
    uploads = Uploads(store, "model", work, 0.0)
    uploads.written(work)
    uploads.wait()
    assert "a checkpoint of model was not uploaded" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path != tmp_path / "store"] == ["model.partial"]


def test_checkpoints_are_uploaded_as_they_are_written_but_not_too_often(store, tmp_path):
    work = tmp_path / "model.partial"
    work.mkdir()
    kept = checkpoints.Checkpoints(work)
    for every, written in ((0.0, 2), (3600.0, 1)):
        with uploading(store, f"model_{written}", work, every):
            for step in range(2):
                kept.write(lambda folder, step=step: (folder / "state").write_text(f"step {step}"))
                for thread in threading.enumerate():
                    if thread.daemon and thread is not threading.main_thread() and "upload" in thread.name:
                        thread.join()
        assert len(store._checkpoints(f"model_{written}")) == written
    assert not checkpoints.WATCHERS


def test_a_store_that_cannot_be_written_does_not_stop_the_stage(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file, not a folder")
    work = checkpoint(tmp_path / "work", 1)
    uploads = Uploads(Store(f"file://{tmp_path / 'taken'}"), "model", work, 0.0)
    uploads.written(work)
    uploads.wait()
    assert "was not uploaded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "said"),
    [("nosuch://bucket/x", "nosuch"), ("file:///proc/nowhere", "cannot be read or written")],
)
def test_a_store_that_is_none_is_the_users_to_mend(url, said, tmp_path):
    with pytest.raises(UserError, match=said):
        Store(url).put(made(tmp_path / "a"), "model")
