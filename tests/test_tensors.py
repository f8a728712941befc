"""Files of arrays: a header that does not fit what follows is refused, whatever it says."""

import json

import numpy as np
import pytest

from collectiverl.artifacts import tensors
from collectiverl.types import UserError

GOOD = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def written(path, header, data=b"\0" * 24, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def test_a_plain_file_is_read(tmp_path):
    assert tensors.load_arrays(written(tmp_path / "a", GOOD))["w"].shape == (2, 3)


def changed(**values):
    return {"w": GOOD["w"] | values}


HOSTILE = {
    "a longer header than the file": ({"header": GOOD, "length": 10**6}, "header is longer"),
    "a header of 2^63 bytes": ({"header": GOOD, "length": 2**63}, "header is longer"),
    "no header": ({"header": b""}, "header is longer"),
    "a header that is no object": ({"header": b"[1]"}, "no list of arrays"),
    "depth": ({"header": b"[" * 100_000}, "nested too deeply"),
    "a name twice": ({"header": json.dumps(GOOD)[:-1].encode() + b', "w": 1}'}, "there twice"),
    "an unknown type": ({"header": changed(dtype="O")}, "unknown type"),
    "a negative axis": ({"header": changed(shape=[-2, -3])}, "no list of whole numbers"),
    "a shape of words": ({"header": changed(shape="23")}, "no list of whole numbers"),
    "a huge shape": ({"header": changed(shape=[2**40, 2**40])}, "does not fit its shape"),
    "a place outside": ({"header": changed(data_offsets=[24, 48])}, "one behind the other"),
    "a place backwards": ({"header": changed(data_offsets=[24, 0])}, "does not fit its shape"),
    "another entry": ({"header": {"w": GOOD["w"] | {"more": 1}}}, "no dtype, shape and place"),
    "two arrays in one place": ({"header": GOOD | {"v": GOOD["w"]}}, "one behind the other"),
    "bytes left over": ({"header": GOOD, "data": b"\0" * 25}, "do not fill it"),
    "bytes missing": ({"header": GOOD, "data": b"\0" * 23}, "do not fill it"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_in_one_message(tmp_path, name):
    arguments, message = HOSTILE[name]
    with pytest.raises(UserError, match=f"missing or corrupt.*{message}"):
        tensors.load_arrays(written(tmp_path / "weights.safetensors", **arguments))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value):
    arrays = {"bias": np.zeros(3), "weight": np.array([0.0, value]), "count": np.array([1])}
    with pytest.raises(UserError, match=r"agent holds weights that are not finite \(weight\)"):
        tensors.check_finite(arrays, "agent")
    tensors.check_finite(arrays | {"weight": np.zeros(2)}, "agent")


def test_in_half_precision_matrices_take_half_the_bytes_and_the_rest_stays(tmp_path):
    source, half = tmp_path / "a.safetensors", tmp_path / "half.safetensors"
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    rest = {
        "bias": np.float32([[1e5], [1 / 3]]),
        "count": np.float32(1e6),
        "index": np.arange(4).reshape(2, 2),
    }
    tensors.save_arrays(source, {"mlp.weight": weight} | rest)
    tensors.save_arrays(half, tensors.halved(source))
    found = tensors.load_arrays(half)
    assert found["mlp.weight"].dtype == np.float16
    assert np.abs(found["mlp.weight"] - weight).max() < 2e-3  # 11 bits of numbers below 4
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype
        for name, array in rest.items()
    )
    tensors.save_arrays(source, {"mlp.weight": weight * 1e5})
    with pytest.raises(UserError, match=r"does not hold \(mlp\.weight\): leave out --half"):
        tensors.halved(source)
