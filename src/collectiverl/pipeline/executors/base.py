"""The protocol of an executor, and the schedule, which is the same for all."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from collectiverl.pipeline.executor import Progress, Watch, ended
from collectiverl.stages.base import Stage

POLL = 0.2  # seconds between looks at the progress of the workers
Job = Any  # what an executor calls a stage at work; hashable


class Executor(Protocol):
    """Does stages whose inputs are sealed, several at once."""

    run: Path  # the run's folder here
    slots: int  # stages at once, at most

    def submit(self, stage: Stage) -> Hashable:
        """Begins with a stage; returns its job."""
        ...

    def wait(self, jobs: Collection[Job], seconds: float) -> Collection[Job]:
        """Those of `jobs` that have ended, after `seconds` at the latest."""
        ...

    def result(self, job: Job) -> None:
        """Returns when the result of a job that has ended lies in the run's folder here.

        Raises:
            UserError: there is something that the user can mend.
            StageFailed: the stage has a defect, or its worker died too often.
        """
        ...

    def progress(self) -> Iterable[Progress]:
        """What has been reported since the last call."""
        ...

    def kill(self) -> None:
        """Ends all stages at work; the same command goes on with them."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


def run_stages(executor: Executor, todo: Sequence[Stage], watch: Watch) -> None:
    """All of `todo`, each as soon as its inputs are there; earlier ones first where several are ready.

    Raises:
        UserError: a stage has one; those that are at work are ended and go on with the next run.
        StageFailed: a stage has a defect.
    """
    try:
        _schedule(executor, list(todo), watch)
    except BaseException:
        executor.kill()
        raise
    finally:
        executor.close()


def _schedule(executor: Executor, todo: list[Stage], watch: Watch) -> None:
    running: dict[Hashable, Stage] = {}
    while todo or running:
        pending = {stage.out for stage in (*todo, *running.values())}
        ready = [stage for stage in todo if not pending & set(stage.inputs)]
        for stage in ready[: max(0, executor.slots - len(running))]:
            todo.remove(stage)
            running[executor.submit(stage)] = stage
        finished = executor.wait(list(running), POLL)
        for progress in executor.progress():
            watch(progress)
        for job in finished:
            stage = running.pop(job)
            executor.result(job)
            watch(ended(executor.run, stage))
