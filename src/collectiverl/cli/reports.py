"""`report`, and the page that ends every run."""

import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from collectiverl.artifacts import outputs
from collectiverl.artifacts.paths import REPORT
from collectiverl.cli.finished_settings import Report
from collectiverl.cli.progress import tell
from collectiverl.pipeline.described import described
from collectiverl.pipeline.plan import Until
from collectiverl.reporting.page import reading

Found = Mapping[str, Any]


def report(settings: Report) -> Found:
    """The page of these runs; returns where it is."""
    runs = [Path(name) for name in settings.runs]
    for run in runs:
        reading.exists(run)
    out = settings.out or str(runs[0] / REPORT if len(runs) == 1 else REPORT)
    outputs.check_file("--out", out)
    write_page(runs, Path(out))
    return {"page": out}


def write_page(runs: Sequence[Path], out: Path, until: Until | None = None) -> None:
    """Writes one page of these runs, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    from collectiverl.reporting.page.page import page  # here: its libraries take time

    outputs.write_file("--out", str(out), page([described(run, until) for run in runs]).encode())


def page_of_run(folder: Path, until: Until) -> Path | None:
    """The page that ends a run; None where the folder cannot be written."""
    if outputs.is_readonly(folder):
        return None
    write_page([folder], folder / REPORT, until)
    return folder / REPORT


def open_page(page: Path) -> None:
    """Shows it in a browser, where there is one."""
    if not webbrowser.open(page.resolve().as_uri()):
        tell(f"no browser was found here: open {page} in one")
