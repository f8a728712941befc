"""Pytrees on disk: what is saved comes back, anything else is refused; a checkpoint is whole or not there."""

import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from collectiverl.artifacts import checkpoints
from collectiverl.artifacts.tensors import load_arrays
from collectiverl.types import Notice, UserError

DTYPES = st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
TREES = st.recursive(
    ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def same(one, two):
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(two)
    return jax.tree.structure(one) == jax.tree.structure(two) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(leaves, others, strict=True)
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_a_tree_comes_back_bit_for_bit(tmp_path, tree):
    path = tmp_path / "tree.safetensors"
    checkpoints.save_tree(path, tree)
    assert same(checkpoints.load_tree(path, jax.tree.map(np.zeros_like, tree)), tree)


def test_scalars_transposes_and_non_arrays(tmp_path):
    tree = {
        "scalar": jnp.float32(3),
        "numpy": np.float64(0.1),
        "zero-d": np.asarray(7),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "name": "kept from the structure",
    }
    checkpoints.save_tree(tmp_path / "t", tree)
    loaded = checkpoints.load_tree(tmp_path / "t", tree)
    assert isinstance(loaded["scalar"], jax.Array)
    assert loaded["scalar"] == 3
    assert loaded["numpy"] == np.float64(0.1)
    assert loaded["zero-d"] == 7
    assert np.array_equal(loaded["transposed"], tree["transposed"])
    assert loaded["name"] == tree["name"]


def test_shapes_alone_are_enough_to_load_into(tmp_path):
    checkpoints.save_tree(tmp_path / "t", {"w": jnp.ones((2, 3))})
    like = jax.eval_shape(lambda: {"w": jnp.zeros((2, 3))})
    assert np.array_equal(checkpoints.load_tree(tmp_path / "t", like)["w"], np.ones((2, 3)))


def test_leaves_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same name"):
        checkpoints.save_tree(tmp_path / "t", {"a.b": np.zeros(1), "a": {"b": np.ones(1)}})


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": np.zeros(3, np.float32), "b": np.zeros(1)}, "another structure.*b"),
        ({}, "another structure.*w"),
        ({"w": np.zeros(4, np.float32)}, r"w as float32\(3,\), but float32\(4,\)"),
        ({"w": np.zeros(3, np.int32)}, r"w as float32\(3,\), but int32\(3,\)"),
    ],
)
def test_another_structure_is_refused_by_name(tmp_path, like, message):
    checkpoints.save_tree(tmp_path / "t", {"w": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match=message):
        checkpoints.load_tree(tmp_path / "t", like)


def test_a_missing_or_truncated_file_is_named(tmp_path):
    path = tmp_path / "t.safetensors"
    with pytest.raises(UserError, match=r"t\.safetensors is missing or corrupt.*run its stage again"):
        load_arrays(path)
    checkpoints.save_tree(path, {"w": np.zeros(100)})
    whole = path.read_bytes()
    for size in (0, 4, 20, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="missing or corrupt"):
            load_arrays(path)


def write(work, content):
    with checkpoints.checkpoint(work) as folder:
        (folder / "state").write_text(content)
        (folder / "episodes").mkdir()
        (folder / "episodes" / "shard").write_text(content)


def latest(work):
    return (checkpoints.latest_checkpoint(work) / "state").read_text()


def test_a_checkpoint_replaces_the_last_one_only_when_whole(tmp_path):
    assert checkpoints.latest_checkpoint(tmp_path) is None
    write(tmp_path, "first")
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path, "half, then \ud800")
    assert latest(tmp_path) == "first"
    write(tmp_path, "second")
    assert latest(tmp_path) == "second"


def test_the_checkpoint_before_is_kept_and_no_other(tmp_path):
    for content in ("first", "second", "third"):
        write(tmp_path, content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "checkpoint.old"]
    assert (tmp_path / "checkpoint.old" / "state").read_text() == "second"


def test_killed_between_the_two_renames_the_old_checkpoint_is_found(tmp_path):
    write(tmp_path, "first")
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    assert latest(tmp_path) == "first"
    write(tmp_path, "second")
    assert latest(tmp_path) == "second"


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swapped(path):
    path.rename(path.with_name("other"))
    path.symlink_to("other")


HARM = {
    "a flipped bit": lambda folder: flipped(folder / "state"),
    "a flipped bit in its list": lambda folder: flipped(folder / checkpoints.FILES),
    "a truncated file": lambda folder: (folder / "state").write_text("sec"),
    "a missing file": lambda folder: (folder / "state").unlink(),
    "a missing folder": lambda folder: shutil.rmtree(folder / "episodes"),
    "a file too many": lambda folder: (folder / "episodes" / "more").write_text("third"),
    "a link": lambda folder: swapped(folder / "state"),
    "no list": lambda folder: (folder / checkpoints.FILES).unlink(),
    "an empty list": lambda folder: (folder / checkpoints.FILES).write_text('{"files": {}}'),
}


@pytest.mark.parametrize("name", HARM)
def test_a_damaged_checkpoint_is_found_and_the_one_before_is_taken_with_a_notice(tmp_path, name):
    write(tmp_path, "first")
    write(tmp_path, "second")
    HARM[name](tmp_path / "checkpoint")
    with pytest.warns(Notice, match="checkpoint is damaged .*: going on from the one before"):
        assert latest(tmp_path) == "first"
    write(tmp_path, "third")
    assert latest(tmp_path) == "third"
    assert (tmp_path / "checkpoint.old" / "state").read_text() == "first"


@pytest.mark.parametrize("name", HARM)
def test_without_a_whole_checkpoint_it_is_said_what_to_do(tmp_path, name):
    write(tmp_path, "first")
    HARM[name](tmp_path / "checkpoint")
    with pytest.raises(
        UserError, match=r"no checkpoint in .* is whole \(.*--overwrite to begin this stage anew"
    ):
        checkpoints.latest_checkpoint(tmp_path)


def test_what_was_logged_until_a_checkpoint_comes_back_with_it(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("first\n")
    write(tmp_path, "first")
    for harm in ("first\nsecond\n", "fi", None):
        (tmp_path / "metrics.jsonl").unlink()
        if harm:
            (tmp_path / "metrics.jsonl").write_text(harm)
        checkpoints.latest_checkpoint(tmp_path)
        assert (tmp_path / "metrics.jsonl").read_text() == "first\n"


def test_a_state_that_is_not_finite_never_replaces_a_good_one(tmp_path):
    kept = checkpoints.Checkpoints(tmp_path)

    def save(folder, weight=1.0):
        state = {"w": np.array([weight, 2.0])}
        checkpoints.check_finite(state, "after 7 updates")
        checkpoints.save_tree(folder / "state", state)

    kept.write(save)
    for weight in (np.nan, np.inf):
        with pytest.raises(FloatingPointError, match="w is not finite after 7 updates"):
            kept.write(partial(save, weight=weight))
    found = checkpoints.Checkpoints(tmp_path).latest
    assert checkpoints.load_tree(found / "state", {"w": np.zeros(2)})["w"][0] == 1
