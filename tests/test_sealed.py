"""Sealed directories: what is sealed is whole and stays; what is not is never read."""

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from collectiverl.artifacts import attempts, contents, locks, manifests, sealed, tensors
from collectiverl.artifacts.checkpoints import checkpoint, latest_checkpoint
from collectiverl.artifacts.files import read_json, sha256, write_atomically
from collectiverl.types import Notice, UserError

CONFIG = {"steps": 10, "sac": {"gamma": 0.9}, "tasks": ("toy-reach",)}


def stage(out, config=CONFIG, inputs=None, **kwargs):
    return sealed.stage(out, name="train-task", config=config, inputs=inputs or {}, **kwargs)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "model" / "toy-reach" / "seed_0"


@pytest.fixture
def finished(out):
    with stage(out) as folder:
        (folder / "weights").write_bytes(b"1234")
        (folder / "deep").mkdir()
        (folder / "deep" / "episodes").write_bytes(b"5678")
    return out


def test_a_sealed_stage_is_whole_and_says_how_it_was_made(finished):
    record = sealed.verify(finished)
    assert set(record["files"]) == {"weights", "deep/episodes"}
    assert record["stage"] == "train-task"
    assert record["config"] == {"steps": 10, "sac": {"gamma": 0.9}, "tasks": ["toy-reach"]}
    assert "jax" in record["versions"]
    assert {path.name for path in finished.iterdir()} == {"weights", "deep", sealed.MANIFEST}
    assert not sealed.partial(finished).exists()
    assert sealed.fits(finished, CONFIG, {})


def test_nothing_unsealed_is_read(out):
    with pytest.raises(UserError, match=r"not a finished result$"):
        sealed.verify(out)
    with stage(out), pytest.raises(UserError, match=r"seed_0\.partial is there: the stage was interrupted"):
        sealed.verify(out)


@pytest.mark.parametrize("name", ["..", "model/.."])
def test_no_stage_takes_the_place_of_the_folders_around_it(name, finished, tmp_path):
    with pytest.raises(UserError, match="folder of its own"), stage(tmp_path / name):
        raise AssertionError("a stage began that would have removed the others")
    assert sealed.verify(finished)


def interrupt(out):
    with stage(out) as folder:
        (folder / "checkpoint").mkdir()
        (folder / "half").write_text("half")
        (folder / "metrics.jsonl").write_text("1\n")
        raise ZeroDivisionError


def test_a_stage_that_raises_is_not_sealed_and_is_handed_out_again(out):
    with pytest.raises(ZeroDivisionError):
        interrupt(out)
    assert not sealed.is_sealed(out)
    with stage(out) as folder:
        assert {p.name for p in folder.iterdir()} == {"checkpoint", "metrics.jsonl", ".intent.json", ".lock"}
    assert set(sealed.verify(out)["files"]) == {"metrics.jsonl"}


def test_an_interrupted_stage_of_other_settings_is_refused_by_the_settings_name(out):
    with pytest.raises(ZeroDivisionError), stage(out):
        raise ZeroDivisionError
    other = CONFIG | {"sac": {"gamma": 0.99}}
    with pytest.raises(UserError, match=r"sac\.gamma: 0\.9 there, 0\.99 now.*--overwrite"), stage(out, other):
        pass
    with stage(out, other, overwrite=True) as folder:
        assert {p.name for p in folder.iterdir()} == {".intent.json", ".lock"}


def test_a_sealed_stage_of_other_settings_or_inputs_is_refused_by_name(finished):
    with pytest.raises(UserError, match=r"steps: 10 there, 11 now.*--overwrite.*--run"):
        sealed.fits(finished, CONFIG | {"steps": 11}, {})
    with pytest.raises(UserError, match="input model"):
        sealed.fits(finished, CONFIG, {"model": "abc"})


def test_overwriting_replaces_all_of_the_old(finished):
    with stage(finished, overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert set(sealed.verify(finished)["files"]) == {"new"}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "weights is missing: delete .* and run its stage again"),
        (lambda path: path.write_bytes(b"123"), "weights is corrupt"),
        (lambda path: path.write_bytes(b"1235"), "weights is corrupt"),
        (lambda path: path.with_name(sealed.MANIFEST).write_text('{"fi'), "manifest.json is not readable"),
        (lambda path: path.with_name(sealed.MANIFEST).write_text("{}"), "manifest.json is no manifest"),
        (lambda path: path.with_name(sealed.MANIFEST).write_text("[]"), "manifest.json is no manifest"),
    ],
)
def test_harm_is_named_with_what_to_do(finished, harm, message):
    harm(finished / "weights")
    with pytest.raises(UserError, match=message):
        sealed.verify(finished)


