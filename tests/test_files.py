"""Files are read within limits: whatever they hold, there is a value or one message, within a second."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest

from collectiverl.artifacts import checkpoints, files, tensors
from collectiverl.data.shards import Shard
from collectiverl.types import UserError


def of_yaml(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return files.read_yaml(path)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    "an alias bomb": (BOMB, "an anchor or an alias"),
    "a list within itself": ("a: &a [*a]", "an anchor or an alias"),
    "an anchor": ("a: &here 1", "an anchor or an alias"),
    "depth": ("[" * 50_000, "nested too deeply"),
    "depth by dashes": ("- " * 30_000, "nested too deeply"),
    "a name twice": ("a: 1\nb: 2\na: 3", "'a' in line 3 is there twice"),
    "a name twice, inside": ("x:\n  a: 1\n  a: 3", "'a' in line 3 is there twice"),
    "a number as name": ("1: 2", "1 in line 1 is no name"),
    "a list as name": ("? [a]\n: 1", "is no name"),
    "merged mappings": ("<<: {a: 1}", "not YAML"),
    "an object of Python": ("a: !!python/object/apply:os.system [ls]", "has a tag"),
    "a tag": ("a: !!binary aGk=", "has a tag"),
    "a huge number": ("a: " + "9" * 5_000, "more than 1024 characters"),
    "nearly a date": ("a: 2026-13-45", "not YAML"),
    "half a mapping": ("{a: 1" * 5_000, "not YAML"),
    "a byte of nothing": (b"a: \x00", "not YAML"),
    "another alphabet": (b"a: \xff\xfe", "not YAML"),
    "size": ("a: b\n" * 40_000, "bytes"),
}


@pytest.mark.parametrize("name", YAML)
def test_hostile_yaml_is_refused_in_one_message_within_a_second(tmp_path, name):
    text, message = YAML[name]
    began = time.monotonic()
    with pytest.raises(UserError, match=message):
        of_yaml(tmp_path / "config.yaml", text)
    assert time.monotonic() - began < 1


def test_plain_yaml_is_what_it_says(tmp_path):
    found = of_yaml(tmp_path / "a.yaml", "a: [1, 2.5, x]\nb: {c: null, d: true}\n")
    assert found == {"a": [1, 2.5, "x"], "b": {"c": None, "d": True}}


JSON = {
    "depth": (b"[" * 1_000_000, "nested too deeply"),
    "depth that can be read": (b"[" * 60 + b"]" * 60, "nested too deeply"),
    "depth of names": (b'{"a":' * 100_000, "nested too deeply"),
    "a name twice": (b'{"a": 1, "b": 2, "a": 3}', "a name is there twice"),
    "a huge number": (b"9" * 5_000, "not readable"),
    "another alphabet": (b'"\xff"', "not readable"),
    "nothing": (b"", "not readable"),
    "half": (b'{"a": [1, 2', "not readable"),
    "size": (b" " * (files.MOST_JSON + 1), "bytes"),
}


@pytest.mark.parametrize("name", JSON)
def test_hostile_json_is_refused_in_one_message_within_a_second(tmp_path, name):
    text, message = JSON[name]
    path = tmp_path / "summary.json"
    path.write_bytes(text)
    began = time.monotonic()
    with pytest.raises(UserError, match=message):
        files.read_json(path)
    assert time.monotonic() - began < 1


def test_an_object_is_asked_for_where_one_is_needed(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"summary\.json holds no JSON object"):
        files.read_object(path)


@pytest.mark.parametrize("read", [files.read_json, files.read_yaml, files.sha256])
def test_what_is_no_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is no file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE])
def test_what_the_system_does_not_let_us_read_is_not_said_to_be_damaged(tmp_path, monkeypatch, number):
    def refuse(self, *args, **kwargs):
        raise OSError(number, os.strerror(number))

    work = tmp_path / "stage.partial"
    work.mkdir()
    for _ in range(2):
        with checkpoints.checkpoint(work) as folder:
            checkpoints.save_tree(folder / "state.safetensors", {"w": np.zeros(2)})
    weights = work / "checkpoint" / "state.safetensors"
    monkeypatch.setattr(Path, "open", refuse)
    for read in (tensors.load_arrays, files.read_json, files.sha256, Shard.open):
        with pytest.raises(files.NotRead, match="cannot be read") as refused:
            read(weights)
        assert "delete" not in str(refused.value)
    with pytest.raises(files.NotRead):
        checkpoints.latest_checkpoint(work)
    assert weights.is_file()  # it is not taken for damaged, and removed
