"""What a run shows: a bar for every stage at work, and the table at the end."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from collectiverl.envs.tasks import label
from collectiverl.pipeline import executor
from collectiverl.stages.base import Stage
from collectiverl.studies.comparison import ComparisonConfig

console = Console()
_table = partial(Table, box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)


class Display:
    """One line for the whole run and one for each stage at work; without a terminal, a line as each ends."""

    def __init__(self, progress: Progress, stages: Sequence[Stage]):
        self.progress = progress
        self.labels = {stage.out: stage.label for stage in stages}
        self.tasks: dict[str, TaskID] = {}
        self.began: dict[str, float] = {}
        self.overall = progress.add_task("[bold]all stages", total=len(stages), note="", rate="")

    def __call__(self, update: executor.Progress) -> None:
        if update.out not in self.tasks:
            label = self.labels.setdefault(update.out, update.out)
            self.tasks[update.out] = self.progress.add_task(label, total=1, note="", rate="")
            self.began[update.out] = time.perf_counter()
        task = self.tasks[update.out]
        seconds = time.perf_counter() - self.began[update.out]
        if not update.total:
            self.progress.remove_task(task)
            self.progress.advance(self.overall)
            self.progress.console.print(f"[green]done[/] {self.labels[update.out]} [dim]({seconds:.0f} s)[/]")
            return
        rate = f"{update.done / seconds:,.0f}/s" if update.done > 1 and seconds > 0 else ""
        self.progress.update(task, completed=update.done, total=update.total, note=update.note, rate=rate)


@contextmanager
def display(stages: Sequence[Stage]) -> Iterator[Display]:
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("[cyan]{task.fields[rate]}"),
        TextColumn("[dim]{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        yield Display(progress, stages)


def policies_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Every policy on every task, success as a share of the goals played; no wider than eighty columns."""
    kinds = {row["policy"] for row in rows}
    whose = f"{kinds.pop()}: " if len(kinds) == 1 else ""  # no column for what is the same in every row
    demos = {row.get("trained_from", "") for row in rows} - {"", "scratch"}
    table = _table(
        title=f"{whose}success over each task's goals, deterministic (steps: of environments, in training)"
    )
    for name in (*([] if whose else ["policy"]), "task", *(["from"] if demos else [])):
        table.add_column(name, no_wrap=True)
    for name in ("any", "95 %", "last", *([] if demos else ["return"]), "steps", "sec"):
        table.add_column(name, justify="right", no_wrap=True)
    previous = None
    for row in rows:
        if previous and row["policy"] != previous:
            table.add_section()
        previous = row["policy"]
        low, high = row["interval"]
        table.add_row(
            *([] if whose else [row["policy"]]),
            row["task"],
            *([_origin(row)] if demos else []),
            f"{row['success_any']:.2f}",
            f"{low:.2f}-{high:.2f}",
            f"{row['success_last']:.2f}",
            *([] if demos else [f"{row['return']:,.0f}"]),
            f"{row['env_steps'] / 1000:,.0f}k" if row.get("env_steps") else "",
            f"{row['seconds']:,.0f}" if row.get("seconds") else "",
        )
    return table


def _origin(row: Mapping[str, Any]) -> str:
    """`scripted:20` as a table has room for it."""
    kind, _, count = row.get("trained_from", "").partition(":")
    return f"{count} demos" if count else kind


def probe_tables(probe: Mapping[str, Any]) -> Iterator[Table]:
    """What the judge of the trajectory transformer found."""
    yield probe_table(probe)
    yield clustering_table(probe)
    yield confused_table(probe)


def probe_table(probe: Mapping[str, Any]) -> Table:
    """How well a linear probe tells the tasks apart, by the number of steps seen."""
    table = _table(title=f"which task is it? linear probe, held-out episodes (chance {probe['chance']:.2f})")
    views = {"embedding z": probe, "raw state": probe["raw"], "raw window": probe["raw_window"]}
    for name in ("steps seen", *views):
        table.add_column(name, justify="right")
    for length in probe["linear_probe"]:
        table.add_row(length, *(f"{view['linear_probe'][length]:.3f}" for view in views.values()))
    return table


