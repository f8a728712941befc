"""Ray core: one stage a task, on whichever machine of the cluster has room."""

import contextlib
import socket
from collections.abc import Collection, Iterable
from typing import Any

from collectiverl.pipeline.executor import Progress
from collectiverl.pipeline.executors import worker
from collectiverl.pipeline.executors.remote import Lost, OutOfMemory
from collectiverl.pipeline.executors.worker import Outcome, Task
from collectiverl.types import UserError

ANSWER = (
    600.0  # seconds in which a machine must have told its version; a busy one takes long to start a process
)
KNOCK = 10.0  # seconds in which an address must answer
SOON = 1.0  # seconds that a look at the progress may take


class RayCluster:
    """The Ray cluster at `address`; `auto` is the one that this machine belongs to.

    Ray's own retries are off: it would try again what ran out of memory, for ever and with as much memory.

    Raises:
        UserError: there is no cluster, or its machines have another version of this package.
    """

    def __init__(self, address: str):
        self.ray = _library()
        try:
            _knock(address)
            self.ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"there is no Ray cluster at {address!r} ({error}): start one with 'ray start --head', or name its "
                "address with --address"
            ) from error
        try:
            self._check_machines()
            self.board = self._pinned(self._here()).remote()
        except BaseException:
            self.ray.shutdown()
            raise

    def _here(self) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # pyright: ignore[reportMissingImports]

        node = self.ray.get_runtime_context().get_node_id()
        return NodeAffinitySchedulingStrategy(node_id=node, soft=True)

    def _pinned(self, strategy: Any) -> Any:
        """The actor that collects progress, on the driver's machine, whose death ends all the same."""
        return self.ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=strategy)(_Board)

    def _check_machines(self) -> None:
        """Asks every machine for its version; one that joins later is asked with its first stage."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # pyright: ignore[reportMissingImports]

        alive = [node for node in self.ray.nodes() if node["Alive"]]
        asked = [
            self.ray.remote(num_cpus=0, max_retries=0)(_source)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False))
            .remote()
            for node in alive
        ]
        for address, answer in zip((node["NodeManagerAddress"] for node in alive), asked, strict=True):
            try:
                found = self.ray.get(answer, timeout=ANSWER)
            except self.ray.exceptions.RayError as error:
                raise UserError(
                    f"the machine {address} of the Ray cluster cannot run collectiverl ({_line(error)}): install "
                    "the same version on all machines"
                ) from error
            if found != worker.source():
                raise UserError(worker.mismatch(f"the machine {address}", found, worker.source()))

    def start(self, task: Task, memory: float) -> Any:
        """Declares less memory where no machine has so much: the task would wait for ever."""
        largest = max(
            (node["Resources"].get("memory", 0) for node in self.ray.nodes() if node["Alive"]), default=0
        )
        declared = int(min(memory, largest)) or None
        perform = self.ray.remote(num_cpus=1, memory=declared, max_retries=0)(_perform)
        return perform.remote(task, self.board)

    def wait(self, handles: Collection[Any], seconds: float) -> Collection[Any]:
        return self.ray.wait(list(handles), num_returns=1, timeout=seconds)[0] if handles else []

    def result(self, handle: Any) -> Outcome:
        errors = self.ray.exceptions
        try:
            return self.ray.get(handle)
        except errors.OutOfMemoryError as error:
            raise OutOfMemory(_line(error)) from error
        except errors.RayTaskError as error:  # the worker could not even begin
            return Outcome(defect=f"a worker failed: {_line(error)}", log=str(error))
        except (
            errors.RayError
        ) as error:  # WorkerCrashedError and NodeDiedError, and what else a death is called
            raise Lost(_line(error)) from error

    def progress(self) -> Iterable[Progress]:
        with contextlib.suppress(self.ray.exceptions.RayError):  # it is being started again, say
            return self.ray.get(self.board.read.remote(), timeout=SOON)
        return []

    def kill(self, handles: Collection[Any]) -> None:
        for handle in handles:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(handle, force=True)

    def close(self) -> None:
        self.ray.shutdown()


def _library() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("--executor ray needs Ray: pip install 'collectiverl[ray]'") from error
    return ray


def _knock(address: str) -> None:
    """Raises OSError where nobody answers, for which Ray waits for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK).close()


def _line(error: BaseException) -> str:
    """The first line of an error of Ray, which may fill a page."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


class _Board:
    """The last report of each stage since somebody looked, and all notices."""

    def __init__(self) -> None:
        self.last: dict[str, Progress] = {}

    def tell(self, progress: Progress) -> None:
        self.last[progress.out + progress.notice] = progress

    def read(self) -> list[Progress]:
        found, self.last = list(self.last.values()), {}
        return found


def _perform(task: Task, board: Any) -> Outcome:
    return worker.perform(task, lambda progress: board.tell.remote(progress))


def _source() -> str:
    return worker.source()
