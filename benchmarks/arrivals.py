"""What many runs until success say together, some of which were stopped before."""

import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.peers import TITLES
from collectiverl.envs.tasks import label

# settings of ours were tried on the first four, and on none of the others
TUNED = ("reach-v3", "drawer-close-v3", "window-close-v3", "door-open-v3")
UNTUNED = ("faucet-open-v3", "door-close-v3", "plate-slide-v3", "coffee-button-v3")
MAX_RATIO = 30.0  # times our own, after which a peer is stopped
HOLE = "?"  # in place of what is not measured
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


class Cell(NamedTuple):
    contender: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.contender}_{self.task}_seed_{self.seed}"


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


def half_untuned(tasks: Collection[str]) -> bool:
    """Whether a mean over these tasks may be shown: for at least half of them no setting of ours was tuned."""
    return 0 < len(tasks) <= 2 * sum(task in UNTUNED for task in tasks)


def rows(cells: Sequence[Cell], found: Mapping[Cell, Verdict]) -> list[list[str]]:
    """A row for each task and contender of `cells`, and the geometric means over tasks of each peer's ratio.

    Contenders of whose cells none is in `found` share a row of holes. A mean is over the tasks that have a ratio, and a
    hole if fewer than half of these are untuned.
    """
    names, tasks = (list(dict.fromkeys(column)) for column in list(zip(*cells, strict=True))[:2])
    table: list[list[str]] = []
    ratios: dict[str, dict[str, Ratio]] = {name: {} for name in names}
    for task in tasks:
        wanted = {name: [c for c in cells if (c.contender, c.task) == (name, task)] for name in names}
        verdicts = {name: [found[c] for c in mine if c in found] for name, mine in wanted.items()}
        arrivals = {name: median_arrival(mine) for name, mine in verdicts.items() if mine}
        for name in names:
            if name in arrivals and "ours" in arrivals:
                ratios[name][task] = ratio(arrivals[name], arrivals["ours"])
            if name in arrivals:
                holes = len(wanted[name]) - len(verdicts[name])
                figures = _figures(verdicts[name], arrivals[name], holes)
                table.append([_shown(task), TITLES[name], *figures, str(ratios[name].get(task, HOLE))])
        if missing := [TITLES[name] for name in names if name not in arrivals]:
            table.append([_shown(task), _together(missing, names), *[HOLE] * 5])
    peers = [name for name in names if name != "ours"]
    table += [row for name in peers if ratios[name] for row in _means(name, tasks, ratios[name])]
    if missing := [TITLES[name] for name in peers if not ratios[name]]:
        table.append(["geometric mean", _together(missing, peers), *[""] * 4, HOLE])
    return table


def _together(titles: Sequence[str], names: Sequence[str]) -> str:
    """The contenders of which nothing is measured."""
    return "all" if len(titles) == len(names) else "; ".join(titles)


def _shown(task: str) -> str:
    return f"{label(task)}, untuned" if task in UNTUNED else label(task)


def _figures(verdicts: Sequence[Verdict], arrival: Arrival, holes: int) -> list[str]:
    mark = "> " if arrival.bound else ""
    missing = f", {holes} not measured" if holes else ""
    return [
        f"{sum(v['solved'] for v in verdicts)} of {len(verdicts)}{missing}",
        f"{mark}{arrival.seconds:,.0f}",
        f"{statistics.median(v['compile_seconds'] for v in verdicts):.0f}",
        f"{mark}{arrival.env_steps:,.0f}",
    ]


def _means(name: str, tasks: Sequence[str], ratios: Mapping[str, Ratio]) -> Iterator[list[str]]:
    """Over all tasks, and over those that are untuned."""
    for kind, mine in (("tasks", tasks), ("untuned tasks", [task for task in tasks if task in UNTUNED])):
        known = [task for task in mine if task in ratios]
        mean = str(geometric_mean([ratios[task] for task in known])) if half_untuned(known) else HOLE
        yield [f"geometric mean, {len(known)} of {len(mine)} {kind}", TITLES[name], *[""] * 4, mean]
