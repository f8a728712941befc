"""Stages on other machines: what is tried again, what is not, and how results come here."""

import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from collectiverl.artifacts import manifests, paths
from collectiverl.artifacts.store import Store
from collectiverl.envs import registry
from collectiverl.pipeline.executor import Progress
from collectiverl.pipeline.executors import worker
from collectiverl.pipeline.executors.worker import Outcome, Task
from collectiverl.stages.base import Stage, input_hashes
from collectiverl.types import StageFailed, UserError

RETRIES = 3  # of a stage whose worker or machine died
MOST_AT_ONCE = 10_000  # stages that a cluster is given; it has a queue of its own
GB = 10**9
MEMORY = 1.25 * GB  # that a stage asks for; docs/scale.md has the measured peaks
MORE_MEMORY = {  # kinds that hold many episodes or simulators; a test compares with what was measured
    **dict.fromkeys(("split-buffer", "split-online-buffer", "film", "train-student", "summary"), 2.0 * GB),
    "evaluate": 2.5 * GB,
    "probe": 3.0 * GB,
    **dict.fromkeys(("online-distill", "extend-collective"), 3.5 * GB),
    "distill-collective": 4.0 * GB,
    # these play all tasks, as online distillation does
    **dict.fromkeys(("ablate", "told-nothing", "cross-play"), 3.5 * GB),
    **dict.fromkeys(("train-together", "train-transformer", "clone-student"), 4.0 * GB),
}


class Lost(Exception):
    """A worker or its machine died: another attempt may succeed."""


class OutOfMemory(Exception):
    """The machine had too little memory for an attempt."""


class Cluster(Protocol):
    """Machines that do tasks."""

    def start(self, task: Task, memory: float) -> Any:
        """Queues an attempt that declares one core and `memory` bytes; returns its handle."""
        ...

    def wait(self, handles: Collection[Any], seconds: float) -> Collection[Any]:
        """Those that have ended."""
        ...

    def result(self, handle: Any) -> Outcome:
        """Of an attempt that has ended.

        Raises:
            Lost: it died.
            OutOfMemory: it was ended for its memory.
        """
        ...

    def progress(self) -> Iterable[Progress]: ...

    def kill(self, handles: Collection[Any]) -> None: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class Job:
    """A stage at work, in its last attempt."""

    task: Task
    handle: Any
    memory: float
    lost: int = 0  # attempts that died
    enlarged: bool = False  # it was given twice the memory
    outcome: Outcome | None = field(default=None, repr=False)


class Remote:
    """Does stages on a cluster. Workers read and write the store; finished results are also copied here."""

    def __init__(self, run: Path, store: Store, cluster: Cluster, **every: float):
        self.run, self.store, self.cluster, self.every = run, store, cluster, every
        self.slots = MOST_AT_ONCE
        self.registered = registry.for_workers()
        self.jobs: list[Job] = []
        self.shared: set[str] = set()  # results that the store has

    def submit(self, stage: Stage) -> Job:
        for name in stage.inputs.keys() - self.shared:
            share(self.run, self.store, name)
        self.shared |= stage.inputs.keys()
        task = Task(
            stage=stage,
            url=self.store.url,
            run=str(self.run),
            inputs=input_hashes(self.run, stage),
            source=worker.source(),
            registered=self.registered,
            **self.every,
        )
        memory = MORE_MEMORY.get(stage.kind, MEMORY)
        job = Job(task, self.cluster.start(task, memory), memory)
        self.jobs.append(job)
        return job

    def wait(self, jobs: Collection[Job], seconds: float) -> Collection[Job]:
        by_handle = {job.handle: job for job in jobs}
        ended = [by_handle[handle] for handle in self.cluster.wait(list(by_handle), seconds)]
        return [job for job in ended if self._has_ended(job)]

    def _has_ended(self, job: Job) -> bool:
        """False: it was lost, and is tried again."""
        try:
            job.outcome = self.cluster.result(job.handle)
            return True
        except OutOfMemory as error:
            if job.enlarged:
                message = f"{job.task.stage.label} ran out of memory, and again with twice as much ({error})"
                job.outcome = Outcome(user=f"{message}: use machines with more, or smaller numbers")
                return True
            job.enlarged, job.memory = True, 2 * job.memory
        except Lost as error:
            job.lost += 1
            if job.lost > RETRIES:
                message = f"{job.task.stage.label}: its worker died {job.lost} times ({error})"
                job.outcome = Outcome(defect=f"{message}; run again to go on")
                return True
        job.handle = self.cluster.start(job.task, job.memory)
        return False

    def result(self, job: Job) -> None:
        self.jobs.remove(job)
        outcome = job.outcome or Outcome()
        log = self.run / paths.log(job.task.stage.out)
        if outcome.log:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:
                file.write(outcome.log)
        if outcome.user:
            raise UserError(outcome.user)
        if outcome.defect:
            raise StageFailed(outcome.defect)
        self.store.get(job.task.stage.out, self.run / job.task.stage.out)

    def progress(self) -> Iterable[Progress]:
        return self.cluster.progress()

    def kill(self) -> None:
        self.cluster.kill([job.handle for job in self.jobs])

    def close(self) -> None:
        self.cluster.close()


# -- the run's folder here, and the store ------------------------------------------------------------------


def bring(run: Path, store: Store, every: Sequence[Stage]) -> None:
    """Copies results that the store has and this folder has not: an earlier driver may have died."""
    for stage in every:
        if not manifests.is_sealed(run / stage.out) and store.has(stage.out):
            store.get(stage.out, run / stage.out)


def share(run: Path, store: Store, out: str) -> None:
    """Uploads a result that was made here, if there is one.

    Raises:
        UserError: the store has another one of this name.
    """
    if not manifests.is_sealed(run / out) or store.put(run / out, out):
        return
    with tempfile.TemporaryDirectory() as folder:
        store.get(out, Path(folder) / "other")
        if manifests.identity(Path(folder) / "other") != manifests.identity(run / out):
            raise UserError(
                f"{run / out} and the result in {store.url} differ: choose another run name with --run, or remove "
                "one of them"
            )
