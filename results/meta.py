"""The table of a benchmark of meta-learning, from the ledger."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from results import ledger
from results.students import HOLE


def meta(name: str) -> list[list[str]]:
    """A benchmark of meta-learning: by Meta-World's protocol, and in one episode from nothing with rewards told."""
    adapted, single = (ledger.read(f"meta/{name}{kind}_seed_") for kind in ("", "-single"))
    rows = [["tasks", "task", "adapted", "each seed", "one episode", "each seed", "last step"]]
    for split in ("train", "test"):
        parts = [[_of_split(run, split) for run in runs] for runs in (adapted, single)]
        tasks = list(dict.fromkeys(task for part in parts for found in part for task in found))
        rows += [[split, f"`{t.removesuffix('-v3')}`", *_both(parts, [t])] for t in tasks]
        if tasks:
            rows.append([split, f"mean of {len(tasks)}", *_both(parts, tasks)])
    return rows


def _of_split(run: dict[str, Any], split: str) -> dict[str, dict[str, Any]]:
    """The rows of the training or of the test tasks, which are new to the policy, by task."""
    new = split == "test"
    fits = [r for r in run["policies"] if (r["split"] == split if "split" in r else r["new"] == new)]
    return {row["task"]: row for row in fits}


def _both(parts: Sequence[Sequence[dict[str, dict[str, Any]]]], tasks: Sequence[str]) -> list[str]:
    """Mean success over these tasks, and each seed's, by either protocol; at the last step by the second."""
    cells = []
    for runs, key in zip((*parts, parts[1]), ("success_any", "success_any", "success_last"), strict=True):
        seeds = [fmean(run[task][key] for task in tasks) for run in runs if set(tasks) <= set(run)]
        cells += [
            f"{fmean(seeds):.3f}" if seeds else HOLE,
            ", ".join(f"{seed:.3f}" for seed in seeds) or HOLE,
        ]
    return cells[:-1]
