"""Where numbers go: JSONL, TensorBoard's file, which is made from it, and a progress channel to whoever watches."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]
from tensorboardX.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

from collectiverl.artifacts.files import parse_json, read_limited, unreadable, write_atomically
from collectiverl.artifacts.paths import METRICS
from collectiverl.artifacts.wandb_log import wandb_logs

MOST_LOGGED = 1 << 27  # bytes of a log
BOARD = "tensorboard"  # folder
FLUSH = 30.0  # seconds from one flush of TensorBoard's file to the next
Report = Callable[[int, int, str], None]  # (done, total, note), called as a stage advances


def silent(done: int, total: int, note: str = "") -> None:
    """The progress report of a caller that does not watch."""


class MetricsLog:
    """Appends one line per call to `metrics.jsonl`; TensorBoard, and Weights & Biases if asked, show the same lines.

    A resumed stage cuts the file back to its checkpoint's step, and makes TensorBoard's anew from what is left.
    """

    def __init__(self, folder: Path, *, resume_at: int | None = None):
        self.path = folder / METRICS
        kept = self._cut(resume_at)
        self._file = self.path.open("a")
        self._boards = [_Board(folder / BOARD, kept), *wandb_logs(folder, kept)]

    def _cut(self, resume_at: int | None) -> list[dict[str, Any]]:
        """Keeps the lines up to this step, and returns them.

        Up to its checkpoint, the file was checked with that. What is not readable comes behind it, and goes.
        """
        if resume_at is None or not self.path.exists():
            self.path.unlink(missing_ok=True)
            return []
        kept = []
        for line in read_limited(self.path, MOST_LOGGED).splitlines(keepends=True):
            try:
                values = _line(line)
            except ValueError:
                break
            if values["step"] <= resume_at:
                kept.append((line, values))
        write_atomically(self.path, b"".join(line for line, _ in kept))
        return [values for _, values in kept]

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends `values`, each a number, under their names."""
        short = {
            name: float(f"{float(value):.7g}") for name, value in values.items()
        }  # as float32 holds them
        line = {"step": step, **short}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for board in self._boards:
            board.add(line)

    def close(self) -> None:
        self._file.close()
        for board in self._boards:
            board.close()


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
    """What was logged in `folder`, in order.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / METRICS
    try:
        return [_line(line) for line in read_limited(path, MOST_LOGGED).splitlines(keepends=True)]
    except (ValueError, OSError) as error:
        damaged = f"is missing or damaged ({error}): delete {folder} and run its stage again"
        raise unreadable(path, error, damaged) from error


def _line(line: bytes) -> dict[str, Any]:
    """The values of a whole line.

    Raises:
        ValueError: it is none.
    """
    values = parse_json(line)
    if not (
        line.endswith(b"\n") and isinstance(values, dict) and isinstance(values.get("step"), int | float)
    ):
        raise ValueError("a line is no record of a step")
    return values


@contextlib.contextmanager
def metrics_log(folder: Path | None, *, resume_at: int | None = None) -> Iterator[MetricsLog | None]:
    """A log in `folder`, closed however the block ends; none without a folder."""
    if folder is None:
        yield None
        return
    with contextlib.closing(MetricsLog(folder, resume_at=resume_at)) as log:
        yield log
