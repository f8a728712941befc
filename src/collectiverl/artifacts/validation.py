"""Checks that configurations have in common; each raises `ConfigError` with the field and the reason."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from collectiverl.types import ConfigError

SEEDS = 2**32  # JAX uses the low 32 bits of a seed: of larger ones, several would be the same
# Larger numbers are taken for typing errors. Below, it is the machine's memory that decides.
MOST = 10**10  # of anything
MOST_ENVS = 10**4  # side by side
MOST_EPISODES = 10**5  # in memory
MOST_STEPS = 10**5  # of an episode
MOST_ROWS = 10**6  # of a batch
MOST_UNITS, MOST_LAYERS = 2**13, 100  # of a network
MOST_TRAININGS = 10**3  # that differ in their seeds
LARGEST = 3.4e38  # larger numbers are infinite in float32, in which everything is computed


def _is_finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)  # an integer may be too large for a float


def at_least(config: Any, bound: int | float, *fields: str) -> None:
    """Every field is `bound` or more, and finite; None (no limit) passes."""
    for field in fields:
        value = getattr(config, field)
        if value is not None and not (value >= bound and _is_finite(value)):
            raise ConfigError(field, f"{value} must be at least {bound}")
    at_most(config, MOST, *fields)


def at_most(config: Any, bound: int | float, *fields: str) -> None:
    """Every field is `bound` or less; None (no limit) passes."""
    for field in fields:
        value = getattr(config, field)
        if value is not None and not value <= bound:
            raise ConfigError(field, f"{value} must be at most {bound}")


def seed(config: Any, field: str = "seed") -> None:
    """The field is a seed: two seeds that pass give two sequences of random numbers."""
    check_seed(getattr(config, field), field)


def check_seed(value: int, field: str = "seed") -> None:
    """The number is a seed that JAX uses whole."""
    if not 0 <= value < SEEDS:
        raise ConfigError(field, f"{value} is not from 0 to {SEEDS - 1}")


def positive(config: Any, *fields: str) -> None:
    """Every field is above 0, and finite; None passes."""
    for field in fields:
        value = getattr(config, field)
        if value is not None and not (value > 0 and _is_finite(value)):
            raise ConfigError(field, f"{value} must be positive")


def finite(config: Any, *fields: str) -> None:
    """Every field is a finite number."""
    for field in fields:
        value = getattr(config, field)
        if not _is_finite(value):
            raise ConfigError(field, f"{value} must be finite")


def all_finite(config: Any) -> None:
    """No number of a dataclass, or of those within it, is nan or infinite, whatever its own checks are.

    Raises:
        ConfigError: one is; it is named by its path, such as `train.sac.tau`.
    """
    for path, value in _leaves(config):
        if isinstance(value, float) and not abs(value) <= LARGEST:
            raise ConfigError(path, f"{value} must be finite in single precision")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All that a dataclass holds, by its path."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name), f"{path}.{field.name}" if path else field.name)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


def between(config: Any, low: int | float, high: int | float, *fields: str) -> None:
    """Every field lies in [low, high]."""
    for field in fields:
        value = getattr(config, field)
        if not low <= value <= high:
            raise ConfigError(field, f"{value} is not in [{low}, {high}]")


def fraction(config: Any, *fields: str) -> None:
    """Every field lies strictly between 0 and 1."""
    for field in fields:
        value = getattr(config, field)
        if not 0 < value < 1:
            raise ConfigError(field, f"{value} is not between 0 and 1")


def one_of(config: Any, options: tuple[Any, ...], field: str) -> None:
    """The field is one of these options."""
    value = getattr(config, field)
    if value not in options:
        raise ConfigError(field, f"{value} is none of {', '.join(map(str, options))}")


@contextlib.contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Says what the caller calls the parts of a config that is checked inside; "" for the caller itself.

    A run's `student` becomes the `train` of a student: what is wrong with `train.steps` is said of `student.steps`.
    """
    try:
        yield
    except ConfigError as error:
        first, _, rest = error.field.partition(".")
        field = ".".join(part for part in (names.get(first, first), rest) if part)
        raise ConfigError(field, error.why) from error
