"""Success of every policy on every task."""

from collections.abc import Mapping, Sequence
from typing import Any

from collectiverl.evaluation.statistics import success_interval
from collectiverl.reporting.page import figures
from collectiverl.reporting.page.blocks import Block, Plot, Section, Table
from collectiverl.reporting.page.reading import Found, RunFolder, short

ORDER = tuple(figures.POLICIES)


def rows_of(run: RunFolder) -> list[Found]:
    """What was found of each policy and task, in the order of tables."""
    found = [about for stage, about in run.of_kind("evaluate") if stage.name.startswith("evaluation/")]
    known = [row for row in found if row["policy"] in ORDER]
    return sorted(known, key=lambda row: ORDER.index(row["policy"]))


def interval(row: Found, measure: str) -> tuple[float, float]:
    low, high = success_interval(round(row[measure] * row["episodes"]), row["episodes"])
    return low, high


def named(policy: str) -> str:
    return figures.NAMES.get(policy, policy)


def section(run: RunFolder) -> Section | None:
    rows = rows_of(run)
    if not rows:
        return None
    played = dict.fromkeys(row["task"] for row in rows)
    tasks = [task for task in run.tasks if task in played] + [
        task for task in played if task not in run.tasks
    ]
    means = {kind: _mean(rows, kind) for kind in dict.fromkeys(row["policy"] for row in rows)}
    blocks: list[Block] = [_plot(rows, tasks, means), _means(rows, means)]
    return Section("success", "Success", _lead(rows, means), blocks)


def _lead(rows: Sequence[Found], means: Mapping[str, float]) -> str:
    shown = f"the collective solves {means['collective']:.0%} of the goals" if "collective" in means else ""
    if shown and "expert" in means:
        shown += f", the experts, one for each task, {means['expert']:.0%}"
    if shown and "told-nothing" in means:
        shown += f", a policy that is told nothing and has as many episodes and updates {means['told-nothing']:.0%}"
    first = f"On average over tasks, {shown}. " if shown else ""
    return f"{first}Each policy played each of these goals once, deterministically, to the time limit."


def _mean(rows: Sequence[Found], policy: str, measure: str = "success_any") -> float:
    values = [row[measure] for row in rows if row["policy"] == policy]
    return sum(values) / len(values)


def _plot(rows: Sequence[Found], tasks: Sequence[str], means: Mapping[str, float]) -> Plot:
    groups = {
        named(kind): [
            (short(row["task"]), row["success_any"], interval(row, "success_any"))
            for row in rows
            if row["policy"] == kind
        ]
        for kind in means
    }
    last = {
        named(kind): {
            short(row["task"]): row["success_last"]
            for row in rows
            if row["policy"] == kind and row["success_last"] != row["success_any"]
        }
        for kind in means
    }
    drawn = figures.dots(
        groups,
        [short(task) for task in tasks],
        title="success (share of goals)",
        colours={named(kind): shade for kind, shade in figures.POLICIES.items()},
        symbols={named(kind): symbol for kind, symbol in figures.SYMBOL_OF.items()},
        open_dots=last,
    )
    said = ", ".join(f"{named(kind)} {mean:.2f}" for kind, mean in means.items())
    return Plot(
        "Success of every policy on every task",
        f"On average over tasks: {said}.",
        {"": drawn},
        caption="Filled: success at any step, with its 95 % interval over the goals played (Wilson). "
        "Open: success at the last step, where that differs.",
        table=_table(rows),
    )


def _table(rows: Sequence[Found]) -> Table:
    header = [
        "policy",
        "task",
        "any step",
        "95 % interval",
        "last step",
        "95 % interval",
        "return",
        "episodes",
    ]
    return Table(
        "Success of every policy on every task", header, [_line(row) for row in rows], text_columns=2
    )


def _line(row: Found) -> list[str]:
    cells: list[str] = [named(row["policy"]), short(row["task"])]
    for measure in ("success_any", "success_last"):
        low, high = interval(row, measure)
        cells += [f"{row[measure]:.2f}", f"{low:.2f} to {high:.2f}"]
    return [*cells, f"{row['return']:,.0f}", f"{row['episodes']:,}"]


def _means(rows: Sequence[Found], means: Mapping[str, float]) -> Table:
    lines = []
    for kind in means:
        mine = [row for row in rows if row["policy"] == kind]
        worst = min(mine, key=lambda row: row["success_any"])
        hidden: Any = {row["goals"] for row in mine}
        lines.append(
            [
                named(kind),
                f"{means[kind]:.3f}",
                f"{_mean(rows, kind, 'success_last'):.3f}",
                f"{worst['success_any']:.2f} ({short(worst['task'])})",
                str(len(mine)),
                " and ".join(sorted(hidden)),
            ]
        )
    return Table("Means over tasks", ["policy", "any step", "last step", "least", "tasks", "goals"], lines)
