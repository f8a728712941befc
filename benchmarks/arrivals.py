"""What many runs until success say together, some of which were stopped before."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.peers import TITLES

MAX_RATIO = 10.0  # times our own, after which a peer is stopped
COLUMNS = (
    "task",
    "contender",
    "solved",
    "core-seconds",
    "of these compiling",
    "environment steps",
    "against ours",
)

Verdict = dict[str, Any]  # see `Judge.verdict`


class Arrival(NamedTuple):
    seconds: float
    env_steps: float
    bound: bool  # the true median is at least this


class Ratio(NamedTuple):
    value: float
    mark: str  # what precedes the value: "" it is so, "≥" at least, "≤" at most, "?" unknown

    def __str__(self) -> str:
        return "?" if self.mark == "?" else f"{self.mark} {self.value:.1f}x".strip()


def median_arrival(verdicts: Sequence[Verdict]) -> Arrival:
    """The median; a bound if a run that was stopped may lie at or below it."""
    seconds, env_steps = ([v[name] for v in verdicts] for name in ("seconds", "env_steps"))
    middle = statistics.median_high(seconds)
    bound = any(not v["solved"] and v["seconds"] <= middle for v in verdicts)
    return Arrival(statistics.median(seconds), statistics.median(env_steps), bound)


def ratio(theirs: Arrival, ours: Arrival) -> Ratio:
    """How many times longer theirs took. A lower bound counts as `MAX_RATIO` at most."""
    marks = {(False, False): "", (True, False): "≥", (False, True): "≤", (True, True): "?"}
    value = theirs.seconds / ours.seconds
    return Ratio(min(value, MAX_RATIO) if theirs.bound else value, marks[theirs.bound, ours.bound])


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio:
    marks = {r.mark for r in ratios if r.mark}
    value = math.exp(statistics.fmean(math.log(r.value) for r in ratios))
    return Ratio(value, "" if not marks else marks.pop() if len(marks) == 1 else "?")


def rows(cells: Sequence[Verdict]) -> list[list[str]]:
    """A row for each task and contender, and the geometric mean over tasks of each peer's ratio."""
    names = list(dict.fromkeys(cell["contender"] for cell in cells))
    table, ratios = [], {name: [] for name in names}
    for task in dict.fromkeys(cell["task"] for cell in cells):
        by_name = {n: [c for c in cells if (c["contender"], c["task"]) == (n, task)] for n in names}
        arrivals = {name: median_arrival(found) for name, found in by_name.items()}
        for name in names:
            against = ratio(arrivals[name], arrivals["ours"]) if "ours" in arrivals else Ratio(1, "?")
            ratios[name].append(against)
            table.append([task, TITLES[name], *_figures(by_name[name], arrivals[name]), str(against)])
    means = ([name, geometric_mean(found)] for name, found in ratios.items() if name != "ours")
    return table + [["geometric mean", TITLES[name], "", "", "", "", str(mean)] for name, mean in means]


def _figures(verdicts: Sequence[Verdict], arrival: Arrival) -> list[str]:
    mark = "> " if arrival.bound else ""
    return [
        f"{sum(v['solved'] for v in verdicts)} of {len(verdicts)}",
        f"{mark}{arrival.seconds:,.0f}",
        f"{statistics.median(v['compile_seconds'] for v in verdicts):.0f}",
        f"{mark}{arrival.env_steps:,.0f}",
    ]
