"""Odd command lines: each ends within seconds, with the right exit code, without a traceback, and names what was typed.

Most are run one after another in one process, which is started anew if it hangs or dies. Those that need a terminal, an
environment or a shell of their own are processes.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from attacks import Row
from attacks.odd_lines import KINDS, Line

SECONDS = 30.0  # that a line may take in the process, where all is imported
START = 120.0  # that a process of its own may take, and the first line
FRAME = re.compile(r"[\s│╭╮╰╯─]+")  # of a message in a box


@dataclass(frozen=True)
class End:
    code: int | None  # None: it hung, died or showed a traceback
    text: str


def attack(scale: float) -> list[Row]:
    """A row for each kind of line; with a scale of 0.1 every tenth line is tried."""
    every = round(1 / scale)
    rows = []
    with contextlib.closing(_Process()) as process:
        for name, lines in KINDS.items():
            chosen = list(lines())[::every]
            failures = [why for line in chosen if (why := judged(line, process(line)))]
            rows.append(
                Row(f"command lines: {name}", len(chosen), len(chosen) - len(failures), tuple(failures))
            )
    return rows


def judged(line: Line, end: End) -> str:
    """What is wrong with the end of a line; "" if nothing is."""
    said = FRAME.sub("", end.text)
    if end.code is None or "Traceback (most recent" in end.text:
        return f"{line}: {end.text.strip().splitlines()[-1]}"
    if end.code not in line.codes:
        return (
            f"{line}: exit code {end.code} in place of {' or '.join(map(str, line.codes))}: {end.text[:200]}"
        )
    if end.code and FRAME.sub("", line.names) not in said:
        return f"{line}: the message does not name {line.names!r}: {end.text[:200]}"
    return ""


# -- how a line is run -------------------------------------------------------------------------------------


class _Process:
    """Runs lines, each in an empty folder."""

    def __init__(self) -> None:
        self.pool: ProcessPoolExecutor | None = None

    def __call__(self, line: Line) -> End:
        with tempfile.TemporaryDirectory() as folder:
            return _in_shell(line, folder) if line.shell or line.env else self._here(line, folder)

    def _here(self, line: Line, folder: str) -> End:
        seconds = SECONDS if self.pool else START
        self.pool = self.pool or ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            return self.pool.submit(_answer, line, folder).result(seconds)
        except TimeoutError:
            found = f"still at work after {seconds:.0f} s"
        except BrokenProcessPool:
            found = "its process died"
        self.close()
        return End(None, found)

    def close(self) -> None:
        if self.pool:
            for process in list((self.pool._processes or {}).values()):
                process.kill()
            self.pool.shutdown()
        self.pool = None


def _answer(line: Line, folder: str) -> End:
    """The end of a line in this process."""
    from collectiverl.cli import commands, main

    os.chdir(folder)
    known = dict(commands.COMMANDS)
    if line.only_planned:
        commands.COMMANDS.update({name: replace(c, run=_planned, show=_nothing) for name, c in known.items()})
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main.dispatch(list(line.args))
        except SystemExit as stop:  # of the parser of flags
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            code = None
            traceback.print_exc()
        finally:
            commands.COMMANDS.update(known)
            os.chdir("/")
    return End(code, said.getvalue())


def _planned(settings: Any) -> dict[str, Any]:
    """What a command does before it computes."""
    from collectiverl.cli.parser import refusals
    from collectiverl.cli.settings import Run
    from collectiverl.cli.stage_settings import StageSettings
    from collectiverl.pipeline import plan

    with refusals(settings):
        if isinstance(settings, StageSettings):
            settings.stage()
        elif isinstance(settings, Run):
            plan.stages(settings.settings, settings.until)
    return {}


def _nothing(settings: Any, found: Any) -> None:
    pass


def _in_shell(line: Line, folder: str) -> End:
    run = [sys.executable, "-m", "collectiverl", *line.args]
    env = {k: v for k, v in {**os.environ, **line.env}.items() if v is not None}
    command = (line.shell or "$RUN").replace("$RUN", '"$@"')
    try:
        done = subprocess.run(
            ["bash", "-c", command, "bash", *run],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START,
        )
    except subprocess.TimeoutExpired:
        return End(None, f"still at work after {START:.0f} s")
    return End(done.returncode, done.stdout.decode(errors="replace"))


def main(args: Sequence[str]) -> None:
    """Prints the table: `python -m attacks.commands [scale]`."""
    for row in attack(float(args[0]) if args else 1.0):
        print(f"{row.name}: {row.held} of {row.tried} held")
        print(*(f"  {failure}" for failure in row.failures), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
