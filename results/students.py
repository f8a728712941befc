"""The table of students: steps to solve a task, plain SAC beside the default help, from the ledger's cells."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any

from collectiverl.reporting.ratios import PLAIN, SIGNS, median_ratio, shown_interval
from collectiverl.student.strategies import DEFAULT
from collectiverl.studies.cells import ZERO_SHOT, compared, named, row_of
from collectiverl.studies.comparison import ComparisonConfig
from collectiverl.studies.transfer import CLASSES, class_of
from results import ledger

HOLE = "?"  # in place of a figure that no run of the ledger has
HELPED = "+".join(DEFAULT)
LIMIT = (
    ComparisonConfig().steps
)  # that a student was allowed; cells with another limit are in none of these tables
HALF_KNOWN = tuple(
    f"{task}-v3"
    for task in (
        *("door-unlock", "handle-press", "soccer", "plate-slide-back"),
        *("peg-unplug-side", "coffee-push", "button-press-wall", "dial-turn"),
    )
)  # reported on whatever comes; other tasks have a row as soon as they have a cell
SETTING = tuple(
    f"{task}-v3"
    for task in (
        *("push-wall", "sweep-into", "plate-slide-back-side"),
        *("pick-place-wall", "faucet-close", "window-open"),
    )
)  # on which settings are chosen; the other table leaves them out
RATIO_TASKS = tuple(task for task in SETTING if task not in ("pick-place-wall-v3", "window-open-v3"))
TRIED = (PLAIN, "prior-data+imitation", HELPED)
SHAPING = (PLAIN, HELPED, "likelihood", "potential")  # the thesis's help is `likelihood`
KNOWN = CLASSES[0]  # no ratio is claimed: the student copies
BEFORE = 16  # updates of both sides, before the best were looked for
SHORT = 16_000  # steps of the trainings that show whether students should be held
RATIOS = (4, 8, 16, 32)  # updates after each vector step, of which each side's own is chosen
SIDES = {PLAIN: "plain SAC", HELPED: "with help"}


def settings(collective: str) -> list[list[str]]:
    """Steps of each seed on the tasks on which settings are chosen, and where a former default was tried.

    With the replay ratio of that time.
    """
    mine = _cells(collective)
    table = [["task", *(f"`{strategy}@{BEFORE}`" for strategy in TRIED)]]
    for task in (*SETTING, *HALF_KNOWN):
        rows = [_row(strategy, task, 1, mine, BEFORE) for strategy in TRIED]
        if any(row["seeds"] for row in (rows[1:2] if task in HALF_KNOWN else rows)):
            table.append([short(task), *(_steps(row) for row in rows)])
    return table


def held(collective: str) -> list[list[str]]:
    """Students let go at once, and held, on tasks on which settings are chosen.

    Mean success over short trainings of each seed, and in brackets the steps until the task was solved.
    """
    names = [
        named(side, updates) for updates in (BEFORE, *RATIOS[-1:]) for side in (HELPED, f"{HELPED}-held")
    ]
    found: dict[tuple[str, str], list[str]] = {}
    for cell in ledger.read("students/"):
        if cell["collective"] == collective and cell.get("limit") == SHORT:
            steps = "not solved" if cell["steps"] is None else f"{cell['steps']:,}"
            found.setdefault((cell["task"], cell["strategy"]), []).append(f"{cell['area']:.2f} ({steps})")
    table = [["task", *(f"`{name if '@' in name else f'{name}@{BEFORE}'}`" for name in names)]]
    for task in SETTING:
        areas = [found.get((task, name), []) for name in names]
        if any(areas):
            table.append([short(task), *("; ".join(each) or HOLE for each in areas)])
    return table


def shaping(collective: str) -> list[list[str]]:
    """Steps of each seed with the two strategies that shape rewards, beside plain SAC and the default help."""
    mine = _cells(collective)
    table = [["task", *(f"`{strategy}`" for strategy in SHAPING)]]
    for task in HALF_KNOWN:
        steps = (_steps(_row(strategy, task, 1, mine)) for strategy in SHAPING)
        table.append([short(task), *steps])
    return table


def ratios(collective: str) -> list[list[str]]:
    """Steps of each seed by the replay ratio, of either side, on some of the tasks on which settings are chosen.

    The mean is over the tasks that have all ratios; a seed that did not solve its task counts with all its steps.
    """
    mine = _cells(collective)
    table = [["task", "student", *(f"{updates} updates" for updates in RATIOS)]]
    for strategy, title in SIDES.items():
        by_task = {task: [_row(strategy, task, 1, mine, n) for n in RATIOS] for task in RATIO_TASKS}
        table += [[short(t), title, *(_steps(row) for row in rows)] for t, rows in by_task.items()]
        whole = [rows for rows in by_task.values() if all(row["seeds"] for row in rows)]
        means = [_geometric_mean(column) for column in zip(*whole, strict=True)] or [HOLE] * len(RATIOS)
        table.append([f"geometric mean of {len(whole)}", title, *means])
    return table


def _geometric_mean(rows: Sequence[dict[str, Any]]) -> str:
    medians = [median(LIMIT if s is None else s for s in row["steps"]) for row in rows]
    return f"{math.exp(fmean(map(math.log, medians))):,.0f}"


def students(collective: str, updates: int | None = None) -> list[list[str]]:
    """A row for each task: success without training, steps of each seed, and how many times fewer; then medians.

    Args:
        updates: after each vector step, of both sides; None: those that are best for each.
    """
    mine = _cells(collective)
    zero_shot = _zero_shot(collective, mine)
    names = [named(side, updates) if updates else _usual(side) for side in SIDES]
    compared_cells = [cell for cell in mine if cell["strategy"] in names]
    others = {cell["task"] for cell in compared_cells} - {*HALF_KNOWN, *SETTING}
    tasks, seeds = (*HALF_KNOWN, *sorted(others)), len({cell["seed"] for cell in compared_cells})
    rows = compared([_row(s, task, seeds, mine, updates) for task in tasks for s in SIDES], LIMIT)
    by_task = {(row["task"], row["strategy"]): row for row in rows}
    classes = {task: class_of(success) for task, success in zero_shot.items()}
    table = [
        [
            *("task", "without training", "plain SAC", "with help", "times fewer", "forward transfer"),
            *("final success", "seeds"),
        ]
    ]
    for task in tasks:
        pair = [by_task[task, s] for s in SIDES]
        without = f"{zero_shot[task]:.2f}" if task in zero_shot else HOLE
        gains = ("known", "") if classes.get(task) == KNOWN else _gains(pair[1])
        counts = "/".join(str(len(row["seeds"])) for row in pair)
        table.append([short(task), without, *(_steps(row) for row in pair), *gains, _final(pair), counts])
    for name in CLASSES:
        if name != KNOWN:
            table += _median(name, [row for row in rows if classes.get(row["task"]) == name])
    return table


def _cells(collective: str) -> list[dict[str, Any]]:
    """The collective's, and those of plain SAC; of students that were allowed as many steps as usual."""
    found = [cell for cell in ledger.read("students/") if cell["collective"] in ("", collective)]
    return [cell for cell in found if cell.get("limit", LIMIT) == LIMIT]


