"""Loading a module from a sealed folder: a description as JSON, and the weights that fit it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from collectiverl.artifacts import checkpoints, sealed, tensors
from collectiverl.artifacts.files import read_object
from collectiverl.types import UserError

M = TypeVar("M")
# what comes of a description that lacks something, or says what makes no sense
NOT_DESCRIBED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError)


def load_module(
    folder: Path, *, about: str, weights: str, make: Callable[[Mapping[str, Any], PRNGKeyArray], M]
) -> tuple[M, Mapping[str, Any]]:
    """The module sealed in `folder`, its files verified, and its description.

    Args:
        about: name of the JSON file that describes the module.
        weights: name of the safetensors file.
        make: builds a fresh module from the description; only its shapes are used.

    Raises:
        UserError: a file is damaged, the weights are others than are described, or they are not finite.
    """
    described = described_in(folder, about, weights)
    try:
        like = eqx.filter_eval_shape(make, described, jax.random.key(0))
    except NOT_DESCRIBED as error:
        raise UserError(f"{folder / about} does not describe what is in {weights} ({error!r})") from error
    module = checkpoints.load_tree(folder / weights, like)
    tensors.check_finite(checkpoints.arrays_of(module), folder / weights)
    return module, described


def described_in(folder: Path, about: str, weights: str) -> dict[str, Any]:
    """The description of a sealed module, after its files were verified.

    Raises:
        UserError: a file is damaged, or the folder holds no such module.
    """
    record = sealed.verify(folder)
    for name in (about, weights):
        if name not in record["files"]:
            raise UserError(f"{folder} has no {name} that its manifest lists: name another folder")
    return read_object(folder / about)
