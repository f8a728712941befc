"""Loading a module from a sealed folder: a description as JSON, and the weights that fit it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.types import UserError

M = TypeVar("M")


def load_module(
    folder: Path, *, about: str, weights: str, make: Callable[[Mapping[str, Any], PRNGKeyArray], M]
) -> tuple[M, Mapping[str, Any]]:
    """The module sealed in `folder`, its files verified, and its description.

    Args:
        about: name of the JSON file that describes the module.
        weights: name of the safetensors file.
        make: builds a fresh module from the description; only its shapes are used.
    """
    sealed.verify(folder)
    described = sealed.read_json(folder / about)
    try:
        like = eqx.filter_eval_shape(make, described, jax.random.key(0))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / about} does not describe what is in {weights} ({error})") from error
    return checkpoints.load_tree(folder / weights, like), described
