"""Where numbers go: JSONL always, TensorBoard beside it, and a progress channel to whoever watches."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from collectiverl.artifacts.sealed import write_atomically

METRICS = "metrics.jsonl"
Report = Callable[[int, int, str], None]  # (done, total, note), called as a stage advances


def silent(done: int, total: int, note: str = "") -> None:
    """The progress report of a caller that does not watch."""


class MetricsLog:
    """Appends one line per call to `metrics.jsonl`; a resumed stage cuts back to its checkpoint's step."""

    def __init__(self, folder: Path, *, resume_at: int | None = None):
        self.path = folder / METRICS
        self._cut(resume_at)
        self._file = self.path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), flush_secs=30)

    def _cut(self, resume_at: int | None) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        kept = [line for line in whole if resume_at is not None and json.loads(line)["step"] <= resume_at]
        write_atomically(self.path, "".join(kept).encode())

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends `values`, each a number, under their names."""
        numbers = {name: float(value) for name, value in values.items()}
        short = {name: float(f"{number:.7g}") for name, number in numbers.items()}  # float32 holds no more
        self._file.write(json.dumps({"step": step, **short}) + "\n")
        self._file.flush()
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


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
