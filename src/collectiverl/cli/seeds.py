"""`run --seeds 0 1 2`: a whole run for each seed, each in a process of its own with its share of the cores."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO

import yaml  # type: ignore[import-untyped]

from collectiverl.artifacts import sealed
from collectiverl.cli import exits
from collectiverl.cli.progress import tell
from collectiverl.cli.settings import Run
from collectiverl.stages.base import available_cores
from collectiverl.types import StageFailed, UserError

PROGRAM = (sys.executable, "-m", "collectiverl")


def folders(settings: Run) -> list[Path]:
    """The folders of the runs, one for each seed: those of `--run mt10` are mt10_seed_0, mt10_seed_1, …"""
    base = settings.options.folder
    return [base.with_name(f"{base.name}_seed_{seed}") for seed in settings.seeds]


def commands(settings: Run, settings_folder: Path) -> Iterator[list[str]]:
    """What is typed for each seed by itself; its settings are written to a file in `settings_folder`."""
    cores = settings.cores or available_cores()
    share = max(1, cores // len(settings.seeds))
    for seed, folder in zip(settings.seeds, folders(settings), strict=True):
        file = settings_folder / f"seed_{seed}.yaml"
        config = replace(settings.settings, seed=seed)
        file.write_text(yaml.safe_dump(sealed.to_jsonable(config), sort_keys=False))
        yield [
            *("run", "--run", folder.name, "--root", settings.options.root, "--config", str(file)),
            *("--until", settings.until, *(_elsewhere(settings) or ("--cores", str(share)))),
            *(["--overwrite"] if settings.options.overwrite else []),
        ]


def _elsewhere(settings: Run) -> list[str]:
    """The flags of an executor that is not this machine; the runs then share its queue."""
    flags = {"--executor": settings.executor, "--address": settings.address, "--store": settings.store}
    return (
        [word for flag, value in flags.items() if value for word in (flag, value)] if settings.store else []
    )


def run_each(settings: Run) -> None:
    """Runs all seeds, as many at once as there are cores.

    Raises:
        UserError: one was refused; the others are done or go on with the same command.
        StageFailed: one failed.
    """
    side_by_side = min(len(settings.seeds), settings.cores or available_cores())
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(side_by_side) as pool:
        lines = list(commands(settings, Path(folder)))
        tell(f"{len(lines)} runs, {side_by_side} at once: {', '.join(map(str, folders(settings)))}")
        codes = list(pool.map(_run, settings.seeds, lines))
    for seed, code in zip(settings.seeds, codes, strict=True):
        if code:
            kind = UserError if code == exits.USER else StageFailed
            raise kind(
                f"the run of seed {seed} ended with exit code {code}, see above; the same command goes on"
            )


def _run(seed: int, args: Sequence[str]) -> int:
    """One run; what it prints is shown behind its seed."""
    with subprocess.Popen(
        [*PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        streams = [
            threading.Thread(target=_show, args=(seed, stream)) for stream in (process.stdout, process.stderr)
        ]
        for thread in streams:
            thread.start()
        for thread in streams:
            thread.join()
    return process.returncode


def _show(seed: int, stream: IO[str]) -> None:
    for line in stream:
        if line.startswith(("done", "collectiverl:")) or "stages are done" in line:
            tell(f"seed {seed}: {line.rstrip()}")
