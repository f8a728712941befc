"""Batches filled up to multiples of `ROWS`, so that a program is compiled for few sizes, not for every number of rows.

Rounding can depend on the size of a batch. Filled up, up to `ROWS` rows give the same result however many they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

ROWS = 16


def filled(count: int) -> int:
    """The number of rows that `count` rows are filled up to."""
    return max(1, -(-count // ROWS)) * ROWS


def fill(array: Any, axis: int = 0) -> np.ndarray:
    """The array with its last row repeated up to the filled size."""
    array = np.asarray(array)
    missing = [(0, 0)] * array.ndim
    missing[axis] = (0, filled(array.shape[axis]) - array.shape[axis])
    return np.pad(array, missing, mode="edge")


def call(function: Callable[..., Any], module: Any, *arrays: Any, axis: int = 0) -> Any:
    """`function(module, *arrays)` on filled arrays; returns its outputs on the host, without the added rows."""
    count = np.shape(arrays[0])[axis]
    out = function(module, *(fill(array, axis) for array in arrays))
    kept = (slice(None),) * axis + (slice(count),)
    return jax.tree.map(lambda x: np.asarray(x)[kept], out)
