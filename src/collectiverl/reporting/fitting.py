"""Tables for terminals of any width, and for none: where one does not fit it becomes a list."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Row = TypeVar("Row", bound=Mapping[str, Any])
FOLDED = 16  # characters that a column needs whose words may take several lines


class FittingTable(Table):
    """A table whose figures are never cut short: if it is too wide, each row is a line of names and values."""

    def add_column(self, *args: Any, **kwargs: Any) -> None:
        """Cells take one line, unless `overflow="fold"` says that they may be folded."""
        kwargs.setdefault("no_wrap", kwargs.get("overflow") != "fold")
        super().add_column(*args, **kwargs)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._needed(console, options) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        yield Text("")
        if self.title:
            yield Text(str(self.title), style="italic")
        yield from self._lines()
        yield Text("")

    def _needed(self, console: Console, options: ConsoleOptions) -> int:
        """Characters of the whole table."""
        wide = options.update(max_width=10_000)
        whole = Measurement.get(console, wide, self).maximum
        for column in self.columns:
            if column.overflow == "fold":
                longest = max(
                    (Measurement.get(console, wide, cell).maximum for cell in column.cells), default=0
                )
                whole -= max(0, longest - FOLDED)
        return whole

    def _lines(self) -> Iterator[Text]:
        """One line a row, such as `push-v3: any 1.00, steps 80k`; a line is folded between words."""
        names = [str(column.header) if self.show_header else "" for column in self.columns]
        heads = [column.justify == "left" for column in self.columns]
        before = ""
        for row in zip(*(column.cells for column in self.columns), strict=True):
            before = str(row[0]) or before  # a table says only once what several rows share
            cells = [before, *map(str, row[1:])]
            head = " ".join(c for c, is_head in zip(cells, heads, strict=True) if is_head and c)
            figures = _named(cells, names, heads)
            yield Text(f"{head}: {figures}" if head and figures else head or figures, overflow="fold")


def _named(cells: Sequence[str], names: Sequence[str], heads: Sequence[bool]) -> str:
    """The cells that are no heads, each behind its column's name."""
    return ", ".join(
        f"{name} {cell}".strip()
        for cell, name, is_head in zip(cells, names, heads, strict=True)
        if cell and not is_head
    )


make_table = partial(FittingTable, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def in_sections(table: Table, rows: Iterable[Row], key: str) -> Iterator[Row]:
    """The rows, with a line in the table wherever their `key` changes."""
    for _, section in groupby(rows, key=itemgetter(key)):
        table.add_section()  # behind the rows that are there already
        yield from section
