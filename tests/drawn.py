"""Modules and arrays drawn by NumPy: JAX compiles a program of its own for every shape that it draws at random."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

M = TypeVar("M")


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Normally distributed numbers."""
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def module(make: Callable[..., M], *args: Any, seed: int = 0, scale: float = 0.4, **kwargs: Any) -> M:
    """What `make(*args, **kwargs)` returns, with a drawn number in place of every weight; `key` need not be given."""
    if "key" not in kwargs:
        kwargs["key"] = jax.random.key(0)
    rng = np.random.default_rng(seed)
    like = eqx.filter_eval_shape(make, *args, **kwargs)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, scale, leaf.shape), leaf.dtype), like)
