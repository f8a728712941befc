"""The flags of the commands that read finished runs and change nothing in them."""

from dataclasses import dataclass
from typing import Annotated, Self

import tyro

from collectiverl.cli.options import RunOptions
from collectiverl.cli.settings import Settings
from collectiverl.pipeline.config import RunConfig
from collectiverl.reporting.formats import Format
from collectiverl.types import ConfigError


@dataclass(frozen=True, kw_only=True)
class Verify(Settings):
    """Read every file of finished results and of checkpoints, and compare it with what was written.

    FOLDER is a run's folder, that of one stage, or a policy that comes with the package, such as mt10. Other commands
    look at size and time of a file, and read it if these have changed or if they use it. The exit code is 2 if
    something is damaged.
    """

    folders: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]  # one or more

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(folders=tyro.MISSING)

    def __post_init__(self) -> None:
        if not self.folders:
            raise ConfigError("folders", "name at least one FOLDER")


@dataclass(frozen=True, kw_only=True)
class Runs(Settings):
    """The flags of a command about one run or several."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]  # one or more

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(runs=tyro.MISSING)

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError("runs", "name at least one RUN")


@dataclass(frozen=True, kw_only=True)
class Table(Runs):
    """Print a table of several runs as text: the success of every policy on every task.

    RUN is a run's folder, or a file of `evaluate --json`. Runs whose names differ only in the seed, such as mt10_seed_0
    and mt10_seed_1, are averaged as training seeds of one run, and refused if they differ in more.
    """

    # md: Markdown; csv: a line for each policy and task; latex: for the package booktabs
    format: Format = "md"


@dataclass(frozen=True, kw_only=True)
class Report(Runs):
    """Write the page of a run, or one page of several runs side by side: one HTML file that needs no network.

    RUN is a run's folder, finished or not: the page says what is missing. Every run ends with such a page, as
    report.html in its folder.
    """

    out: str | None = None  # file for the page; None: report.html, in the folder of a single run
    open: bool = False  # show it in a browser

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.runs)) < len(self.runs):
            raise ConfigError("runs", f"{' '.join(self.runs)} names a run twice")
