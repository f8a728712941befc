"""Files of named arrays, in the format safetensors: what they say is checked before anything is made of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from collectiverl.artifacts.files import MOST_JSON, check_regular, parse_json, unreadable, write_atomically
from collectiverl.types import UserError

DTYPES = {
    "BOOL": np.dtype(bool),
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
SUFFIX = ".safetensors"
LENGTH = 8  # bytes in front, which hold the length of the header
MOST_AXES = 32
WEIGHT = ".weight"  # ends the names of matrices
METADATA = "__metadata__"  # an entry that is no array


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    write_atomically(
        path, safetensors.numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()})
    )


def halved(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, those that are named as weights in half precision.

    They are nearly all of its bytes. Statistics and biases, which are small and may exceed what half precision holds,
    stay as they are.

    Raises:
        UserError: the file is missing or damaged, or a weight is larger than half precision holds.
    """
    arrays = load_arrays(path)
    with np.errstate(over="ignore"):  # what is infinite then is refused
        found = {name: _halved(name, array) for name, array in arrays.items()}
    if name := not_finite(found):
        raise UserError(f"{path} has weights that half precision does not hold ({name}): leave out --half")
    return found


def _halved(name: str, array: np.ndarray) -> np.ndarray:
    is_weight = name.endswith(WEIGHT) and array.dtype == np.float32
    return array.astype(np.float16) if is_weight else array


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file, by name.

    Raises:
        UserError: the file is missing or damaged, or its header does not fit what follows.
    """
    try:
        _check_header(path)
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        damaged = f"is missing or corrupt ({error}): delete {path.parent} and run its stage again"
        raise unreadable(path, error, damaged) from error


def _check_header(path: Path) -> None:
    """Arrays of known types lie one behind the other and fill the file.

    Raises:
        ValueError: they do not.
    """
    size = check_regular(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        if not 0 < length <= min(MOST_JSON, size - LENGTH):
            raise ValueError("its header is longer than it may be")
        header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no list of arrays")
    places = sorted(_place(about) for name, about in header.items() if name != METADATA)
    end = 0
    for begin, after in places:
        if begin != end:
            raise ValueError("its arrays do not lie one behind the other")
        end = after
    if end != size - LENGTH - length:
        raise ValueError("its arrays do not fill it")


def _place(about: Any) -> tuple[int, int]:
    """First byte of an array, and the one behind its last; they fit its shape."""
    if not isinstance(about, dict) or about.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("an array has no dtype, shape and place")
    dtype, shape, place = about["dtype"], about["shape"], about["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"an array is of an unknown type, {dtype!r:.20}")
    for numbers in (shape, place):
        if not isinstance(numbers, list) or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError("a shape or a place is no list of whole numbers")
    if len(shape) > MOST_AXES or len(place) != 2:
        raise ValueError("an array has too many axes, or no place")
    if place[1] - place[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError("an array's place does not fit its shape")
    return place[0], place[1]


def check_finite(arrays: Mapping[str, Any], where: object) -> None:
    """No weight is nan or infinite.

    Raises:
        UserError: one is; it is named.
    """
    if name := not_finite(arrays):
        raise UserError(
            f"{where} holds weights that are not finite ({name}): its training diverged; train it again with a lower "
            "learning rate or a smaller reward scale"
        )


def not_finite(arrays: Mapping[str, Any]) -> str | None:
    """The name of the first array with an entry that is nan or infinite; None: there is none."""
    for name, array in arrays.items():
        found = np.asarray(array)
        if np.issubdtype(found.dtype, np.floating) and not np.isfinite(found).all():
            return name
    return None
