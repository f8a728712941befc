"""The map of what a collective does in tasks that it never saw: a table and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import color_sequences
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from rich.table import Table

from collectiverl.envs.tasks import label
from collectiverl.reporting.fitting import in_sections, make_table
from collectiverl.reporting.students import HOLE

DPI = 110
WIDTH, HEIGHT_OF_ROW = 7.0, 0.2  # inches
CLASSES = ("known", "half-known", "unknown")
COLOURS = dict(zip(CLASSES, (color_sequences["tab10"][i] for i in (2, 0, 7)), strict=True))


def transfer_table(found: Mapping[str, Any]) -> Table:
    """The tasks by success, the best first; those that are not done yet have holes."""
    table = make_table(title=f"{found['collective']} without training, deterministic, each goal once")
    table.add_column("task")
    table.add_column("class")
    for name in ("any", "95 %", "last", "return"):
        table.add_column(name, justify="right")
    for row in in_sections(table, found["rows"], "class"):
        low, high = row["interval"]
        table.add_row(
            label(row["task"]) + ("" if row["new"] else " (trained for)"),
            row["class"],
            f"{row['success_any']:.2f}",
            f"{low:.2f}-{high:.2f}",
            f"{row['success_last']:.2f}",
            f"{row['return']:,.0f}",
        )
    for task in found["missing"]:
        table.add_row(label(task), *[HOLE] * 5)
    return table


def counts(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many tasks each class has, as a sentence."""
    of = [f"{sum(row['class'] == name for row in rows)} {name}" for name in CLASSES]
    return f"of {len(rows)} tasks: {', '.join(of)} (known from a success of 0.9 on, unknown below 0.05)"


def draw_transfer(found: Mapping[str, Any], path: Path) -> None:
    """Bars of success at any step with 95 % intervals over goals, and a mark for success at the last step."""
    rows = found["rows"]
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure((WIDTH, HEIGHT_OF_ROW * len(rows) + 1.2), DPI, layout=layout)
    axes = figure.subplots()
    place = np.arange(len(rows))
    success = np.array([row["success_any"] for row in rows])
    low, high = np.array([row["interval"] for row in rows]).T
    axes.barh(place, success, color=[COLOURS[row["class"]] for row in rows], height=0.7)
    spread = np.clip([success - low, high - success], 0, None)
    axes.errorbar(success, place, xerr=spread, fmt="none", ecolor="black", elinewidth=0.8)
    last = [row["success_last"] for row in rows]
    axes.plot(last, place, "|", color="black", markersize=9, label="at the last step")
    for name in CLASSES:
        axes.barh([-1], [0], color=COLOURS[name], label=name)
    axes.set_yticks(place, [label(row["task"]) for row in rows], fontsize=8)
    axes.set(xlim=(0, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="success without training")
    axes.set_title(f"{found['collective']} in tasks that it never saw", fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path)
