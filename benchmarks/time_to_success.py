"""Core-seconds and environment steps until a task is solved: ours, SBX and Stable-Baselines3, on several seeds.

Every cell (contender, task, seed) is a file of its own: run again, and only what is missing is measured.
"""

import queue
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks import contenders, peers
from benchmarks.arrivals import COLUMNS, MAX_RATIO, Verdict, median_arrival, rows
from benchmarks.criterion import Criterion
from benchmarks.measure import ChildFailed, available_cores, console, in_child, progress_bar
from benchmarks.results import Options, Outcome, Table, command, facts
from collectiverl.artifacts.files import write_json
from collectiverl.artifacts.sealed import read_json, to_jsonable
from collectiverl.envs.tasks import resolve
from collectiverl.types import UserError

HANG = 3600.0  # seconds that evaluations and imports of a cell may take beside ten times its limit


@dataclass(frozen=True, kw_only=True)
class TimeToSuccess(Options):
    """Time until 90 % success over 20 fresh goals has been seen twice in a row.

    A peer is stopped after ten times our median on the task; ours runs first.
    """

    contenders: tuple[Literal["ours", "sbx", "sb3"], ...] = ("ours", "sbx", "sb3")
    tasks: tuple[str, ...] = ("reach", "drawer-close", "window-close", "door-open")
    seeds: int = 3
    cores: int = field(default_factory=lambda: len(available_cores()))  # cells side by side, one core each
    limit_seconds: float = 3600.0  # of training, for any cell
    overwrite: bool = False  # measure again what was measured with other settings
    criterion: Criterion = field(default_factory=Criterion)


class Cell(NamedTuple):
    contender: str
    task: str
    seed: int

    def path(self, out: Path) -> Path:
        return out / "time_to_success" / f"{self.contender}_{self.task}_seed_{self.seed}.json"


def benchmark(config: TimeToSuccess) -> Outcome:
    others = [name for name in config.contenders if name != "ours"]
    if others:
        peers.require()
    tasks = resolve(config.tasks)
    limits = dict.fromkeys(tasks, config.limit_seconds)
    found: dict[Cell, Verdict] = {}
    for group in (["ours"] if "ours" in config.contenders else [], others):
        cells = [Cell(name, t, seed) for seed in range(config.seeds) for t in tasks for name in group]
        found |= finished(cells, limits, config)
        found |= measure([cell for cell in cells if cell not in found], limits, config)
        limits = {task: limit(found, task, config.limit_seconds) for task in tasks}
    title = "core-seconds of training until solved, one core each (median over seeds)"
    results = [
        cell._asdict() | found[cell]
        for cell in (Cell(*c) for c in product(config.contenders, tasks, range(config.seeds)))
    ]
    return Outcome(results, Table(title, COLUMNS, rows(results)))


def limit(found: dict[Cell, Verdict], task: str, most: float) -> float:
    """Seconds of training a peer has on the task."""
    ours = [verdict for cell, verdict in found.items() if (cell.contender, cell.task) == ("ours", task)]
    return min(most, MAX_RATIO * median_arrival(ours).seconds) if ours else most


# -- cells on disk -----------------------------------------------------------------------------------------


def finished(cells: Sequence[Cell], limits: dict[str, float], config: TimeToSuccess) -> dict[Cell, Verdict]:
    """What need not be measured again. A peer stopped sooner than it would be today is.

    Raises:
        UserError: a cell was measured with other settings, and `--overwrite` was not given.
    """
    kept = {}
    for cell in cells:
        path = cell.path(config.out)
        if not path.exists():
            continue
        verdict = read_json(path)
        if verdict["settings"] != settings(cell, config):
            if config.overwrite:
                continue
            raise UserError(f"{path} was measured with other settings: pass --overwrite, or another --out")
        gave_up = verdict["env_steps"] >= config.criterion.steps
        if verdict["solved"] or gave_up or verdict["seconds"] >= limits[cell.task]:
            kept[cell] = verdict
    return kept


def settings(cell: Cell, config: TimeToSuccess) -> dict[str, Any]:
    """All that a cell's result depends on."""
    train = contenders.train_config(config.criterion) if cell.contender == "ours" else None
    return to_jsonable({"criterion": asdict(config.criterion), "train": asdict(train) if train else None})


def measure(cells: Sequence[Cell], limits: dict[str, float], config: TimeToSuccess) -> dict[Cell, Verdict]:
    """Runs `cells`, one a core.

    Raises:
        ChildFailed: some failed; the others are done and saved.
    """
    free: queue.Queue[int] = queue.Queue()
    for core in available_cores()[: config.cores]:
        free.put(core)

    def run(cell: Cell) -> Verdict:
        core, seconds = free.get(), limits[cell.task]
        try:
            args = (*cell, config.criterion, seconds)
            return in_child(contenders.learn, *args, cores=(core,), timeout=10 * seconds + HANG)
        finally:
            free.put(core)

    found, failures = {}, []
    pool = ThreadPoolExecutor(config.cores)
    try:
        futures = {pool.submit(run, cell): cell for cell in cells}
        with progress_bar() as progress:
            task = progress.add_task("cells", total=len(cells))
            for future in as_completed(futures):
                cell = futures[future]
                try:
                    found[cell] = _save(cell, future.result(), config)
                except ChildFailed as error:
                    failures.append(f"{' '.join(map(str, cell))}: {error}")
                progress.advance(task)
    finally:
        pool.shutdown(cancel_futures=True)
    if failures:
        raise ChildFailed("\n".join(failures))
    return found


def _save(cell: Cell, verdict: Verdict, config: TimeToSuccess) -> Verdict:
    verdict |= {"settings": settings(cell, config), "about": facts()}
    path = cell.path(config.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, cell._asdict() | verdict)
    how = "solved" if verdict["solved"] else "not solved"
    steps, seconds = verdict["env_steps"], verdict["seconds"]
    console.print(f"{' '.join(map(str, cell))}: {how} after {seconds:.0f} s, {steps:,} environment steps")
    return verdict


def main(argv: Sequence[str] | None = None) -> int:
    return command("time_to_success", TimeToSuccess, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
