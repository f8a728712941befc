"""Two policies, or two ways of training, compared on the same tasks, as Agarwal et al. (2021, rliable) define it.

- The *interquartile mean* (IQM) is the mean of the middle half of all scores, over runs and tasks.
- The *probability of improvement* is P(X > Y) + P(X = Y) / 2 for a run X of the one and a run Y of the other on the
  same task, averaged over tasks.
- Intervals are percentiles of a bootstrap that draws the runs of each task anew (stratified).

A run is a training seed, and its score the success rate, if each side has three seeds or more. With fewer, the spread
of trainings is unknown. Then the success rate of each task is drawn, from what its episodes tell of it, and the
intervals describe these very policies and not their training; the IQM is that of the tasks' rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from collectiverl.evaluation.statistics import CONFIDENCE, Interval, interval_over, trials
from collectiverl.types import UserError

TRIMMED = 0.25  # share of the scores that the IQM leaves out at each end
DRAWS = 5_000  # of the bootstrap
Rows = Mapping[str, Mapping[str, Any]]  # of one evaluation: task -> its row


@dataclass(frozen=True)
class Side:
    """One of those that are compared: evaluations of its training seeds on the same tasks."""

    name: str
    seeds: tuple[Rows, ...]

    def rates(self, tasks: Sequence[str]) -> Float[np.ndarray, "seeds tasks"]:
        return np.array([[rows[task]["success_any"] for task in tasks] for rows in self.seeds], float)

    def trials(self, tasks: Sequence[str]) -> Float[np.ndarray, "seeds tasks"]:
        """Episodes that say something of their own."""
        return np.array([[trials(rows[task]) for task in tasks] for rows in self.seeds], float)


def iqm(scores: Float[np.ndarray, "*batch runs tasks"]) -> Float[np.ndarray, "*batch"]:
    """The interquartile mean over runs and tasks."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = int(TRIMMED * flat.shape[-1])
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(-1))


def improvement(
    x: Float[np.ndarray, "*batch runs tasks"], y: Float[np.ndarray, "*batch others tasks"]
) -> Float[np.ndarray, "*batch"]:
    """The probability that a run of `x` is better than one of `y`, averaged over tasks; a tie counts half."""
    of_tasks = []
    for task in range(x.shape[-1]):  # one after another: all at once would fill the memory
        one, other = x[..., :, None, task], y[..., None, :, task]
        of_tasks.append(((one > other) + 0.5 * (one == other)).mean((-2, -1)))
    return np.asarray(np.mean(of_tasks, axis=0))


def compare(sides: Sequence[Side]) -> dict[str, Any]:
    """The first side beside each of the others: rates, IQM, and the probability that the first is better.

    Raises:
        UserError: there are fewer than two sides, or they have no task in common.
    """
    if len(sides) < 2:
        raise UserError(
            "a comparison needs two evaluations at least: name two JSON files of 'evaluate --json'"
        )
    tasks = _common(sides)
    over = "seeds" if all(interval_over(len(side.seeds)) == "seeds" for side in sides) else "episodes"
    draws = [_drawn(side, tasks, over, np.random.default_rng(i)) for i, side in enumerate(sides)]
    first = sides[0]
    pairs = [
        _pair(first, other, tasks, over, draws[0], drawn)
        for other, drawn in zip(sides[1:], draws[1:], strict=True)
    ]
    return {
        "tasks": list(tasks),
        "left_out": sorted({task for side in sides for rows in side.seeds for task in rows} - set(tasks)),
        "over": over,
        "draws": DRAWS,
        "sides": [_about(side, tasks, drawn) for side, drawn in zip(sides, draws, strict=True)],
        "pairs": pairs,
    }


def _common(sides: Sequence[Side]) -> tuple[str, ...]:
    """The tasks that all evaluations have, in the order of the first."""
    every = [rows for side in sides for rows in side.seeds]
    tasks = tuple(task for task in every[0] if all(task in rows for rows in every))
    if not tasks:
        raise UserError(f"{' and '.join(side.name for side in sides)} have no task in common")
    return tasks


def _drawn(
    side: Side, tasks: Sequence[str], over: str, rng: np.random.Generator
) -> Float[np.ndarray, "draws runs tasks"]:
    """Scores of as many runs, drawn anew for each task; of episodes, the tasks' rates.

    The rates are drawn from what is known of them after these episodes (Jeffreys' prior; Brown, Cai, DasGupta 2001).
    Episodes that are drawn anew would always succeed at a rate of 1, as if that were certain.
    """
    rates = side.rates(tasks)
    if over == "seeds":
        runs = rng.integers(0, len(rates), (DRAWS, *rates.shape))
        return np.take_along_axis(rates[None], runs, axis=1)
    count = side.trials(tasks).sum(0)
    solved = _pooled(side, tasks) * count
    return rng.beta(solved + 0.5, count - solved + 0.5, (DRAWS, len(tasks)))[:, None]


def _pooled(side: Side, tasks: Sequence[str]) -> Float[np.ndarray, "tasks"]:
    """The success rate of each task over the episodes of all seeds."""
    return np.average(side.rates(tasks), axis=0, weights=side.trials(tasks))


def _about(side: Side, tasks: Sequence[str], drawn: np.ndarray) -> dict[str, Any]:
    scores = side.rates(tasks) if drawn.shape[1] > 1 else _pooled(side, tasks)[None]
    return {
        "name": side.name,
        "seeds": len(side.seeds),
        "episodes": sum(rows[task]["episodes"] for rows in side.seeds for task in tasks),
        "by_task": dict(zip(tasks, scores.mean(0).tolist(), strict=True)),
        "mean": _estimate(float(scores.mean()), drawn.mean((1, 2))),
        "iqm": _estimate(float(iqm(scores)), iqm(drawn)),
    }


def _pair(
    one: Side, other: Side, tasks: Sequence[str], over: str, drawn: np.ndarray, others: np.ndarray
) -> dict[str, Any]:
    """How much better the one is than the other."""
    if over == "seeds":
        x, y = one.rates(tasks), other.rates(tasks)
        better, betters = float(improvement(x, y)), improvement(drawn, others)
    else:  # of two coins, one is better than the other with 1/2 + (p - q) / 2
        x, y = _pooled(one, tasks)[None], _pooled(other, tasks)[None]
        gained = np.asarray((drawn - others).mean((1, 2)))
        better, betters = 0.5 + float((x - y).mean()) / 2, 0.5 + gained / 2
    gain = float(x.mean() - y.mean())
    return {
        "name": one.name,
        "than": other.name,
        "difference": _estimate(gain, drawn.mean((1, 2)) - others.mean((1, 2))),
        "probability_of_improvement": _estimate(better, betters),
    }


def _estimate(value: float, drawn: Float[np.ndarray, "draws"]) -> dict[str, Any]:
    """The interval is widened to contain the value, which at rates of 0 and 1 lies at the edge of all draws."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return {"value": value, "interval": list(Interval(min(float(low), value), max(float(high), value)))}
