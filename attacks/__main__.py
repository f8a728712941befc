"""All attacks, or some parts, as a table: python -m attacks [--scale 0.1] [--only kills loops] [--json FILE]"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from attacks import Row
from collectiverl.artifacts import provenance, sealed
from collectiverl.pipeline import executor

PARTS = ("files", "commands", "loops", "kills")
Attack = Callable[[float], list[Row]]


def table(rows: Sequence[Row]) -> Table:
    """What was tried, and what held."""
    shown = Table(title="attacks", title_justify="left")
    shown.add_column("attack", ratio=1, overflow="fold")
    for column in ("tried", "held", "failed"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(row.name, str(row.tried), str(row.held), str(row.tried - row.held))
    shown.add_section()
    tried, held = (sum(getattr(row, name) for row in rows) for name in ("tried", "held"))
    shown.add_row("all", str(tried), str(held), str(tried - held))
    return shown


def failed(row: Row) -> bool:
    """Whether something did not hold, or nothing was tried."""
    return row.held < row.tried or bool(row.failures) or not row.tried


def run(parts: Sequence[str], scale: float, progress: Console) -> list[Row]:
    """The rows of all these parts, one part after another."""
    executor.use_threads(1)  # before JAX computes anything: workers that a part starts have one thread, too
    rows: list[Row] = []
    for i, part in enumerate(parts):
        attack: Attack = importlib.import_module(f"attacks.{part}").attack
        progress.print(f"{i + 1} of {len(parts)}: {part}", highlight=False)
        began = time.monotonic()
        rows += attack(scale)
        progress.print(f"   {time.monotonic() - began:.0f} s", highlight=False)
    return rows


def main(
    scale: float = 1.0,
    only: tuple[str, ...] = PARTS,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """Attacks the package, and says what held.

    Args:
        scale: part of the tries; 1 takes some half an hour on two cores.
        only: parts, of files, commands, loops and kills.
        json_file: where the table is also written, with what it was made from.
    """
    rows = run(only, scale, Console(stderr=True))
    out = Console(highlight=False, markup=False, emoji=False)
    out.print(table(rows))
    for row in filter(failed, rows):
        out.print(f"{row.name}:")
        for failure in dict.fromkeys(row.failures):
            out.print(f"  {failure}", soft_wrap=True)
    if json_file:
        made = {"made": sealed.now(), "commit": provenance.commit(), "versions": provenance.versions()}
        found = {"scale": scale, "rows": [asdict(row) for row in rows], "processor": provenance.processor()}
        json_file.write_text(json.dumps(found | made, indent=1))
    return int(any(map(failed, rows)))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
