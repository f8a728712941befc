"""The terminal: a bar for every stage at work."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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

from collectiverl.pipeline import executor
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