def test_identity_follows_the_content(out, tmp_path):
    hashes = []
    for name, content in [("a", b"1"), ("b", b"1"), ("c", b"2")]:
        with stage(tmp_path / name) as folder:
            (folder / "weights").write_bytes(content)
        hashes.append(manifests.identity(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]


def _try(out, answers):
    try:
        with stage(out, overwrite=True):
            answers.put("entered")
    except UserError as error:
        answers.put(str(error))


def test_two_processes_cannot_work_in_one_folder(out):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with stage(out) as folder:
        (folder / "mine").write_text("mine")
        other = context.Process(target=_try, args=(out, answers))
        other.start()
        assert "in use by another process" in answers.get(timeout=60)
        other.join()
        assert (folder / "mine").exists()  # not even --overwrite takes it away


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "run" / "model"
    with pytest.raises(UserError, match=r"cannot write to .*model\.partial: .*--root"), stage(below):
        pass


def test_a_write_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(sealed.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_unreadable_json_is_the_users_to_mend(tmp_path):
    path = tmp_path / "summary.json"
    for content in (None, b"{", b"\xff\xfe"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=r"summary\.json is not readable"):
            read_json(path)
    path.write_text(json.dumps([1]))
    assert read_json(path) == [1]


def test_differences_name_nested_settings():
    assert sealed.differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ["a.c: 3 there, 2 now"]
    assert sealed.differences({"a": 1}, {"a": 1, "b": 2}) == ["b: 2 there, None now"]


# -- what is in a sealed folder and was not sealed -----------------------------------------------------------


def rewritten(path, **changes):
    """The manifest with other entries, and with the checksum that fits them."""
    record = read_json(path / sealed.MANIFEST)
    (path / sealed.MANIFEST).write_text(json.dumps(manifests.with_seal(record | changes)))


def test_a_file_that_the_manifest_does_not_list_is_reported_and_is_not_there(finished):
    (finished / "deep" / "more").write_text("new")
    with pytest.warns(Notice, match=r"deep/more is no part of this result.* is not read"):
        sealed.verify(finished)
    assert sealed.listed(finished / "deep", sorted((finished / "deep").iterdir())) == [
        finished / "deep/episodes"
    ]
    assert sealed.holds(finished, "weights")
    assert not sealed.holds(finished, "deep/more")


def test_what_export_writes_beside_a_policy_is_no_stranger(finished):
    for name in ("README.md", "config.yaml", ".gitattributes"):
        (finished / name).write_text("")
    sealed.verify(finished)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it lists no files"),
        ([], "it lists no files"),
        ({"../weights": "0" * 64}, "which is no name of a file in this folder"),
        ({"/etc/passwd": "0" * 64}, "which is no name of a file in this folder"),
        ({"deep//episodes": "0" * 64}, "which is no name of a file in this folder"),
        ({"deep/./episodes": "0" * 64}, "which is no name of a file in this folder"),
        ({"": "0" * 64}, "which is no name of a file in this folder"),
        ({"a\u001b[2J": "0" * 64}, "which is no name of a file in this folder"),
        ({"weights": "0" * 63}, "without a checksum"),
        ({"weights": None}, "without a checksum"),
    ],
)
def test_a_list_of_files_that_leads_elsewhere_is_refused(finished, files, message):
    rewritten(finished, files=files)
    for read in (sealed.verify, sealed.check, sealed.manifest):
        with pytest.raises(UserError, match=f"manifest.json is no manifest .*{message}"):
            read(finished)


@pytest.mark.parametrize("name", sorted(manifests.NEEDED))
def test_a_manifest_says_all_that_is_read_of_it(finished, name):
    record = {key: value for key, value in sealed.manifest(finished).items() if key != "seal"}
    harms = [{key: value for key, value in record.items() if key != name}, record | {name: None}]
    for harmed in harms:
        (finished / "manifest.json").write_text(json.dumps(harmed))
        with pytest.raises(UserError, match=r"manifest\.json is no manifest \(.*run its stage again"):
            sealed.manifest(finished)


def test_a_manifest_of_another_program_is_no_result_and_nothing_is_to_be_deleted(tmp_path):
    (tmp_path / "manifest.json").write_text('{"manifest_version": 3, "name": "an extension of a browser"}')
    inside = tmp_path / "runs" / "demo" / "episodes"
    inside.mkdir(parents=True)
    found = [inside / "episodes-00000.h5"]
    assert sealed.listed(inside, found) == found
    with pytest.raises(UserError, match="is no manifest of this package: name another folder") as refused:
        sealed.manifest(tmp_path)
    assert "delete" not in str(refused.value)


