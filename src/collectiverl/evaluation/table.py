"""Evaluations as rows for JSON, and as a table for people."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from rich.table import Table

from collectiverl.evaluation.evaluate import Evaluation
from collectiverl.evaluation.statistics import interval_over, seeds_interval

Row = TypedDict(
    "Row",
    {
        "policy": str,
        "task": str,
        "seeds": int,
        "episodes": int,  # of all seeds together
        "success_any": float,  # rates, 0 to 1
        "success_any_low": float,  # 95 % interval …
        "success_any_high": float,
        "interval_over": str,  # … over "seeds" or "episodes"
        "success_last": float,
        "return": float,  # mean over episodes
        "steps": float | None,  # mean steps to the first success, of the episodes that have one
    },
)


def row(policy: str, evaluations: Sequence[Evaluation]) -> Row:
    """The evaluations of one policy, of any number of seeds, as one row.

    Evaluations of several tasks make their mean: the interval then treats all goals as alike, which is on the
    wide side, since each task has its fixed share of them.

    Raises:
        ValueError: there is nothing to summarise.
    """
    if not evaluations:
        raise ValueError(f"no evaluations of {policy} to summarise")
    by_seed = {e.seed: [other for other in evaluations if other.seed == e.seed] for e in evaluations}
    successes = [sum(sum(e.success_any) for e in group) for group in by_seed.values()]
    episodes = [sum(e.episodes for e in group) for group in by_seed.values()]
    low, high = seeds_interval(successes, episodes)
    steps = [n for e in evaluations for n in e.first_success if n is not None]
    return {
        "policy": policy,
        "task": _task(evaluations),
        "seeds": len(by_seed),
        "episodes": sum(episodes),
        "success_any": sum(successes) / sum(episodes),
        "success_any_low": low,
        "success_any_high": high,
        "interval_over": interval_over(len(by_seed)),
        "success_last": float(np.mean([last for e in evaluations for last in e.success_last])),
        "return": float(np.mean([value for e in evaluations for value in e.returns])),
        "steps": float(np.mean(steps)) if steps else None,
    }


def rows(policy: str, evaluations: Sequence[Evaluation]) -> list[Row]:
    """One row for each task, and of several tasks their mean."""
    tasks = dict.fromkeys(e.task for e in evaluations)
    each = [row(policy, [e for e in evaluations if e.task == task]) for task in tasks]
    return [*each, row(policy, evaluations)] if len(tasks) > 1 else each


def table(rows: Sequence[Row], title: str = "") -> Table:
    """Success in percent with its 95 % interval, return, and steps to the first success."""
    made = Table(title=title or None)
    for name in ("policy", "task"):
        made.add_column(name)
    for name in ("success", "95 %", "at the end", "return", "steps", "episodes"):
        made.add_column(name, justify="right")
    for one in rows:
        made.add_row(*_cells(one))
    return made


def _cells(one: Row) -> tuple[str, ...]:
    return (
        one["policy"],
        one["task"],
        f"{one['success_any']:.1%}",
        f"{100 * one['success_any_low']:.0f}–{100 * one['success_any_high']:.0f}",  # noqa: RUF001
        f"{one['success_last']:.1%}",
        f"{one['return']:.0f}",
        "–" if one["steps"] is None else f"{one['steps']:.0f}",  # noqa: RUF001
        f"{one['episodes'] // one['seeds']}" + (f" × {one['seeds']} seeds" if one["seeds"] > 1 else ""),  # noqa: RUF001
    )


def _task(evaluations: Sequence[Evaluation]) -> str:
    tasks = {e.task for e in evaluations}
    return tasks.pop() if len(tasks) == 1 else f"mean of {len(tasks)}"
