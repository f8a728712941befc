"""The terminal: a bar for every stage at work."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from collectiverl.pipeline import executor
from collectiverl.stages.base import Stage

console = Console()
WIDE = 120  # characters that bar, rate and remaining time ask for as well


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


def columns(width: int) -> list[ProgressColumn]:
    """What a terminal of this width has room for; long words are folded, and figures never cut short."""

    def text(shown: str, *, fold: bool = False) -> TextColumn:
        return TextColumn(shown, table_column=Column(overflow="fold", no_wrap=not fold))

    wide = width >= WIDE
    return [
        SpinnerColumn(),
        text("{task.description}", fold=True),
        *([BarColumn(bar_width=24)] if wide else []),
        text("{task.completed:,.0f}/{task.total:,.0f}"),
        *([text("[cyan]{task.fields[rate]}")] if wide else []),
        text("[dim]{task.fields[note]}", fold=True),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if wide else []),
    ]


@contextmanager
def display(stages: Sequence[Stage]) -> Iterator[Display]:
    """Without a terminal, only the line of each stage that ends is printed."""
    shown = columns(console.width)
    with Progress(*shown, console=console, disable=not console.is_terminal) as progress:
        yield Display(progress, stages)
