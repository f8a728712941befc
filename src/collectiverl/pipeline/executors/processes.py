"""Stages in processes of this machine, one thread each."""

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from collectiverl.envs import registry
from collectiverl.pipeline.executor import Progress, Watch, run_logged, use_threads
from collectiverl.pipeline.executors.base import run_stages
from collectiverl.stages.base import Stage, threads_of
from collectiverl.types import StageFailed

PR_SET_PDEATHSIG = 1  # Linux: the signal a process gets when its parent dies
_progress: Any = None  # a worker's end of the progress queue


def run_in_processes(
    run: Path, todo: Sequence[Stage], *, cores: int, watch: Watch, overwrite: bool = False
) -> None:
    """All of `todo`, as many at once as there are cores; earlier ones first where several are ready.

    Raises:
        UserError: a registered task cannot be given to other processes; or a stage has one, and those that run
            beside it are ended and go on with the next run.
        StageFailed: a stage has a defect.
    """
    run_stages(Processes(run, cores, overwrite=overwrite), todo, watch)


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


class Processes:
    """Processes for stages. One thread each; a stage that was begun with more goes on with as many.

    Each has a pool of its own, so that one that dies while it has nothing to do leaves the others at work.
    """

    def __init__(self, run: Path, cores: int, *, overwrite: bool = False):
        self.run, self.slots, self.overwrite = run, cores, overwrite
        self.context = multiprocessing.get_context("spawn")
        self.channel = self.context.Queue()
        self.registered = registry.for_workers()
        self.idle: list[_Worker] = []
        self.busy: dict[Future, _Worker] = {}
        self.labels: dict[Future, str] = {}

    def submit(self, stage: Stage) -> Future:
        threads = 1 if self.overwrite else threads_of(self.run, stage)
        fitting = [worker for worker in self.idle if worker.threads == threads]
        if fitting:
            self.idle.remove(worker := fitting[0])
        else:
            worker = _Worker(partial(self._pool, threads), threads)
        future = worker.submit(self.run, self.overwrite, stage)
        self.busy[future], self.labels[future] = worker, stage.label
        return future

    def _pool(self, threads: int) -> ProcessPoolExecutor:
        arguments = (self.channel, os.getpid(), threads, self.registered)
        return ProcessPoolExecutor(1, mp_context=self.context, initializer=_start_worker, initargs=arguments)

    def wait(self, jobs: Collection[Future], seconds: float) -> Collection[Future]:
        return wait(jobs, timeout=seconds, return_when=FIRST_COMPLETED)[0]

    def result(self, job: Future) -> None:
        self.idle.append(self.busy.pop(job))
        label = self.labels.pop(job)
        try:
            job.result()
        except BrokenProcessPool as error:
            raise StageFailed(f"the process of {label} died (out of memory?); run again to go on") from error

    def progress(self) -> Iterator[Progress]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self.channel.get_nowait()

    def kill(self) -> None:
        for worker in (*self.idle, *self.busy.values()):
            worker.kill()

    def close(self) -> None:
        for worker in (*self.idle, *self.busy.values()):
            worker.pool.shutdown(wait=True, cancel_futures=True)


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
    return run_logged(run, stage, watch=_progress.put, overwrite=overwrite)
