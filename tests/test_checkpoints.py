"""Pytrees on disk: what is saved comes back, anything else is refused; a checkpoint is whole or not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from collectiverl.artifacts import checkpoints
from collectiverl.artifacts.tensors import load_arrays
from collectiverl.types import UserError

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


def test_a_checkpoint_replaces_the_last_one_only_when_whole(tmp_path):
    assert checkpoints.latest_checkpoint(tmp_path) is None
    write(tmp_path, "first")
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path, "half, then \ud800")
    assert (checkpoints.latest_checkpoint(tmp_path) / "state").read_text() == "first"
    write(tmp_path, "second")
    assert (checkpoints.latest_checkpoint(tmp_path) / "state").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_killed_between_the_two_renames_the_old_checkpoint_is_found(tmp_path):
    write(tmp_path, "first")
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    assert (checkpoints.latest_checkpoint(tmp_path) / "state").read_text() == "first"
    write(tmp_path, "second")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
