"""How sure a measured success rate or mean is: 95 % intervals, and what they speak of."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3  # with two, the t interval (12.7 standard errors) says nothing


class Interval(NamedTuple):
    low: float
    high: float


def success_interval(successes: int, episodes: int) -> Interval:
    """Wilson's score interval of a success rate.

    It stays in [0, 1], does not collapse at 0 of 50 or 50 of 50 as the normal interval does, and holds 95 %
    on average; Clopper and Pearson's holds at least 95 % and is wider for it (Brown, Cai, DasGupta 2001).

    Raises:
        ValueError: `successes` is not among 0 to `episodes`, or there are no episodes.
    """
    from scipy import stats  # here: a second to import, for every command line

    found = stats.binomtest(int(successes), int(episodes)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of a mean over independent values, such as one number a seed.

    Raises:
        ValueError: fewer than two values, whose spread nobody knows.
    """
    if len(values) < 2:
        raise ValueError(f"the interval of a mean needs at least two values, not {len(values)}")
    from scipy import stats

    mean, error = float(np.mean(values)), float(stats.sem(values))
    margin = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Interval(mean - margin, mean + margin)


def interval_over(seeds: int) -> str:
    """What `seeds_interval` of that many seeds speaks of: training anew, or these very policies."""
    return "seeds" if seeds >= ENOUGH_SEEDS else "episodes"


def seeds_interval(successes: Sequence[int], episodes: Sequence[int]) -> Interval:
    """Interval of the success rate of several seeds, each with its own number of episodes.

    From three seeds on the seed is the unit: t interval of the seeds' rates, since 50 goals of one seed share
    its luck. It is widened to Wilson's interval of all episodes together, so that seeds which happen to agree
    (all at 100 %, say) do not look certain. Fewer seeds tell nothing of the spread between them: Wilson's
    interval alone, which says how well these policies do and not how well training does.
    """
    pooled = success_interval(sum(successes), sum(episodes))
    if interval_over(len(successes)) == "episodes":
        return pooled
    between = mean_interval(np.divide(successes, episodes).tolist())
    return Interval(max(0.0, min(between.low, pooled.low)), min(1.0, max(between.high, pooled.high)))