@pytest.mark.parametrize("stop", ["run.partial/", "run/config.yaml"])
def test_the_search_for_a_result_ends_at_the_folder_of_a_stage_or_a_run(finished, stop):
    run = finished / stop.partition("/")[0]
    inside = run / "rounds" / "push-v3"
    inside.mkdir(parents=True)
    assert sealed.listed(inside, [inside / "episodes-00000.h5"]) == [] or run.name.endswith(".partial")
    if stop.endswith(".yaml"):
        (finished / stop).write_text("")
    assert sealed.listed(inside, [inside / "episodes-00000.h5"]) == [inside / "episodes-00000.h5"]


@pytest.mark.parametrize("name", ["weights", "deep"])
def test_links_in_a_sealed_folder_are_refused_whatever_they_lead_to(finished, name):
    (finished / name).rename(finished.parent / name)
    (finished / name).symlink_to(finished.parent / name)
    for read in (sealed.verify, sealed.check):
        with pytest.raises(UserError, match=f"{name} is a link to somewhere else"):
            read(finished)


def test_the_whole_folder_may_be_a_link(finished, tmp_path):
    (tmp_path / "link").symlink_to(finished)
    sealed.verify(tmp_path / "link")


@pytest.mark.parametrize("name", ["stage", "seconds", "created", "config", "files", "times", "seal", "seed"])
def test_a_change_of_anything_that_a_manifest_says_is_found(finished, name):
    path = finished / sealed.MANIFEST
    text = path.read_text()
    place = text.index(f'"{name}"') + len(name) + 6
    while not text[place].isalnum():
        place += 1
    path.write_text(text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :])
    with pytest.raises(UserError, match="manifest"):
        sealed.check(finished)


# -- the quick check -------------------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch):
    """Files whose content was read to compare it."""
    names = []

    def spied(path):
        names.append(path.name)
        return sha256(path)

    monkeypatch.setattr(contents, "sha256", spied)
    contents._hash_at.cache_clear()
    return names


def test_the_quick_check_reads_nothing_that_was_not_touched(finished, read):
    sealed.check(finished)
    assert read == []
    sealed.verify(finished)
    assert sorted(read) == ["episodes", "weights"]


def test_the_quick_check_finds_what_was_changed_and_kept_its_size(finished):
    (finished / "weights").write_bytes(b"1235")
    with pytest.raises(UserError, match=r"weights is corrupt .*delete .* and run its stage again"):
        sealed.check(finished)


def test_a_copied_folder_is_read_once_and_is_whole(finished, read, tmp_path):
    shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copyfile)
    for _ in range(3):
        sealed.check(tmp_path / "copy")
    assert sorted(read) == ["episodes", "weights"]


LATER = ("seal", "times", "runtime", "core_seconds", "load", "peak_memory")  # what they do not have


def test_manifests_of_earlier_versions_are_read(finished, read):
    record = read_json(finished / sealed.MANIFEST)
    (finished / sealed.MANIFEST).write_text(
        json.dumps({name: value for name, value in record.items() if name not in LATER})
    )
    sealed.check(finished)
    assert sorted(read) == ["episodes", "weights"]
    (finished / "weights").write_bytes(b"1235")
    with pytest.raises(UserError, match="weights is corrupt"):
        sealed.check(finished)


def test_the_disk_has_all_files_before_the_manifest_names_them(out, monkeypatch):
    synchronised = []
    told = lambda number: synchronised.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)  # noqa: E731
    monkeypatch.setattr(os, "fsync", told)
    with stage(out) as folder:
        (folder / "metrics.jsonl").write_text("")
        (folder / "film.mp4").write_text("")
    assert {"metrics.jsonl", "film.mp4"} <= set(synchronised[:-1])
    assert synchronised[-1].startswith(".manifest.json")


# -- killed while it is sealed -----------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def kill_before():
    """A list: while it holds a number, that many changes of files are made, and one is not."""
    left: list[int] = []

    def watch(event, args):
        changes = event in ("os.rename", "os.remove", "os.rmdir")
        if not left or not (changes or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR))):
            return
        left[0] -= 1
        if left[0] < 0:
            left.clear()
            raise Killed

    sys.addaudithook(watch)  # for good
    return left


@pytest.mark.parametrize("changes", range(14))
def test_a_stage_that_is_killed_while_it_is_sealed_loses_nothing(out, kill_before, changes):
    """Its checkpoint is whole, or all that is left to do is to put it in place."""

    def attempt(killed):
        with stage(out) as folder:
            if latest_checkpoint(folder) is None:
                with checkpoint(folder) as new:
                    for name in ("state", "more"):
                        (new / name).write_text("learned")
            (folder / "weights").write_text("learned")
            kill_before.extend(killed)

    with contextlib.suppress(Killed):
        attempt([changes])
    kill_before.clear()
    if not sealed.is_sealed(out) and not sealed.finish(out, config=CONFIG, inputs={}):
        assert latest_checkpoint(sealed.partial(out)) is not None
        attempt([])
    assert sorted(sealed.verify(out)["files"]) == ["weights"]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_what_is_put_in_place_is_what_was_asked_for(out):
    def work(weights):
        with stage(out) as folder:
            (folder / "weights").write_text(weights)

    work("learned")
    out.rename(sealed.partial(out))
    assert not sealed.finish(out, config={"other": 1}, inputs={})
    (sealed.partial(out) / "weights").write_text("harmed")
    assert not sealed.finish(out, config=CONFIG, inputs={})
    assert not sealed.is_sealed(out)


