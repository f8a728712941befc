"""The table of students: steps to solve a task, plain SAC beside the default help, from the ledger's cells."""

from collections.abc import Iterator, Sequence
from typing import Any

from collectiverl.reporting.ratios import PLAIN, median_ratio
from collectiverl.student.strategies import DEFAULT
from collectiverl.studies.cells import ZERO_SHOT, compared, row_of
from results import ledger

HOLE = "?"  # in place of a figure that no run of the ledger has
HELPED = "+".join(DEFAULT)
HALF_KNOWN = (
    *("door-unlock", "handle-press", "soccer", "plate-slide-back"),
    *("peg-unplug-side", "coffee-push", "button-press-wall", "dial-turn"),
)  # reported on whatever comes; other tasks have a row as soon as they have a cell
SETTING = (
    *("push-wall", "sweep-into", "plate-slide-back-side", "pick-place-wall", "faucet-close", "window-open"),
)  # on which settings are chosen; the other table leaves them out
TRIED = (PLAIN, "prior-data+imitation", HELPED)


def settings(collective: str) -> list[list[str]]:
    """Steps of each seed on the tasks on which settings are chosen, for each help that has a cell there."""
    mine = [cell for cell in ledger.read("students/") if cell["collective"] in ("", collective)]
    most = max((cell["limit"] for cell in mine if "limit" in cell), default=1)
    table = [["task", *(f"`{strategy}`" for strategy in TRIED)]]
    for task in (f"{task}-v3" for task in SETTING):
        rows = [_row(strategy, task, 1, mine) for strategy in TRIED]
        if any(row["seeds"] for row in rows):
            table.append([f"`{task.removesuffix('-v3')}`", *(_steps(row, most) for row in rows)])
    return table


def students(collective: str) -> list[list[str]]:
    """A row for each task: success without training, steps of each seed, and how many times fewer; then the median."""
    cells = ledger.read("students/")
    mine = [cell for cell in cells if cell["collective"] in ("", collective)]
    alone, zero_shot = {(c["task"], c["strategy"]): c for c in mine}, _zero_shot(collective, mine)
    tasks = [f"{task}-v3" for task in HALF_KNOWN]
    others = {task for task, strategy in alone if strategy in (PLAIN, HELPED)}
    tasks += sorted(others - {*tasks, *(f"{task}-v3" for task in SETTING)})
    seeds = len({cell["seed"] for cell in mine if cell["strategy"] in (PLAIN, HELPED)})
    most = max((cell["limit"] for cell in mine if "limit" in cell), default=1)
    rows = compared([_row(s, task, seeds, mine) for task in tasks for s in (PLAIN, HELPED)], most)
    by_task = {(row["task"], row["strategy"]): row for row in rows}
    heads = ["task", "without training", "plain SAC", "with help", "times fewer", "forward transfer", "seeds"]
    table = [heads]
    for task in tasks:
        pair = [by_task[task, s] for s in (PLAIN, HELPED)]
        counts = "/".join(str(len(row["seeds"])) for row in pair)
        figures = [_steps(row, most) for row in pair]
        table.append(
            [f"`{task.removesuffix('-v3')}`", zero_shot.get(task, HOLE), *figures, *_gains(pair[1]), counts]
        )
    return [*table, *_median(rows)]


def _row(strategy: str, task: str, seeds: int, cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found = [cell for cell in cells if (cell["strategy"], cell["task"]) == (strategy, task)]
    return row_of(strategy, task, seeds, found)


def _zero_shot(collective: str, cells: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Success without training: of the map, or of a cell."""
    found = {cell["task"]: cell["success"] for cell in cells if cell["strategy"] == ZERO_SHOT}
    for entry in ledger.read(f"transfer/{collective}_seed_"):
        found |= {row["task"]: row["success_any"] for row in entry["policies"]}
    return {task: f"{success:.2f}" for task, success in found.items()}


def _steps(row: dict[str, Any], most: int) -> str:
    """Of each seed; one that did not solve the task had more than all."""
    found = [f"> {most:,}" if steps is None else f"{steps:,}" for steps in row.get("steps", [])]
    return "; ".join(found) or HOLE


def _gains(row: dict[str, Any]) -> tuple[str, str]:
    """How many times fewer steps, and the forward transfer."""
    if not (ratio := row.get("ratio")):
        return HOLE, HOLE
    sign = {"": "", "at least": "≥ ", "at most": "≤ "}.get(ratio["bound"])
    low_high = " ({:.2f} to {:.2f})".format(*ratio["interval"]) if "interval" in ratio else ""
    fewer = "neither solves it" if sign is None else f"{sign}{ratio['value']:.2f}{low_high}"
    gain = row["forward_transfer"]
    return fewer, HOLE if gain is None else f"{gain:+.2f}"


def _median(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    if found := median_ratio(rows, HELPED):
        gain = found["forward_transfer"]
        figures = [f"**{found['value']:.2f}**", HOLE if gain is None else f"{gain:+.2f}"]
        yield [f"median of {found['tasks']}, mean", "", "", "", *figures, ""]
