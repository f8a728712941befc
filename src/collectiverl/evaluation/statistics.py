"""95 % confidence intervals of success rates and means."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3  # with two, the t interval is too wide to be useful (12.7 standard errors)


class Interval(NamedTuple):
    low: float
    high: float


def trials(row: Mapping[str, Any]) -> int:
    """How many of a row's episodes say something of their own: all, if the row does not tell."""
    return row.get("trials", row["episodes"])


def success_interval(successes: int, episodes: int) -> Interval:
    """Wilson's score interval of a success rate.

    It stays in [0, 1] and, unlike the normal interval, has a width at 0 of 50 and 50 of 50. Its coverage is 95 % on
    average; Clopper and Pearson's interval covers at least 95 % and is wider (Brown, Cai, DasGupta 2001).

    Raises:
        ValueError: `successes` is not in [0, `episodes`], or there are no episodes.
    """
    from scipy import stats  # here, because it takes long to import

    found = stats.binomtest(int(successes), int(episodes)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of independent values, such as one number for each seed.

    Raises:
        ValueError: there are fewer than two values, so that their spread is unknown.
    """
    if len(values) < 2:
        raise ValueError(f"the interval of a mean needs at least two values, not {len(values)}")
    from scipy import stats

    mean, error = float(np.mean(values)), float(stats.sem(values))
    margin = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Interval(mean - margin, mean + margin)


def interval_over(seeds: int) -> str:
    """What varies in `seeds_interval` of that many seeds: the `seeds` of training, or only the `episodes` played."""
    return "seeds" if seeds >= ENOUGH_SEEDS else "episodes"


def seeds_interval(successes: Sequence[int], episodes: Sequence[int]) -> Interval:
    """Interval of the mean success rate of several training seeds, from each seed's successes and episodes.

    With three or more seeds it is the t interval of the seeds' rates, because the episodes of one seed share its
    policy and are not independent. It is widened to contain Wilson's interval of all episodes, so that seeds with
    equal rates (all 100 %, for example) do not look certain. With fewer seeds their spread is unknown: it is Wilson's
    interval of all episodes, which describes these policies and not the training.
    """
    pooled = success_interval(sum(successes), sum(episodes))
    if interval_over(len(successes)) == "episodes":
        return pooled
    between = mean_interval(np.divide(successes, episodes).tolist())
    return Interval(max(0.0, min(between.low, pooled.low)), min(1.0, max(between.high, pooled.high)))
