"""Intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectiverl.evaluation.statistics import interval_over, mean_interval, seeds_interval, success_interval

COUNTS = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_by_hand():
    z, n, p = 1.959964, 50, 0.9
    centre, spread = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert success_interval(45, 50) == pytest.approx(
        [(centre + s * spread) / (1 + z**2 / n) for s in (-1, 1)]
    )


@given(COUNTS)
def test_an_interval_holds_its_rate_and_stays_among_rates(counts):
    low, high = success_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] + 1e-12
    assert counts[0] / counts[1] - 1e-12 <= high <= 1


@given(COUNTS)
def test_failures_are_the_mirror_of_successes(counts):
    k, n = counts
    low, high = success_interval(k, n)
    assert success_interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_all_of_fifty_is_not_certain():
    assert success_interval(50, 50) == pytest.approx((0.9287, 1.0), abs=1e-4)


def test_wilson_covers_about_95_percent():
    inside = [low <= 0.8 <= high for low, high in (success_interval(k, 50) for k in range(51))]
    draws = np.random.default_rng(0).binomial(50, 0.8, 20_000)
    assert np.mean(np.asarray(inside)[draws]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("successes", "episodes"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match=r"."):
        success_interval(successes, episodes)


def test_students_t_by_hand():
    margin = 12.7062 * np.sqrt(2) / np.sqrt(2)  # t of one degree of freedom; deviation of 1 and 3 is sqrt(2)
    assert mean_interval([1.0, 3.0]) == pytest.approx((2 - margin, 2 + margin), abs=1e-3)


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="at least two values, not 1"):
        mean_interval([1.0])


def test_two_seeds_are_pooled_and_three_are_the_unit():
    assert seeds_interval([40, 50], [50, 50]) == success_interval(90, 100)
    assert [interval_over(seeds) for seeds in (1, 2, 3)] == ["episodes", "episodes", "seeds"]


def test_seeds_that_differ_are_less_certain_than_their_episodes():
    low, high = seeds_interval([20, 35, 50], [50, 50, 50])
    pooled = success_interval(105, 150)
    assert low < pooled.low
    assert high > pooled.high
    assert 0 <= low <= high <= 1


def test_seeds_that_agree_are_as_certain_as_their_episodes():
    assert seeds_interval([50, 50, 50], [50, 50, 50]) == success_interval(150, 150)
