"""The terminal: a bar for every stage at work. Whatever happens to what is shown, the work goes on."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
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
from rich.text import Text

from collectiverl.pipeline import executor
from collectiverl.stages.base import Stage


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Whoever reads the output has gone. By default `rich` ends the process here, and a run with it."""
        raise BrokenPipeError


console = _Terminal(markup=False, emoji=False)  # names of files and tasks may look like either
SPEED_OVER = 300.0  # seconds whose speed says how much time remains
EVERY = 60.0  # seconds from one line of a stage to the next, without a terminal
WIDE = 120  # characters that bar, rate and remaining time ask for as well


def tell(message: str) -> None:
    """Prints a line while work is to be done. An error is dropped, since it concerns nothing but what is shown."""
    with contextlib.suppress(Exception):
        console.print(message)


class Display:
    """One line for the whole run and one for each stage at work.

    Without a terminal, a line as each ends, and one a minute of those at work.

    Args:
        weights: expected seconds of the stages, by folder, so that the whole run's bar and the time that remains are
            shares of the work and not of the number of stages; a stage without one counts as a second.
    """

    def __init__(
        self, progress: Progress, stages: Sequence[Stage], weights: Mapping[str, float] | None = None
    ):
        self.progress = progress
        self.labels = {stage.out: stage.label for stage in stages}
        self.weights = {stage.out: (weights or {}).get(stage.out, 1.0) for stage in stages}
        self.tasks: dict[str, TaskID] = {}
        self.began: dict[str, float] = {}
        self.told: dict[str, float] = {}  # when a line was last printed of a stage at work
        self.shares: dict[str, float] = {}  # of each stage that was begun
        self.ended: set[str] = set()
        self.overall = progress.add_task("all stages", total=self._all, note="", rate="", count=self._count)

    @property
    def _all(self) -> float:
        return sum(self.weights.values())

    @property
    def _count(self) -> str:
        return f"{len(self.ended)}/{len(self.weights)}"

    def __call__(self, update: executor.Progress) -> None:
        """Shows how far a stage is. An error is dropped, as in `tell`."""
        with contextlib.suppress(Exception):
            self.show(update)

    def show(self, update: executor.Progress) -> None:
        """The same, but raises."""
        if update.notice:
            label = self.labels.get(update.out, update.out)
            self.progress.console.print(f"{label}: {update.notice}", highlight=False, soft_wrap=True)
            return
        if update.out in self.ended:  # its last messages may come through another process, after its end
            return
        if update.out not in self.tasks:
            label = self.labels.setdefault(update.out, update.out)
            self.weights.setdefault(update.out, 1.0)
            self.tasks[update.out] = self.progress.add_task(label, total=1, note="", rate="", count="")
            self.began[update.out] = self.told[update.out] = time.perf_counter()
        task = self.tasks[update.out]
        seconds = time.perf_counter() - self.began[update.out]
        if not update.total:
            self.ended.add(update.out)
            self.progress.remove_task(task)
            self._advance(update.out, 1.0)
            label = self.labels[update.out]
            took = update.note or f"{seconds:.0f} s"
            self.progress.console.print(Text.assemble(("done ", "green"), label, (f" ({took})", "dim")))
            return
        rate = f"{update.done / seconds:,.0f}/s" if update.done > 1 and seconds > 0 else ""
        count = f"{update.done:,.0f}/{update.total:,.0f}"
        self.progress.update(
            task, completed=update.done, total=update.total, note=update.note, rate=rate, count=count
        )
        self._advance(update.out, update.done / update.total)
        if self.progress.disable and time.perf_counter() - self.told[update.out] >= EVERY:
            self.told[update.out] = time.perf_counter()
            line = f"{self.labels[update.out]}: {count}  {update.note}".rstrip()
            self.progress.console.print(line, highlight=False, soft_wrap=True)

    def _advance(self, out: str, share: float) -> None:
        self.shares[out] = max(
            share, self.shares.get(out, 0.0)
        )  # a stage may have several parts, each from 0
        done = sum(self.weights[name] * share for name, share in self.shares.items())
        self.progress.update(self.overall, completed=done, total=self._all, count=self._count)


def columns(width: int) -> list[ProgressColumn]:
    """What a terminal of this width has room for; long words are folded, and figures never cut short."""

    def text(shown: str, *, style: str = "none", fold: bool = False) -> TextColumn:
        column = Column(overflow="fold", no_wrap=not fold)
        return TextColumn(shown, style=style, markup=False, table_column=column)

    wide = width >= WIDE
    return [
        SpinnerColumn(),
        text("{task.description}", fold=True),
        *([BarColumn(bar_width=24)] if wide else []),
        text("{task.fields[count]}"),
        *([text("{task.fields[rate]}", style="cyan")] if wide else []),
        text("{task.fields[note]}", style="dim", fold=True),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if wide else []),
    ]


@contextmanager
def display(stages: Sequence[Stage], weights: Mapping[str, float] | None = None) -> Iterator[Display]:
    """Without a terminal, lines are printed in place of bars. See `Display` for `weights`."""
    progress = Progress(
        *columns(console.width),
        console=console,
        disable=not console.is_terminal,
        speed_estimate_period=SPEED_OVER,
    )
    shown = Display(progress, stages, weights)
    with contextlib.suppress(Exception):  # a terminal that is gone, say
        progress.start()
    try:
        yield shown
    finally:
        with contextlib.suppress(Exception):
            progress.stop()
