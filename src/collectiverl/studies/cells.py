"""What one cell of a comparison found: a strategy, a task and a seed; and the rows that cells make.

A strategy with a replay ratio of its own has it in its name: `none@8` makes 8 updates after each vector step.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from collectiverl.artifacts import sealed
from collectiverl.artifacts.metrics import read_metrics
from collectiverl.evaluation.statistics import seeds_interval
from collectiverl.reporting.ratios import PLAIN, area, forward_transfer, ratio
from collectiverl.stages.base import summary
from collectiverl.stages.experts import steps_to

ZERO_SHOT, CLONING, RANDOM = "zero-shot", "cloning", "random"
UNTRAINED = (ZERO_SHOT, CLONING)  # not trained by SAC: evaluated once
TIMES = 2  # evaluations in a row that must reach the level
UNNAMED = 16  # updates after each vector step, of cells whose name has no ratio
WITH_RATIO = re.compile(r"(.+)@([1-9]\d{0,5})")
OF_SEEDS = ("success", "steps", "env_steps", "seconds", "area", "mentor_success", "curve")  # columns of a row


def named(strategy: str, updates: int) -> str:
    """The name of a cell's strategy, by its updates after each vector step."""
    return strategy if updates == UNNAMED else f"{strategy}@{updates}"


def parsed(name: str) -> tuple[str, int | None]:
    """The strategy, and its own updates after each vector step; None: the name does not say."""
    found = WITH_RATIO.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def cell_result(folder: Path) -> dict[str, Any]:
    """What the sealed folder of a cell says: enough for its part of every table.

    `steps` are environment steps until success had reached the level, the mentor's own counted; None: it never did.
    """
    folder = folder.resolve()
    record, found = sealed.manifest(folder), summary(folder)
    strategy, _ = parsed(folder.parents[1].name)
    cell: dict[str, Any] = {
        "strategy": strategy,
        "collective": "" if strategy == PLAIN else folder.parents[2].name,
        "task": found["task"],
        "seed": record["seed"],
    }
    if strategy == ZERO_SHOT:
        last = {"success_last": found["success_last"]}
        return cell | {"success": found["success_any"], "episodes": found["episodes"]} | last
    kept = ("success", "env_steps", "seconds", "mentor_success", "mentor_steps")
    cell |= {name: found[name] for name in kept if name in found}
    if strategy == CLONING:
        return cell
    train = record["config"]["train"]
    return cell | {"strategy": named(strategy, train["updates_per_step"])} | _course(folder, train)


def _course(folder: Path, train: Mapping[str, Any]) -> dict[str, Any]:
    """How a training went, by its evaluations."""
    log = read_metrics(folder)
    names = {"steps": "step", "success": "eval/success", "episodes": "eval/episodes"}
    curve = {name: [line[key] for line in log] for name, key in names.items()}
    return {
        "level": train["stop_success"],
        "limit": train["steps"],
        "updates_per_step": train["updates_per_step"],
        "steps": steps_to(folder, train["stop_success"], TIMES),
        "area": area(curve, train["steps"]),
        "curve": curve,
    }


# -- rows --------------------------------------------------------------------------------------------------


def row_of(strategy: str, task: str, seeds: int, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cells of a strategy and a task in one row; `holes` of its `seeds` are not done yet."""
    row: dict[str, Any] = {"strategy": strategy, "task": task, "holes": seeds - len(found)}
    row["seeds"] = [cell["seed"] for cell in found]
    row |= {name: [c.get(name) for c in found] for name in OF_SEEDS if any(name in c for c in found)}
    if strategy == ZERO_SHOT and found:
        episodes = [cell["episodes"] for cell in found]
        row["interval"] = _interval(row["success"], episodes)
    return row


def compared(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The rows, each beside plain SAC on its task: the ratio of steps, and the forward transfer.

    Plain SAC is the row `none`; where there is none, the only one with updates of its own, such as `none@16`.
    """
    of = [row["strategy"] for row in rows if parsed(row["strategy"])[0] == PLAIN]
    beside = PLAIN if PLAIN in of or len(set(of)) != 1 else of[0]
    plain = {row["task"]: row for row in rows if row["strategy"] == beside and row["seeds"]}
    return [
        row
        | {
            "ratio": ratio(plain[row["task"]], row, most),
            "forward_transfer": forward_transfer(plain[row["task"]], row),
        }
        if row["task"] in plain and row["strategy"] not in UNTRAINED and row["seeds"]
        else row
        for row in rows
    ]


def _interval(rates: Sequence[float], episodes: Sequence[int]) -> list[float]:
    successes = [round(rate * n) for rate, n in zip(rates, episodes, strict=True)]
    return [round(bound, 4) for bound in seeds_interval(successes, episodes)]
