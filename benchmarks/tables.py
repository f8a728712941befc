"""Prints the README's tables from the JSON files of the other benchmarks."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.results import RESULTS, Table
from collectiverl.artifacts.files import read_json
from collectiverl.cli import exits
from collectiverl.types import UserError

NAMES = ("learner", "loop", "time_to_success", "cores", "environments", "scaling", "phases")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Markdown tables of the benchmarks NAME; without a name, of all that have been run."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ()
    out: Path = RESULTS  # folder of the JSON files


def show(config: Tables) -> str:
    """Raises UserError where there is nothing to show."""
    if unknown := set(config.names) - set(NAMES):
        raise UserError(f"no benchmark {', '.join(sorted(unknown))}: they are {', '.join(NAMES)}")
    found = [name for name in config.names or NAMES if config.names or (config.out / f"{name}.json").exists()]
    if not found:
        raise UserError(f"no results in {config.out}: run a benchmark first, python -m benchmarks.loop")
    return "\n\n".join(section(config.out / f"{name}.json") for name in found)


def section(path: Path) -> str:
    if not path.exists():
        raise UserError(f"no {path}: run python -m benchmarks.{path.stem} first")
    document = read_json(path)
    about, table = document["about"], Table(**document["table"])
    machine = f"{about['cpu']}, {about['cores']} cores, load {about['load']}, {about['date']}"
    return f"{table.title} (`{about['command']}`; {machine}):\n\n{table.markdown()}"


def main(argv: Sequence[str] | None = None) -> int:
    try:
        print(show(tyro.cli(Tables, args=argv, prog="python -m benchmarks.tables")))
    except UserError as error:
        print(f"benchmarks.tables: {error}", file=sys.stderr)
        return exits.USER
    return 0


if __name__ == "__main__":
    sys.exit(main())
