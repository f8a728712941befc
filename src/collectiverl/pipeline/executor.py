"""Runs stages: side by side in processes, one thread each, as their inputs become ready."""

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import threadpoolctl

from collectiverl.artifacts import notices, paths
from collectiverl.envs import registry
from collectiverl.stages.base import Stage, execute, seconds, threads_of
from collectiverl.types import StageFailed, UserError

POLL = 0.2  # seconds between looks at the progress of the workers
PR_SET_PDEATHSIG = 1  # Linux: the signal a process gets when its parent dies
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # glibc: parameters of mallopt
_progress: Any = None  # a worker's end of the progress queue


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

    Must come before the first computation.

    Processes are not pinned: the scheduler keeps one thread each on its core, and XLA's compiler may borrow
    a core that has nothing to do.
    """
    flags = [
        f"--xla_cpu_multi_thread_eigen={str(count > 1).lower()}",
        f"intra_op_parallelism_threads={count}",
    ]
    names = tuple(flag.partition("=")[0] for flag in flags)
    given = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(names)]
    os.environ["XLA_FLAGS"] = " ".join([*given, *flags])  # once: they are part of the compilation cache's key
    os.environ["OMP_NUM_THREADS"] = str(count)  # for libraries that are yet to be loaded
    threadpoolctl.threadpool_limits(count)  # for those that are
    _return_memory()
    use_compilation_cache()


def _return_memory() -> None:
    """Lets glibc return freed memory: training an expert then peaks at 1.46 GB instead of 1.89.

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


def run_in_processes(
    run: Path, todo: Sequence[Stage], *, cores: int, watch: Watch, overwrite: bool = False
) -> None:
    """All of `todo`, as many at once as there are cores; earlier ones first where several are ready.

    Raises:
        UserError: a registered task cannot be given to other processes; or a stage has one, and those that run
            beside it are ended and go on with the next run.
        StageFailed: a stage has a defect.
    """
    workers = _Workers(run, overwrite)
    try:
        _schedule(workers, list(todo), cores, watch)
    except BaseException:
        workers.kill()
        raise
    finally:
        workers.shutdown()


class _Worker:
    """A process for one stage after another."""

    def __init__(self, start: Callable[[], ProcessPoolExecutor], threads: int):
        self._start, self.threads = start, threads
        self.pool = start()

    @property
    def processes(self) -> list[Any]:
        """None, before the first stage."""
        return list((self.pool._processes or {}).values())

    def submit(self, run: Path, overwrite: bool, stage: Stage) -> Future:
        if not all(process.is_alive() for process in self.processes):  # it died while it had nothing to do
            self.pool = self._start()
        with _interrupts_blocked():
            return self.pool.submit(_work, run, overwrite, stage)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that is started here never sees Ctrl-C, which a terminal sends to parent and children alike."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Workers:
    """Processes for stages. One thread each; a stage that was begun with more goes on with as many.

    Each has a pool of its own, so that one that dies while it has nothing to do leaves the others at work.
    """

    def __init__(self, run: Path, overwrite: bool):
        self.run, self.overwrite = run, overwrite
        self.context = multiprocessing.get_context("spawn")
        self.channel = self.context.Queue()
        self.registered = registry.for_workers()
        self.idle: list[_Worker] = []
        self.busy: dict[Future, _Worker] = {}

    def submit(self, stage: Stage) -> Future:
        threads = 1 if self.overwrite else threads_of(self.run, stage)
        fitting = [worker for worker in self.idle if worker.threads == threads]
        if fitting:
            self.idle.remove(worker := fitting[0])
        else:
            worker = _Worker(partial(self._pool, threads), threads)
        future = worker.submit(self.run, self.overwrite, stage)
        self.busy[future] = worker
        return future

    def _pool(self, threads: int) -> ProcessPoolExecutor:
        arguments = (self.channel, os.getpid(), threads, self.registered)
        return ProcessPoolExecutor(1, mp_context=self.context, initializer=_start_worker, initargs=arguments)

    def release(self, future: Future) -> None:
        """The process of a stage that has ended may do another."""
        self.idle.append(self.busy.pop(future))

    def kill(self) -> None:
        for worker in (*self.idle, *self.busy.values()):
            worker.kill()

    def shutdown(self) -> None:
        for worker in (*self.idle, *self.busy.values()):
            worker.pool.shutdown(wait=True, cancel_futures=True)


def _schedule(workers: _Workers, todo: list[Stage], slots: int, watch: Watch) -> None:
    running: dict[Future, Stage] = {}
    while todo or running:
        pending = {stage.out for stage in (*todo, *running.values())}
        ready = [stage for stage in todo if not pending & set(stage.inputs)]
        for stage in ready[: slots - len(running)]:
            todo.remove(stage)
            running[workers.submit(stage)] = stage
        finished, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
        _drain(workers.channel, watch)
        for future in finished:
            stage = running.pop(future)
            workers.release(future)
            try:
                future.result()
            except BrokenProcessPool as error:
                raise StageFailed(
                    f"the process of {stage.label} died (out of memory?); run again to go on"
                ) from error
            watch(ended(workers.run, stage))


def ended(run: Path, stage: Stage) -> Progress:
    """What is told of a stage that has ended: how long it took, in all its attempts."""
    return Progress(stage.out, 1, 0, f"{seconds(run / stage.out):.0f} s")


def _drain(channel: Any, watch: Watch) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            watch(channel.get_nowait())


# -- in a worker -------------------------------------------------------------------------------------------


def _start_worker(channel: Any, parent: int, threads: int, registered: bytes) -> None:
    """Ends when the parent process ends."""
    global _progress
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    _progress = channel
    use_threads(threads)
    registry.restore(registered)


def _work(run: Path, overwrite: bool, stage: Stage) -> dict[str, Any]:
    def report(done: int, total: int, note: str = "") -> None:
        _progress.put(Progress(stage.out, done, total, note))

    def notice(message: str) -> None:
        _progress.put(Progress(stage.out, 0, 1, "", message))

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
