"""How much less a student needed than plain SAC: environment steps, and the area under its curve.

Rows have a list over seeds of each figure, and `seeds` says which. Two rows are compared over the seeds that both
have.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, median, median_high, median_low
from typing import Any

import numpy as np

from collectiverl.evaluation.statistics import CONFIDENCE, ENOUGH_SEEDS

PLAIN = "none"  # the strategy of a student that nothing helps
SIGNS = {"": "", "at least": "≥ ", "at most": "≤ "}  # of bounds; none: nothing is known
DRAWS = 2_000  # of the bootstrap


def ratio(plain: Mapping[str, Any], row: Mapping[str, Any], most: int) -> dict[str, Any] | None:
    """The ratio of the medians over seeds; `most` steps were allowed. None: no seed is in both rows.

    A student that did not reach the level counts with all its steps: then the ratio is only a bound. With three
    seeds or more it has an interval, see `_interval`.
    """
    if not (pairs := _both(plain, row, "steps")):
        return None
    theirs, own = ([most if s is None else s for s in column] for column in zip(*pairs, strict=True))
    reached = [sum(s is not None for s in column) > len(pairs) / 2 for column in zip(*pairs, strict=True)]
    found = {
        "value": median(theirs) / median(own),
        "bound": _bound(larger=not reached[0], smaller=not reached[1]),
        "seeds": len(pairs),
    }
    return found | ({"interval": _interval(pairs, most)} if len(pairs) >= ENOUGH_SEEDS else {})


def _both(plain: Mapping[str, Any], row: Mapping[str, Any], name: str) -> list[tuple[Any, Any]]:
    """A figure of the seeds that are in both rows."""
    theirs, own = (dict(zip(r["seeds"], r[name], strict=True)) for r in (plain, row))
    return [(theirs[seed], own[seed]) for seed in theirs if seed in own]


def _interval(pairs: Sequence[tuple[int | None, int | None]], most: int) -> list[float | None]:
    """The middle 95 % of a bootstrap over the seeds of both; None: it has no upper end.

    An unsolved seed would have needed between `most` steps and infinitely many: whichever makes the interval wider.
    With three seeds there is little to draw from: the interval holds the true ratio in nine of ten cases only
    (tests/test_comparisons.py).
    """
    tail = (1 - CONFIDENCE) / 2
    low = np.quantile(_drawn(pairs, most, math.inf), tail, method="lower")
    high = np.quantile(_drawn(pairs, math.inf, most), 1 - tail, method="higher")
    return [round(float(low), 4), round(float(high), 4) if np.isfinite(high) else None]


def _drawn(pairs: Sequence[tuple[int | None, int | None]], *unsolved: float) -> np.ndarray:
    """Ratios of medians over seeds that are drawn anew; `unsolved` are the steps of an unsolved seed, on each side."""
    rng, columns = np.random.default_rng(0), zip(*pairs, strict=True)
    sides = ([u if s is None else s for s in column] for column, u in zip(columns, unsolved, strict=True))
    theirs, own = (np.median(rng.choice(side, (DRAWS, len(side))), axis=1) for side in sides)
    return theirs / own


def shown_interval(interval: Sequence[float | None]) -> str:
    """In words, also without an upper end."""
    low, high = ("∞" if end is None else f"{end:.2f}" for end in interval)
    return f"{low} to {high}"


def forward_transfer(plain: Mapping[str, Any], row: Mapping[str, Any]) -> float | None:
    """The area that a student gained, as a share of what plain SAC left (Wolczyk et al. 2021, Continual World)."""
    if not (pairs := _both(plain, row, "area")):
        return None
    theirs, own = (mean(column) for column in zip(*pairs, strict=True))
    return (own - theirs) / (1 - theirs) if theirs < 1 else None


def area(curve: Mapping[str, Sequence[float]], most: int) -> float:
    """The mean success over `most` environment steps: 0 before the first evaluation, then that of the latest one.

    A student that stopped early keeps its last success.
    """
    ends = [*curve["steps"][1:], most]
    spans = [max(0, min(end, most) - start) for start, end in zip(curve["steps"], ends, strict=True)]
    return sum(span * s for span, s in zip(spans, curve["success"], strict=True)) / most


def median_ratio(rows: Sequence[Mapping[str, Any]], strategy: str) -> dict[str, Any] | None:
    """Over the tasks in which the strategy or plain SAC reached the level, as is the mean of forward transfer.

    `bounds` says how many of these ratios are bounds; they count with their value. `bound` says what that makes of the
    median: one at or below it that may be larger, at or above it that may be smaller. `holes` counts the tasks where
    seeds of either are missing.
    """
    mine = [row for row in rows if row["strategy"] == strategy != PLAIN]
    counted = [row for row in mine if row.get("ratio") and row["ratio"]["bound"] != "unknown"]
    known = [row["ratio"] for row in counted]
    if not known:
        return None
    gains = [row["forward_transfer"] for row in counted if row.get("forward_transfer") is not None]
    return {
        "value": median(ratio["value"] for ratio in known),
        "bound": _bound_of_median(known),
        "tasks": len(known),
        "bounds": sum(bool(ratio["bound"]) for ratio in known),
        "holes": sum(row.get("ratio") is None or bool(row.get("holes")) for row in mine),
        "forward_transfer": mean(gains) if gains else None,
    }


def _bound_of_median(known: Sequence[Mapping[str, Any]]) -> str:
    values = [ratio["value"] for ratio in known]
    larger = any(r["bound"] == "at least" and r["value"] <= median_high(values) for r in known)
    smaller = any(r["bound"] == "at most" and r["value"] >= median_low(values) for r in known)
    return _bound(larger, smaller)


def _bound(larger: bool, smaller: bool) -> str:
    """What is known of a value that may be larger, or smaller, than it was found."""
    if larger and smaller:
        return "unknown"
    return "at least" if larger else "at most" if smaller else ""
