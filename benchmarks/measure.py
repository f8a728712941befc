"""Measurements that can be compared: each in a fresh process on cores of its own, taken in turn, repeated."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import statistics
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PR_SET_PDEATHSIG = 1  # Linux: the signal a process gets when its parent dies
TIMEOUT = 3600.0  # seconds after which a measurement counts as hung
TAIL = 2000  # characters of a dead child's last words

console = Console()
_environ = threading.Lock()  # held while a child starts: it inherits what is set for it


class ChildFailed(Exception):
    """A measurement raised, died or hung; the message holds its traceback or its last words."""


def available_cores() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0)))


# -- one measurement ---------------------------------------------------------------------------------------


def in_child(
    function: Callable[..., Any], *args: Any, cores: Sequence[int], timeout: float | None = TIMEOUT
) -> Any:
    """`function(*args)` in a fresh process, pinned to `cores`, with as many threads.

    Raises:
        ChildFailed: it raised, died, or took more than `timeout` seconds.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = context.Process(
            target=_child, args=(sender, log, tuple(cores), os.getpid(), function, args)
        )
        with _environ, _thread_settings(len(cores)):
            process.start()
        sender.close()  # else the child's death would not end the pipe
        try:
            if not receiver.poll(timeout):
                raise ChildFailed(f"no result within {timeout:.0f} s")
            result, error = receiver.recv()
        except EOFError:
            process.join()
            words = log.read_text(errors="replace")[-TAIL:] if log.exists() else ""
            raise ChildFailed(f"the process died with exit code {process.exitcode}\n{words}") from None
        finally:
            process.kill()
            process.join()
    if error:
        raise ChildFailed(error)
    return result


@contextlib.contextmanager
def _thread_settings(count: int) -> Iterator[None]:
    """What linear algebra reads when it is first imported, for the children started meanwhile."""
    wanted = {
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={str(count > 1).lower()}",
        **dict.fromkeys(("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count)),
    }
    kept = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _child(
    sender: Any, log: Path, cores: Sequence[int], parent: int, function: Callable, args: tuple
) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    os.sched_setaffinity(0, cores)
    with log.open("w") as file:  # what libraries print would tear the progress bar
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        outcome = function(*args), None
    except BaseException:
        outcome = None, traceback.format_exc()
    sender.send(outcome)


def rate(
    call: Callable[[], object],
    per_call: float,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """How many a second, over at least `seconds`; the first call, which may compile, is left out.

    With `time.process_time` for a clock seconds are those that this process computed: what it takes to share
    a core then costs nothing. Right only where nothing is waited for and one thread computes.
    """
    call()
    calls, began = 0, clock()
    while (spent := clock() - began) < seconds:
        call()
        calls += 1
    return calls * per_call / spent


# -- many, in turn -----------------------------------------------------------------------------------------

Metrics = dict[str, float]


@dataclass(frozen=True)
class Contender:
    """Something to measure: `measure(*args)` returns its metrics."""

    name: str
    measure: Callable[..., Metrics]
    args: tuple[Any, ...]
    places: tuple[tuple[int, ...], ...]  # the cores of each of its processes, which run side by side

    def run(self) -> Metrics:
        """Metrics, added up over its processes."""
        run = partial(in_child, self.measure, *self.args)
        try:
            with ThreadPoolExecutor(len(self.places)) as threads:
                found = list(threads.map(lambda cores: run(cores=cores), self.places))
        except ChildFailed as error:
            raise ChildFailed(f"{self.name}: {error}") from None
        return {metric: sum(each[metric] for each in found) for metric in found[0]}


@dataclass(frozen=True)
class Spread:
    """A metric over the repetitions."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        """The median, and the range from lowest to highest."""
        digits = 0 if self.median >= 100 else 1
        numbers = (self.median, min(self.values), max(self.values))
        middle, low, high = (f"{number:,.{digits}f}" for number in numbers)
        return middle if len(self.values) == 1 else f"{middle} ({low} to {high})"


Results = dict[str, dict[str, Spread]]  # by contender, then by metric


def interleaved(contenders: Sequence[Contender], repetitions: int) -> Results:
    """Every contender once, then all again: what else the machine does falls on all alike."""
    found: dict[str, list[Metrics]] = {contender.name: [] for contender in contenders}
    with progress_bar() as progress:
        task = progress.add_task("", total=repetitions * len(contenders))
        for _ in range(repetitions):
            for contender in contenders:
                progress.update(task, description=contender.name)
                began = time.perf_counter()
                found[contender.name].append(contender.run())
                progress.advance(task)
                if not console.is_terminal:
                    console.print(f"measured {contender.name} ({time.perf_counter() - began:.0f} s)")
    return {
        name: {metric: Spread(tuple(run[metric] for run in runs)) for metric in runs[0]}
        for name, runs in found.items()
    }


def plain(results: Results) -> dict[str, Any]:
    """For JSON: medians beside the values they are of."""
    return {
        name: {metric: {"median": spread.median, **asdict(spread)} for metric, spread in metrics.items()}
        for name, metrics in results.items()
    }


def progress_bar() -> Progress:
    return Progress(
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
    )
