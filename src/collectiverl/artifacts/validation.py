"""Checks that configurations have in common; each raises `ConfigError` with the field and the reason."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from collectiverl.types import ConfigError


def at_least(config: Any, bound: int | float, *fields: str) -> None:
    """Every field is `bound` or more, and finite; None (no limit) passes."""
    for field in fields:
        value = getattr(config, field)
        if value is not None and not (value >= bound and math.isfinite(value)):
            raise ConfigError(field, f"{value} must be at least {bound}")


def positive(config: Any, *fields: str) -> None:
    """Every field is above 0, and finite."""
    for field in fields:
        value = getattr(config, field)
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(field, f"{value} must be positive")


def finite(config: Any, *fields: str) -> None:
    """Every field is a finite number."""
    for field in fields:
        value = getattr(config, field)
        if not math.isfinite(value):
            raise ConfigError(field, f"{value} must be finite")


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
