"""What a benchmark leaves: a table to read, a JSON file to keep, the machine it ran on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import rich.box
import rich.table
import tyro

from benchmarks.measure import ChildFailed, console
from collectiverl.artifacts import provenance
from collectiverl.artifacts.files import write_json
from collectiverl.artifacts.sealed import to_jsonable
from collectiverl.cli import exits
from collectiverl.types import UserError

RESULTS = Path(__file__).parent / "results"
BUSY = 0.5  # processes at work beside the benchmark, from which on its figures are not to be trusted
PACKAGES = (
    *("collectiverl", "jax", "jaxlib", "equinox", "optax", "numpy", "metaworld", "mujoco", "gymnasium"),
    *("envpool", "torch", "stable-baselines3", "sbx-rl"),
)


def check_positive(config: Any) -> None:
    """Raises ValueError unless all of a configuration's numbers are positive, and none of its lists empty."""
    for name, value in vars(config).items():
        values = value if isinstance(value, tuple) else (value,)
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if not values or any(number <= 0 for number in numbers):
            raise ValueError(f"--{name.replace('_', '-')}={value} must be positive")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every benchmark takes."""

    out: Path = RESULTS  # folder of the JSON files

    def __post_init__(self) -> None:
        check_positive(self)


@dataclass(frozen=True, kw_only=True)
class Repeated(Options):
    """What every benchmark of a speed takes."""

    repetitions: int = 5  # of every measurement, in turn


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def rich(self) -> rich.table.Table:
        table = rich.table.Table(title=self.title, box=rich.box.SIMPLE_HEAD)
        for i, column in enumerate(self.columns):
            table.add_column(column, no_wrap=i == 0)
        for row in self.rows:
            table.add_row(*row)
        return table


@dataclass(frozen=True)
class Outcome:
    results: Any  # plain data
    table: Table


class Others:
    """What other processes compute on this machine, from when it is made."""

    def __init__(self) -> None:
        self._began = self._read()

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds: of the clock, that the machine's cores have computed, and of these, this process and its children.

        Children count once they have ended.
        """
        # user nice system idle iowait irq softirq steal
        spent = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        own = os.times()
        return (
            time.perf_counter(),
            (sum(spent) - spent[3] - spent[4]) / os.sysconf("SC_CLK_TCK"),
            own.user + own.system + own.children_user + own.children_system,
        )

    def busy_cores(self) -> float:
        """How many cores others kept busy, on average."""
        wall, machine, own = (now - then for now, then in zip(self._read(), self._began, strict=True))
        return round(max(0.0, machine - own) / wall, 2)


def shortcomings(document: dict[str, Any], *, core_seconds: bool = False) -> list[str]:
    """Why a benchmark's figures are not shown: no commit has its code, or the machine was busy with other things.

    Args:
        core_seconds: the figures are seconds that the process itself computed, which hold on a busy machine too.
    """
    about = document["about"]
    found = []
    if not about["commit"] or about["commit"].endswith("-dirty"):
        found.append("its code is that of no commit")
    for when, busy in (("before", about["load"]), ("beside", about.get("beside", 0.0))):
        if busy > BUSY and not core_seconds:
            found.append(f"{busy} processes were at work {when} it, more than {BUSY}")
    return found


C = TypeVar("C", bound=Options)


def command(
    name: str, kind: type[C], benchmark: Callable[[C], Outcome], argv: Sequence[str] | None = None
) -> int:
    """Reads the flags, runs the benchmark, shows and saves its outcome; returns the exit code."""
    try:
        config = tyro.cli(kind, args=argv, prog=f"python -m benchmarks.{name}")  # refuses with exit code 2
        _make_folder(config.out)
        flags = _without_folder(sys.argv[1:] if argv is None else argv)
        line = " ".join(["python -m", f"benchmarks.{name}", *flags])
        about: dict[str, Any] = facts() | {"command": line}
        if about["load"] > BUSY:
            console.print(f"[yellow]this machine is busy (load {about['load']}): speeds will be too low[/]")
        others = Others()
        outcome = benchmark(config)
        about["beside"] = others.busy_cores()
    except UserError as error:
        print(f"benchmarks.{name}: {error}", file=sys.stderr)
        return exits.USER
    except ChildFailed as error:
        print(f"benchmarks.{name}: {error}", file=sys.stderr)
        return exits.DEFECT
    except KeyboardInterrupt:
        print(f"\nbenchmarks.{name}: stopped", file=sys.stderr)
        return exits.INTERRUPTED
    path = config.out / f"{name}.json"
    settings = {key: value for key, value in to_jsonable(config).items() if key != "out"}
    document = {"about": about, "config": settings, "results": outcome.results}
    write_json(path, document | {"table": to_jsonable(outcome.table)})
    if console.is_terminal:
        console.print(outcome.table.rich())
    else:
        print(outcome.table.markdown())
    console.print(f"[dim]{path}[/]")
    return 0


def _without_folder(flags: Sequence[str]) -> list[str]:
    """A command line less its `--out`: where results lay is no part of what they are."""
    kept = [f for i, f in enumerate(flags) if not i or flags[i - 1] != "--out"]
    return [f for f in kept if f.partition("=")[0] != "--out"]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another with --out") from error


def facts() -> dict[str, Any]:
    """The machine, what runs on it, and how busy it is with other things."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "cpu": provenance.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),  # processes at work in the last minute, before the start
        "python": sys.version.split()[0],
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _commit() -> str | None:
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True
    )
    return run.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
