"""Slurm, through submitit: one stage a job, a folder that all machines see for the jobs' files."""

import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from collectiverl.pipeline.executor import Progress
from collectiverl.pipeline.executors import worker
from collectiverl.pipeline.executors.remote import GB, Lost, OutOfMemory
from collectiverl.pipeline.executors.worker import Outcome, Task
from collectiverl.types import UserError

MINUTES = 24 * 60  # that a job may take; a stage that takes longer goes on in another job
OUT_OF_MEMORY = "OUT_OF_MEMORY"  # state of a job


class SlurmCluster:
    """Slurm's partition of this name ("": the default one).

    Args:
        folder: for the jobs' files; on a file system that all machines share.
        cluster: of submitit; `local` runs jobs as processes here, for tests.
    """

    def __init__(self, folder: Path, partition: str = "", cluster: str = "slurm"):
        try:
            import submitit  # pyright: ignore[reportMissingImports]
            import submitit.core.utils  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError("--executor slurm needs submitit: pip install 'collectiverl[slurm]'") from error
        try:
            self.jobs = submitit.AutoExecutor(folder=folder, cluster=cluster)
        except RuntimeError as error:  # no sbatch
            raise UserError(
                f"Slurm cannot be used here ({error}): run this on a machine that has sbatch"
            ) from error
        self.died = submitit.core.utils.UncompletedJobError
        self.partition = {"slurm_partition": partition} if partition else {}

    def start(self, task: Task, memory: float) -> Any:
        self.jobs.update_parameters(
            name="collectiverl", cpus_per_task=1, mem_gb=memory / GB, timeout_min=MINUTES, **self.partition
        )
        return self.jobs.submit(worker.perform, task, _ignore)

    def wait(self, handles: Collection[Any], seconds: float) -> Collection[Any]:
        done = [job for job in handles if job.done()]
        if not done:
            time.sleep(seconds)
        return done

    def result(self, handle: Any) -> Outcome:
        error = handle.exception()
        if error is None:
            return handle.result()
        if handle.state == OUT_OF_MEMORY:
            raise OutOfMemory(f"Slurm's job {handle.job_id}") from error
        if not isinstance(error, self.died):  # the job could not even begin
            return Outcome(
                defect=f"Slurm's job {handle.job_id} failed: {type(error).__name__}", log=str(error)
            )
        raise Lost(f"Slurm's job {handle.job_id}, {handle.state}: {error}") from error

    def progress(self) -> Iterable[Progress]:
        return []

    def kill(self, handles: Collection[Any]) -> None:
        for job in handles:
            job.cancel()

    def close(self) -> None:
        """Jobs that are queued stay with Slurm."""


def _ignore(progress: Progress) -> None:
    """Nobody listens to a job."""
