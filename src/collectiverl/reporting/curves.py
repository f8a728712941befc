"""The picture of a comparison: success over environment steps, one panel a task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from collectiverl.evaluation.statistics import seeds_interval
from collectiverl.reporting.ratios import PLAIN

DPI = 110
PANEL = 3.4, 2.6  # inches
COLUMNS = 3  # panels in a row, at most
COLOURS = color_sequences["tab10"]
LINES = {"zero-shot": ":", "cloning": "--"}  # of what is measured once, at the end


def draw_curves(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], path: Path) -> None:
    """Mean over seeds with 95 % intervals; a student that stopped early keeps its last success.

    `settings` are those of the comparison: `success`, `steps` and `eval_every`.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    strategies = sorted(dict.fromkeys(row["strategy"] for row in rows), key=lambda name: name != PLAIN)
    colours = dict(zip((name for name in strategies if name not in LINES), COLOURS, strict=False))
    across = min(COLUMNS, len(tasks))
    down = -(-len(tasks) // across)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure((PANEL[0] * across, PANEL[1] * down + 0.6), DPI, layout=layout)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, task in zip(panels, tasks, strict=False):
        for row in (row for row in rows if row["task"] == task):
            _draw(panel, row, colours.get(row["strategy"], "grey"), settings)
        panel.set_title(task, fontsize=10)
        panel.set_ylim(-0.03, 1.03)
        panel.axhline(settings["success"], color="lightgrey", linewidth=0.8, zorder=0)
    for panel in panels[len(tasks) :]:
        panel.set_axis_off()
    figure.supxlabel("environment steps (thousands)", fontsize=9)
    figure.supylabel("success", fontsize=9)
    handles = {
        label: h for panel in panels for h, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=3, fontsize=8, frameon=False
    )
    figure.savefig(path)


def _draw(panel: Axes, row: Mapping[str, Any], colour: Any, settings: Mapping[str, Any]) -> None:
    if not row["seeds"]:  # not done yet
        return
    if line := LINES.get(row["strategy"]):
        panel.axhline(np.mean(row["success"]), color="grey", linestyle=line, label=row["strategy"])
        return
    grid = np.arange(0, settings["steps"] + 1, settings["eval_every"])
    rates, episodes = (
        np.stack([_at(c, grid, name) for c in row["curve"]]) for name in ("success", "episodes")
    )
    bounds = [
        seeds_interval([round(r * n) for r, n in zip(rate, played, strict=True)], played.astype(int).tolist())
        for rate, played in zip(rates.T, np.maximum(episodes, 1).T, strict=True)
    ]
    low, high = np.asarray(bounds).T
    panel.plot(grid / 1000, rates.mean(0), color=colour, label=row["strategy"])
    panel.fill_between(grid / 1000, low, high, color=colour, alpha=0.15, linewidth=0)


def _at(
    curve: Mapping[str, Sequence[float]], grid: np.ndarray, name: str = "success"
) -> Float[np.ndarray, "G"]:
    """The figure of the last evaluation by each of these steps; 0 before the first."""
    index = np.searchsorted(curve["steps"], grid, side="right") - 1
    return np.where(index < 0, 0.0, np.asarray(curve[name])[np.maximum(index, 0)])
