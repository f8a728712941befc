"""What a run shows: a bar for every stage at work, and the table at the end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
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

from collectiverl import engine
from collectiverl.stages.base import Stage

console = Console()


class Display:
    """One line for the whole run and one for each stage at work; without a terminal, a line as each ends."""

    def __init__(self, progress: Progress, stages: Sequence[Stage]):
        self.progress = progress
        self.labels = {stage.out: stage.label for stage in stages}
        self.tasks: dict[str, TaskID] = {}
        self.began: dict[str, float] = {}
        self.overall = progress.add_task("[bold]all stages", total=len(stages), note="", rate="")

    def __call__(self, update: engine.Progress) -> None:
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
    table = Table(
        title=f"{whose}success over each task's goals, deterministic (steps: of environments, in training)",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
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
            f"{row['env_steps']:,}" if row.get("env_steps") else "",
            f"{row['seconds']:,.0f}" if row.get("seconds") else "",
        )
    return table


def _origin(row: Mapping[str, Any]) -> str:
    """`scripted:20` as a table has room for it."""
    kind, _, count = row.get("trained_from", "").partition(":")
    return f"{count} demos" if count else kind


def probe_table(probe: Mapping[str, Any]) -> Table:
    """How well a linear probe tells the tasks apart, by the number of steps seen."""
    table = Table(
        title="which task is it? linear probe, held-out episodes",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
    )
    table.add_column("steps seen", justify="right")
    table.add_column("embedding z", justify="right")
    table.add_column("raw state", justify="right")
    for length, accuracy in probe["linear_probe"].items():
        table.add_row(length, f"{accuracy:.3f}", f"{probe['raw']['linear_probe'][length]:.3f}")
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


def _average(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return f"{sum(values) / len(values):.3f}" if values else ""


def places(run: Path, names: Mapping[str, str]) -> Table:
    table = Table(
        title="where things lie", show_header=False, box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False
    )
    for what, path in names.items():
        table.add_row(what, str(run / path))
    return table
