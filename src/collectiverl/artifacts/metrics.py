"""Where numbers go: JSONL, TensorBoard's file, which is made from it, and a progress channel to whoever watches."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event  # type: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # type: ignore[reportAttributeAccessIssue]

from collectiverl.artifacts.sealed import write_atomically

METRICS = "metrics.jsonl"
BOARD = "tensorboard"  # folder
FLUSH = 30.0  # seconds from one flush of TensorBoard's file to the next
Report = Callable[[int, int, str], None]  # (done, total, note), called as a stage advances


def silent(done: int, total: int, note: str = "") -> None:
    """The progress report of a caller that does not watch."""


class MetricsLog:
    """Appends one line per call to `metrics.jsonl`; TensorBoard shows the same lines.

    A resumed stage cuts the file back to its checkpoint's step, and makes TensorBoard's anew from what is left.
    """

    def __init__(self, folder: Path, *, resume_at: int | None = None):
        self.path = folder / METRICS
        kept = self._cut(resume_at)
        self._file = self.path.open("a")
        self._board = _Board(folder / BOARD, kept)

    def _cut(self, resume_at: int | None) -> list[dict[str, Any]]:
        """Keeps the lines up to this step, and returns them."""
        if not self.path.exists():
            return []
        whole = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        read = [(line, json.loads(line)) for line in whole]
        kept = [pair for pair in read if resume_at is not None and pair[1]["step"] <= resume_at]
        write_atomically(self.path, "".join(line for line, _ in kept).encode())
        return [values for _, values in kept]

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends `values`, each a number, under their names."""
        short = {
            name: float(f"{float(value):.7g}") for name, value in values.items()
        }  # as float32 holds them
        line = {"step": step, **short}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._board.add(line)

    def close(self) -> None:
        self._file.close()
        self._board.close()


class _Board:
    """TensorBoard's event file, made anew from these lines; more can be added.

    It is written in this thread: tensorboardX's own writer keeps a queue between processes for that, whose
    semaphores are left behind if a stage is killed.
    """

    def __init__(self, folder: Path, lines: Sequence[Mapping[str, Any]]):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._writer = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()
        for line in lines:
            self.add(line)
        self._writer.flush()

    def add(self, line: Mapping[str, Any]) -> None:
        values = [Summary.Value(tag=name, simple_value=v) for name, v in line.items() if name != "step"]
        self._writer.write_event(
            Event(wall_time=time.time(), step=line["step"], summary=Summary(value=values))
        )
        if time.monotonic() - self._flushed >= FLUSH:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """What was logged in `folder`, in order."""
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


@contextlib.contextmanager
def metrics_log(folder: Path | None, *, resume_at: int | None = None) -> Iterator[MetricsLog | None]:
    """A log in `folder`, closed however the block ends; none without a folder."""
    if folder is None:
        yield None
        return
    with contextlib.closing(MetricsLog(folder, resume_at=resume_at)) as log:
        yield log
