"""Tables of a comparison of evaluations, for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from collectiverl.envs.tasks import label
from collectiverl.reporting.fitting import make_table

UNITS = {
    "seeds": "intervals are over training seeds",
    "episodes": "intervals are over episodes: they describe these policies, not how such policies are trained",
}


def compared_tables(found: Mapping[str, Any]) -> Iterator[Table | str]:
    """The tasks of all sides; their mean and interquartile mean; and the first side beside each other one."""
    sides = found["sides"]
    of_tasks = make_table(title="success at any step")
    of_tasks.add_column("task", overflow="fold")
    for i, _ in enumerate(sides):
        of_tasks.add_column(_letter(i), justify="right")
    for task in found["tasks"]:
        of_tasks.add_row(label(task), *(f"{side['by_task'][task]:.2f}" for side in sides))
    yield of_tasks
    means = make_table(title=f"over {len(found['tasks'])} tasks, with 95 % intervals")
    means.add_column("")
    means.add_column("evaluation", overflow="fold")
    for name in ("seeds", "mean", "interquartile mean"):
        means.add_column(name, justify="right")
    for i, side in enumerate(sides):
        means.add_row(
            _letter(i), side["name"], str(side["seeds"]), *(_shown(side[k]) for k in ("mean", "iqm"))
        )
    yield means
    for i, pair in enumerate(found["pairs"], start=1):
        yield (
            f"{_letter(0)} is better than {_letter(i)} with probability {_shown(pair['probability_of_improvement'])}; "
            f"its mean is higher by {_shown(pair['difference'], signed=True)}\n"
        )
    yield f"{UNITS[found['over']]}\n"
    if found["left_out"]:
        yield f"left out, since not all have them: {', '.join(map(label, found['left_out']))}\n"


def _letter(i: int) -> str:
    return chr(ord("A") + i) if i < 26 else str(i)


def _shown(estimate: Mapping[str, Any], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    low, high = estimate["interval"]
    return f"{estimate['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"