def short(task: str) -> str:
    return f"`{task.removesuffix('-v3')}`"


def _usual(strategy: str) -> str:
    """The name of the strategy's cells at the comparison's own replay ratio."""
    updates = ComparisonConfig().updates(strategy)
    return named(strategy, updates)


def _row(
    strategy: str, task: str, seeds: int, cells: Sequence[dict[str, Any]], updates: int | None = None
) -> dict[str, Any]:
    """Of the cells with this many updates after each vector step; None: as the comparison has by default."""
    name = named(strategy, updates) if updates else _usual(strategy)
    found = [cell for cell in cells if (cell["strategy"], cell["task"]) == (name, task)]
    return row_of(strategy, task, seeds, found)


def _zero_shot(collective: str, cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Success without training: of the map, or of a cell."""
    found = {cell["task"]: cell["success"] for cell in cells if cell["strategy"] == ZERO_SHOT}
    for entry in ledger.read(f"transfer/{collective}_seed_"):
        found |= {row["task"]: row["success_any"] for row in entry["policies"]}
    return found


def _steps(row: dict[str, Any]) -> str:
    """Of each seed; one that did not solve the task had more than all."""
    found = [f"> {LIMIT:,}" if steps is None else f"{steps:,}" for steps in row.get("steps", [])]
    return "; ".join(found) or HOLE


def _final(rows: Sequence[dict[str, Any]]) -> str:
    """On fresh goals after training, of plain SAC and with help: means over seeds."""
    means = [f"{fmean(row['success']):.2f}" if row.get("success") else HOLE for row in rows]
    return " / ".join(means) if any(row.get("success") for row in rows) else HOLE


def _gains(row: dict[str, Any]) -> tuple[str, str]:
    """How many times fewer steps, and the forward transfer."""
    if not (ratio := row.get("ratio")):
        return HOLE, HOLE
    sign = SIGNS.get(ratio["bound"])
    low_high = f" ({shown_interval(ratio['interval'])})" if "interval" in ratio else ""
    fewer = "neither solves it" if sign is None else f"{sign}{ratio['value']:.2f}{low_high}"
    gain = row["forward_transfer"]
    return fewer, HOLE if gain is None else f"{gain:+.2f}"


def _median(name: str, rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    if found := median_ratio(rows, HELPED):
        gain = found["forward_transfer"]
        value = f"{SIGNS.get(found['bound'], 'about ')}{found['value']:.2f}"
        figures = [f"**{value}**", HOLE if gain is None else f"{gain:+.2f}"]
        tasks = f"{found['tasks']} task{'s' * (found['tasks'] != 1)}"
        yield [f"{name}, {tasks}: median, mean", "", "", "", *figures, "", ""]
