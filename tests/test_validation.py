"""What the shared checks of configurations refuse, and how the refusal reads."""

from dataclasses import dataclass

import pytest

from collectiverl.artifacts import validation
from collectiverl.types import ConfigError


@dataclass
class Config:
    batch_size: float | None = 1


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "check",
    [lambda c: validation.at_least(c, 1, "batch_size"), lambda c: validation.positive(c, "batch_size")],
)
def test_what_is_too_small_or_not_finite_is_refused_by_field(check, value):
    with pytest.raises(ConfigError, match=f"^batch-size: {value} must be") as refusal:
        check(Config(value))
    assert refusal.value.field == "batch_size"


def test_no_limit_is_no_number():
    validation.at_least(Config(None), 1, "batch_size")


@pytest.mark.parametrize("value", [0.0, 1.0, 2.0, float("nan")])
def test_a_fraction_leaves_something_on_both_sides(value):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        validation.fraction(Config(value), "batch_size")


def test_a_closed_interval_has_its_ends():
    for value in (0, 0.5, 1):
        validation.between(Config(value), 0, 1, "batch_size")
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"is not in \[0, 1\]"):
            validation.between(Config(value), 0, 1, "batch_size")


def test_an_option_that_there_is_not_lists_those_that_there_are():
    with pytest.raises(ConfigError, match="3 is none of 1, 2"):
        validation.one_of(Config(3), (1, 2), "batch_size")
