"""Shards of episodes are not trusted: a hostile file ends in one message, and no other file is ever read."""

import contextlib
import os
import random
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from collectiverl.data import hdf5
from collectiverl.data.episodes import EpisodeTable, paths, write
from collectiverl.data.shards import Shard
from collectiverl.types import UserError
from test_episodes import some_episodes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write(folder, some_episodes(3))
    return paths(folder)[0]


@pytest.fixture
def shard(whole, tmp_path):
    """A copy of a shard, and beside it a file with something to steal."""
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["reward"] = np.full(1000, 42.0, np.float32)
    return shutil.copy(whole, tmp_path / "episodes-00000.h5")


def external_link(file):
    del file["reward"]
    file["reward"] = h5py.ExternalLink("secret.h5", "/reward")


def soft_link(file):
    file["teacher_other"] = h5py.SoftLink("/reward")


def virtual(file):
    rows = len(file["reward"])
    del file["reward"]
    layout = h5py.VirtualLayout((rows,), np.float32)
    layout[:] = h5py.VirtualSource("secret.h5", "reward", (1000,))[:rows]
    file.create_virtual_dataset("reward", layout)


def external_storage(file):
    rows = len(file["reward"])
    del file["reward"]
    file.create_dataset("reward", (rows,), np.float32, external=[("secret.h5", 0, 4 * rows)])


def replaced(name, **dataset):
    def harm(file):
        data = file[name][...]
        del file[name]
        file.create_dataset(name, **{"data": data, **{k: v(data) for k, v in dataset.items()}})

    return harm


def added(name, make):
    return lambda file: file.create_dataset(name, data=make(file))


HOSTILE = {
    "an external link": external_link,
    "a soft link": soft_link,
    "a virtual dataset": virtual,
    "external storage": external_storage,
    "objects of Python": lambda f: f.create_dataset("objects", (4,), h5py.special_dtype(ref=h5py.Reference)),
    "texts": added("texts", lambda f: ["a", "b"]),
    "compound numbers": added("pairs", lambda f: np.zeros(3, [("a", "f4"), ("b", "f4")])),
    "other columns": added("advice", lambda f: np.zeros(3, np.float32)),
    "a group": lambda f: f.create_group("more"),
    "chunks": replaced("reward", chunks=lambda data: (1,)),
    "a filter": replaced("reward", compression=lambda data: "gzip"),
    "other numbers": replaced("reward", data=lambda data: data.astype(np.complex64)),
    "numbers of the other byte order": replaced("reward", dtype=lambda data: ">f4"),
    "success as floats": replaced("success", dtype=lambda data: np.float32),
    "rewards as truths": replaced("reward", data=lambda data: data > 0),
    "an axis too many": replaced("reward", data=lambda data: data[:, None]),
    "a row too few": replaced("reward", data=lambda data: data[1:]),
    "negative lengths": replaced("length", data=lambda data: data - 100),
    "lengths that add up over 2^64": replaced("length", data=lambda data: np.full(3, 2**62)),
    "no lengths": lambda f: f.pop("length"),
    "no rewards": lambda f: f.pop("reward"),
    "attributes of numbers": lambda f: f.attrs.create("episodes", np.arange(3)),
    "attributes that are no JSON": lambda f: f.attrs.create("episodes", "{" * 50),
    "an episode too many": lambda f: f.attrs.create("episodes", "[]"),
    "episodes of nothing": lambda f: f.attrs.create("episodes", "[1, 2, 3]"),
    "nested attributes": lambda f: f.attrs.create("episodes", "[" * 10_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_message(shard, name):
    with h5py.File(shard, "r+") as file:
        HOSTILE[name](file)
    with pytest.raises(UserError, match=r"episodes-00000\.h5 is missing or corrupt \(.*run its stage again"):
        EpisodeTable.open(shard.parent)


def test_newer_forms_of_the_format_are_refused_not_guessed(tmp_path):
    with h5py.File(tmp_path / "new.h5", "w", libver="latest") as file:
        file["reward"] = np.zeros(3)
    with pytest.raises(hdf5.NotPlain, match="does not begin"):
        hdf5.read(tmp_path / "new.h5")


def test_a_pipe_is_no_shard(tmp_path):
    os.mkfifo(tmp_path / "episodes-00000.h5")
    with pytest.raises(UserError, match="missing or corrupt"):
        EpisodeTable.open(tmp_path)


def test_of_flipped_bits_and_truncations_each_ends_in_episodes_or_in_one_message(whole, tmp_path):
    """HDF5's own library reads some of these for ever. That numbers are as they were, checksums say, and no reader."""
    content, rng, path = whole.read_bytes(), random.Random(0), tmp_path / "episodes-00000.h5"
    for number in range(300):
        harmed = bytearray(content)
        bit = rng.randrange(8 * len(harmed))
        harmed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(harmed if number % 5 else content[: rng.randrange(len(content))])
        with contextlib.suppress(UserError):
            read = Shard.open(path)
            assert len(read.about) == len(read.length) == 3
            assert all(np.asarray(column).nbytes <= len(content) for column in read.columns.values())


def test_it_reads_what_the_library_reads(whole):
    places, attributes = hdf5.read(whole)
    with h5py.File(whole) as file:
        assert set(places) == set(file)
        for name, place in places.items():
            assert (place.dtype, place.shape) == (file[name].dtype, file[name].shape)
            assert place.offset == file[name].id.get_offset()
        assert attributes == dict(file.attrs)


def test_shards_whose_observations_differ_in_length_are_no_table(tmp_path):
    one, *_ = some_episodes(1)
    write(tmp_path / "a", [one])
    write(tmp_path / "b", [replace(one, obs=one.obs[:, :3])])
    with pytest.raises(UserError, match="of another length"):
        EpisodeTable.open(tmp_path / "a", tmp_path / "b")