def clustering_table(probe: Mapping[str, Any]) -> Table:
    """How well clusters agree with the tasks: k-means, then a mixture that was not told how many there are."""
    table = _table(title=f"clusters of full windows, against {probe['tasks']} tasks")
    table.add_column("of", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for name in ("clusters", "NMI", "ARI", "purity", "silhouette"):
        table.add_column(name, justify="right")
    for of, found in (("embedding z", probe["clustering"]), ("raw state", probe["raw"]["clustering"])):
        told, untold = found, found["mixture"]
        table.add_row(of, "k-means", str(probe["tasks"]), *_agreement(told), f"{told['silhouette']:.3f}")
        table.add_row("", "mixture", str(untold["clusters"]), *_agreement(untold), "")
    return table


def _agreement(found: Mapping[str, Any]) -> list[str]:
    return [f"{found[name]:.3f}" for name in ("nmi", "ari", "purity")]


def confused_table(probe: Mapping[str, Any]) -> Table:
    """The tasks that look alike at first, and whether they still do in the end."""
    pairs = probe["most_confused"]
    table = _table(
        title="most confused, as a share of the task's windows" if pairs else "no task is taken for another",
        show_header=bool(pairs),
    )
    table.add_column("task", no_wrap=True)
    table.add_column("taken for", no_wrap=True)
    for length in pairs[0]["share"] if pairs else ():
        table.add_column("at the first step" if length == "1" else f"after {length} steps", justify="right")
    for pair in pairs:
        table.add_row(pair["task"], pair["taken_for"], *(f"{share:.0%}" for share in pair["share"].values()))
    return table


def ablation_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Success over all tasks and over those that look alike, and what a linear probe on `z` says."""
    table = Table(
        title="what each choice is worth: success at any step, fresh goals, mean over seeds",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
    )
    for name in ("varied", "variant"):
        table.add_column(name, no_wrap=True)
    for name in ("all tasks", "alike", "last step", "probe 1", "probe 5", "full", "sec"):
        table.add_column(name, justify="right")
    previous = None
    for row in rows:
        if previous not in (None, row["group"]):
            table.add_section()
        previous = row["group"]
        probes = [_average(row["probe"], name) for name in ("1", "5", "anywhere")]
        found = [_average(row["seeds"], name) for name in ("success_any", "alike", "success_last")]
        seconds = sum(row["seconds"]) / len(row["seconds"])
        table.add_row(row["group"], row["variant"], *found, *probes, f"{seconds:,.0f}")
    return table


def comparison_table(rows: Sequence[Mapping[str, Any]], comparison: ComparisonConfig) -> Table:
    """Task by task, what each strategy took to reach the level, and how many times fewer steps than plain SAC."""
    table = _table(
        title=f"environment steps until success reached {comparison.success:g} twice, by the median of "
        f"{comparison.seeds} seeds (more than {comparison.steps:,}: -)"
    )
    table.add_column("task", no_wrap=True)
    table.add_column("strategy", overflow="fold")
    for name in ("success", "steps", "sec", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    previous = None
    for row in sorted(rows, key=lambda row: row["task"]):
        if previous not in (None, row["task"]):
            table.add_section()
        shown = row["task"] if previous != row["task"] else ""
        previous = row["task"]
        success = f"{sum(row['success']) / len(row['success']):.2f}"
        table.add_row(shown, row["strategy"].replace("+", " + "), success, *_course(row))
    return table


def _course(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Steps, seconds and ratio of students that were trained."""
    if "steps" not in row:
        return (f"{median(row['env_steps']):,.0f}" if "env_steps" in row else "0", "", "")
    steps = median(float("inf") if s is None else s for s in row["steps"])
    return (
        f"{steps:,.0f}" if math.isfinite(steps) else "-",
        f"{median(row['seconds']):,.0f}",
        _ratio(row.get("ratio")),
    )


def _ratio(found: Mapping[str, Any] | None) -> str:
    """With the sign of a bound where one of the two never got there; neither did: nothing is known."""
    if found is None or found["bound"] == "unknown":
        return ""
    sign = {"": "", "at least": "≥ ", "at most": "≤ "}[found["bound"]]
    return f"{sign}{found['value']:.2f}"


def median_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for strategy, ratio in found["median_ratio"].items():
        if ratio is not None:
            bounds = f", {ratio['bounds']} of them bounds" if ratio["bounds"] else ""
            yield (
                f"{strategy}: {ratio['value']:.2f} times fewer steps than plain SAC, by the median over "
                f"{ratio['tasks']} tasks{bounds}"
            )


def _average(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return f"{sum(values) / len(values):.3f}" if values else ""


def extensions_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table | str]:
    """What each added task did to those before it; then how all are known in the end."""
    table = _table(
        title="one task after another: success on fresh goals (before, after: mean of the old tasks)"
    )
    table.add_column("added", no_wrap=True)
    for name in ("tasks", "new", "before", "after", "forgot"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst", overflow="fold")  # gives way where a line is too narrow
    for row in rows:
        before = row["before"]
        table.add_row(
            row["task"],
            str(len(row["tasks"])),
            f"{row['success']:.2f}",
            f"{_mean(before.values()):.3f}",
            f"{_mean(row['after'][task] for task in before):.3f}",
            f"{row['forgetting']:+.3f}",
            f"{label(row['worst'])} {row['worst_forgetting']:+.2f}",
        )
    yield table
    last = rows[-1]["after"]
    yield f"in the end {_mean(last.values()):.3f} on average over {len(last)} tasks"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def places(run: Path, names: Mapping[str, str]) -> Table:
    table = _table(title="where things lie", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a path cut short leads nowhere
    for what, path in names.items():
        table.add_row(what, str(run / path))
    return table