# -- weights that are not finite -------------------------------------------------------------------------------


def test_weights_that_are_not_finite_are_not_sealed(out):
    message = r"w\.safetensors holds weights that are not finite \(w\)"
    with pytest.raises(UserError, match=message), stage(out) as folder:
        tensors.save_arrays(folder / "w.safetensors", {"w": np.array([1.0, np.nan])})
    assert not sealed.is_sealed(out)


# -- time, and locks -------------------------------------------------------------------------------------------


TICK = 0.02  # seconds: the clock that files are dated by is behind by up to a tick of the kernel


def attempt(out, seconds):
    """Works for a while, and is interrupted."""
    with stage(out) as folder:
        time.sleep(seconds + TICK)
        (folder / "metrics.jsonl").write_text("")
        raise ZeroDivisionError


def test_the_seconds_of_a_stage_are_those_of_all_its_attempts(out):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            attempt(out, 0.2)
    with stage(out) as folder:
        assert 0.4 <= attempts.spent(folder) < 2
        (folder / "weights").write_text("")
    assert 0.4 <= sealed.manifest(out)["seconds"] < 4


def test_the_time_of_a_killed_attempt_lasts_to_the_last_file_that_it_wrote(out, monkeypatch):
    monkeypatch.setattr(sealed.os, "utime", lambda path: None)  # a killed process leaves no trace of its end
    with pytest.raises(ZeroDivisionError):
        attempt(out, 0.2)
    time.sleep(2)  # nobody works
    with stage(out) as folder:
        assert 0.2 <= attempts.spent(folder) < 2


def test_what_a_stage_computed_is_no_more_than_its_time_and_unknown_if_it_was_interrupted(out):
    with stage(out) as folder:
        time.sleep(0.3)
        (folder / "weights").write_text("")
    record = sealed.manifest(out)
    assert 0 <= record["core_seconds"] < record["seconds"] - 0.2
    assert all(load >= 0 for load in record["load"])
    with stage(out, overwrite=True) as folder:
        began = time.process_time()
        while time.process_time() < began + 0.3:
            (folder / "weights").write_text("")
    assert sealed.manifest(out)["core_seconds"] >= 0.3
    shutil.rmtree(out)
    with pytest.raises(ZeroDivisionError):
        attempt(out, 0.1)
    with stage(out) as folder:
        (folder / "weights").write_text("")
    assert sealed.manifest(out)["core_seconds"] is None


def test_to_overwrite_is_to_begin_anew_in_time_as_well(out):
    with pytest.raises(ZeroDivisionError):
        attempt(out, 0.1)
    with stage(out, overwrite=True) as folder:
        assert attempts.spent(folder) == 0


def test_to_wait_in_a_store_is_no_time_of_a_stage(out, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere" / "seed_0"
    manifests.partial(elsewhere).mkdir(parents=True)
    with stage(out) as folder:
        time.sleep(0.2)
        attempts.write_paused(folder, manifests.partial(elsewhere))
        (folder / "weights").write_text("")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)  # it waits for a machine
    (manifests.partial(elsewhere) / "metrics.jsonl").write_text("")  # which fetches what was logged
    with stage(elsewhere) as folder:
        assert 0.2 <= attempts.spent(folder) < 2
        (folder / "weights").write_text("")
    assert sealed.manifest(elsewhere)["seconds"] < 2


def test_what_an_interrupted_stage_said_is_read_only_if_it_is_whole(out):
    with pytest.raises(ZeroDivisionError):
        interrupt(out)
    path = sealed.partial(out) / attempts.INTENT
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 3'))
    with pytest.raises(UserError, match=r"intent\.json is damaged: pass --overwrite"):
        attempts.begun(out)
    with pytest.raises(UserError, match="intent"), stage(out):
        pass
    path.unlink()
    with stage(out) as folder:  # nobody knows whose checkpoints these are
        assert {path.name for path in folder.iterdir()} == {".intent.json", ".lock"}


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_worked_on_with_a_notice(out, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with (
        pytest.warns(Notice, match="has no locks: work on this run from one process at a time"),
        stage(out) as folder,
    ):
        (folder / "weights").write_text("")
    assert sealed.is_sealed(out)


def test_a_lock_that_fails_for_another_reason_is_not_said_to_be_taken(out, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.raises(UserError, match="cannot be locked \\(Input/output error"), stage(out):
        pass
