"""One stage in this process: its threads, its device, its memory, its log."""

import contextlib
import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import threadpoolctl

from collectiverl.artifacts import notices, paths, provenance
from collectiverl.stages.base import Stage, execute, seconds
from collectiverl.types import StageFailed, UserError

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # glibc: parameters of mallopt


class Progress(NamedTuple):
    """How far a stage is: `done` of `total` in units of the stage; `total` is 0 when it has ended.

    The note of one that has ended is how long it took. A notice is shown by itself.
    """

    out: str
    done: int
    total: int
    note: str
    notice: str = ""


Watch = Callable[[Progress], None]


def use_threads(count: int) -> None:
    """Gives this process's linear algebra `count` threads, and its allocator and compiler their settings.

    Must come before the first computation. XLA divides a sum among the threads it has, which by default are the cores
    that the process may run on; so without `NPROC` the roundings of one machine depend on how many those are.

    Processes are not pinned: the scheduler keeps one thread each on its core.
    """
    flag = "--xla_cpu_multi_thread_eigen"
    given = [word for word in os.environ.get("XLA_FLAGS", "").split() if not word.startswith(flag)]
    # once: it is part of the compilation cache's key
    os.environ["XLA_FLAGS"] = " ".join([*given, f"{flag}={str(count > 1).lower()}"])
    os.environ[provenance.THREADS] = str(count)
    os.environ["OMP_NUM_THREADS"] = str(count)  # for libraries that are yet to be loaded
    threadpoolctl.threadpool_limits(count)  # for those that are
    _return_memory()
    use_compilation_cache()


def _return_memory() -> None:
    """Lets glibc return freed memory, of which it otherwise keeps some hundred MB.

    Simulators allocate megabytes and free them. With a fixed threshold each large block gets pages of its own,
    which glibc otherwise stops doing after the first frees; and threads share one heap.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library has no mallopt
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(M_ARENA_MAX, 1)


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a later process does not compile them again."""
    import jax

    with contextlib.suppress(OSError, RuntimeError):  # it cannot be written, or this user has no home
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        (home / "collectiverl").mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(home / "collectiverl" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def check_device() -> None:
    """Starts JAX.

    Raises:
        UserError: this machine lacks what JAX_PLATFORMS names.
    """
    import jax

    try:
        jax.devices()
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX cannot compute here with JAX_PLATFORMS={asked!r}: {error}. Unset it, or set it to cpu"
        ) from error


def run_here(run: Path, stage: Stage, *, watch: Watch, overwrite: bool = False) -> dict[str, Any]:
    """One stage in this process."""

    def report(done: int, total: int, note: str = "") -> None:
        watch(Progress(stage.out, done, total, note))

    return execute(run, stage, report=report, overwrite=overwrite)


def ended(run: Path, stage: Stage) -> Progress:
    """What is told of a stage that has ended: how long it took, in all its attempts."""
    return Progress(stage.out, 1, 0, f"{seconds(run / stage.out):.0f} s")


def run_logged(run: Path, stage: Stage, *, watch: Watch, overwrite: bool = False) -> dict[str, Any]:
    """One stage in a worker process, which prints to the stage's log file.

    Raises:
        UserError: the stage has one.
        StageFailed: the stage has a defect; the log has its traceback.
    """

    def report(done: int, total: int, note: str = "") -> None:
        watch(Progress(stage.out, done, total, note))

    def notice(message: str) -> None:
        watch(Progress(stage.out, 0, 1, "", message))

    log = run / paths.log(stage.out)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file, _redirected(file.fileno()), notices.told_to(notice):
        try:
            report(0, 1, "starting")
            check_device()
            return execute(run, stage, report=report, overwrite=overwrite)
        except UserError:
            raise
        except Exception as error:
            traceback.print_exc()
            raise StageFailed(f"{stage.label} failed: {error!r}; the traceback is in {log}") from None


@contextlib.contextmanager
def _redirected(descriptor: int):
    """Everything that this process prints, libraries included, goes to `descriptor`."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for old, number in zip(kept, (1, 2), strict=True):
            os.dup2(old, number)
            os.close(old)
