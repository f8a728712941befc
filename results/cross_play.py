"""The table of experts in each other's tasks."""

from itertools import product

from results import ledger
from results.students import short


def cross_play(name: str) -> list[list[str]]:
    """A row for each expert and each task of its group: what it does there, and whether it labels the task."""
    rows = [["task", "played by the expert of", "any step", "last step", "labels it"]]
    for run in ledger.read(f"teachers/{name}"):
        for group in run["groups"]:
            tasks = group["tasks"]
            for (j, task), (i, expert) in product(enumerate(tasks), enumerate(tasks)):
                found = [f"{group[key][i][j]:.2f}" for key in ("success_any", "success_last")]
                labels = run["labeller"][task] == expert
                rows.append([short(task), short(expert), *found, "yes" if labels else ""])
    return rows
