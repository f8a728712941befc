"""Sealed directories: what is sealed is whole and stays; what is not is never read."""

import json
import multiprocessing

import pytest

from collectiverl.artifacts import sealed
from collectiverl.artifacts.files import read_json, write_atomically
from collectiverl.types import UserError

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
        hashes.append(sealed.identity(tmp_path / name))
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
