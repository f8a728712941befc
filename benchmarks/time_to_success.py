"""Core-seconds and environment steps until a task is solved: ours, SBX and Stable-Baselines3, on several seeds.

Each peer has two rows: with our settings as far as its interface takes them (`our_settings`), and with its defaults.
Every cell (contender, task, seed) is a file of its own: run again, and only what is missing is measured.
"""

import queue
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks import contenders, peers
from benchmarks.arrivals import (
    COLUMNS,
    MAX_RATIO,
    TUNED,
    UNTUNED,
    Cell,
    Verdict,
    half_untuned,
    median_arrival,
    rows,
)
from benchmarks.criterion import Criterion
from benchmarks.measure import ChildFailed, available_cores, console, in_child, progress_bar
from benchmarks.results import Options, Outcome, Table, command, facts
from collectiverl.artifacts.files import read_json, write_json
from collectiverl.artifacts.sealed import differences, to_jsonable
from collectiverl.envs.tasks import label, resolve
from collectiverl.types import UserError

Contender = Literal["ours", "ours-float32", "sbx-ours", "sb3-ours", "sbx", "sb3"]
ALL = "all"
HANG = 3600.0  # seconds that evaluations and imports of a cell may take beside ten times its limit


@dataclass(frozen=True, kw_only=True)
class TimeToSuccess(Options):
    """Time until 90 % success over 20 fresh goals has been seen twice in a row.

    Ours in float32 is a row of its own: by default it has operands in bfloat16 where the processor is made for them.

    Ours runs first. A peer is stopped at the first evaluation after 30 times our median on the task, or after the
    limit. `--only ours_reach sbx-ours_reach` measures the cells whose names begin so.
    """

    contenders: tuple[Contender, ...] = get_args(Contender)  # of the table; sbx-ours: SBX with our settings
    tasks: tuple[str, ...] = (*TUNED, *UNTUNED)  # of the table; no setting of ours was tuned on half of them
    only: tuple[str, ...] = (ALL,)  # cells measured now, by the beginnings of their names; or all
    seeds: int = 3  # of ours, and of the peers with our settings
    default_seeds: int = 1  # of the peers with their defaults
    cores: int = field(default_factory=lambda: len(available_cores()))  # cells side by side, one core each
    limit_seconds: float = 900.0  # of training, for any cell
    overwrite: bool = False  # measure again what was measured with other settings
    criterion: Criterion = field(default_factory=Criterion)


def benchmark(config: TimeToSuccess) -> Outcome:
    """Measures what is missing, then makes the table of all cells; those that were left out are holes."""
    wanted = chosen(config)
    if any(cell.contender not in contenders.OURS for cell in wanted):
        peers.require()
    refuse_other_settings(wanted, config)
    for ours in (True, False):
        found = on_disk(config)
        group = [cell for cell in wanted if (cell.contender == "ours") == ours]
        if missing := [cell for cell in group if cell not in found]:
            measure(missing, limits(config, found, missing), config)
    found = on_disk(config)
    results = [cell._asdict() | found[cell] for cell in cells(config) if cell in found]
    return Outcome(results, table(config, found))


def table(config: TimeToSuccess, found: dict[Cell, Verdict]) -> Table:
    title = "core-seconds of training until solved, one core each (median over seeds)"
    return Table(title, COLUMNS, rows(cells(config), found))


def cells(config: TimeToSuccess) -> list[Cell]:
    """All cells of the table.

    Raises:
        UserError: settings of ours were tuned on more than half of the tasks.
    """
    tasks = resolve(config.tasks)
    if not half_untuned(tasks):
        raise UserError(
            f"at least half of the tasks of the table must be untuned ({', '.join(map(label, UNTUNED))}): "
            "add some to --tasks, or measure single cells of the whole table with --only ours_reach"
        )
    return [
        Cell(name, task, seed)
        for task in tasks
        for name in config.contenders
        for seed in range(config.default_seeds if name in peers.PEERS else config.seeds)
    ]


def chosen(config: TimeToSuccess) -> list[Cell]:
    """The cells that are measured now.

    Raises:
        UserError: there is none.
    """
    every = cells(config)
    mine = [cell for cell in every if ALL in config.only or cell.name.startswith(config.only)]
    if not mine:
        raise UserError(f"no cell begins with {' or '.join(config.only)}: one is {every[0].name}")
    return mine


def limits(config: TimeToSuccess, found: dict[Cell, Verdict], group: Collection[Cell]) -> dict[str, float]:
    """Seconds of training that cells of this group have, by task.

    Raises:
        UserError: one is a peer's, and ours has not been measured on its task.
    """
    tasks = dict.fromkeys(cell.task for cell in group)
    if "ours" not in config.contenders or all(cell.contender == "ours" for cell in group):
        return dict.fromkeys(tasks, config.limit_seconds)
    if missing := [task for task in tasks if not _ours(found, task)]:
        raise UserError(f"ours comes first: run with --only {' '.join(f'ours_{t}' for t in missing)}")
    return {task: limit(found, task, config.limit_seconds) for task in tasks}


def limit(found: dict[Cell, Verdict], task: str, most: float) -> float:
    """Seconds of training a peer has on the task."""
    ours = _ours(found, task)
    return min(most, MAX_RATIO * median_arrival(ours).seconds) if ours else most


def _ours(found: dict[Cell, Verdict], task: str) -> list[Verdict]:
    return [verdict for cell, verdict in found.items() if (cell.contender, cell.task) == ("ours", task)]


# -- cells on disk -----------------------------------------------------------------------------------------


def on_disk(config: TimeToSuccess) -> dict[Cell, Verdict]:
    """The cells of the table that need not be measured again.

    Cells of other settings do, and a peer that was stopped sooner than it would be today.
    """
    found: dict[Cell, Verdict] = {}
    for cell in sorted(cells(config), key=lambda cell: cell.contender != "ours"):
        verdict = read_cell(cell, config)
        if verdict is None or differences(settings(cell, config), verdict["settings"]):
            continue
        most = config.limit_seconds
        if cell.contender != "ours":
            most = limit(found, cell.task, most)
        gave_up = verdict["env_steps"] >= config.criterion.steps
        if verdict["solved"] or gave_up or verdict["seconds"] >= most:
            found[cell] = verdict
    return found


def refuse_other_settings(wanted: Sequence[Cell], config: TimeToSuccess) -> None:
    """Raises UserError if one of these was measured with other settings, and `--overwrite` was not given."""
    for cell in wanted:
        verdict = read_cell(cell, config)
        if verdict and differences(settings(cell, config), verdict["settings"]) and not config.overwrite:
            raise UserError(
                f"{_path(cell, config)} was measured with other settings: pass --overwrite, or another --out"
            )


def read_cell(cell: Cell, config: TimeToSuccess) -> Verdict | None:
    path = _path(cell, config)
    return read_json(path) if path.exists() else None


def _path(cell: Cell, config: TimeToSuccess) -> Path:
    return config.out / "time_to_success" / f"{cell.name}.json"


def settings(cell: Cell, config: TimeToSuccess) -> dict[str, Any]:
    """All that a cell's result depends on."""
    has_ours = cell.contender not in peers.PEERS
    train = asdict(contenders.train_config(config.criterion, cell.contender)) if has_ours else None
    stopped = {"limit_seconds": config.limit_seconds, "max_ratio": MAX_RATIO}
    return to_jsonable({"criterion": asdict(config.criterion), "train": train, "stopped": stopped})


def measure(cells: Sequence[Cell], limits: dict[str, float], config: TimeToSuccess) -> None:
    """Runs `cells`, one a core, and saves each.

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

    failures = []
    pool = ThreadPoolExecutor(config.cores)
    try:
        futures = {pool.submit(run, cell): cell for cell in cells}
        with progress_bar() as progress:
            task = progress.add_task("cells", total=len(cells))
            for future in as_completed(futures):
                cell = futures[future]
                try:
                    _save(cell, future.result(), config)
                except ChildFailed as error:
                    failures.append(f"{' '.join(map(str, cell))}: {error}")
                progress.advance(task)
    finally:
        pool.shutdown(cancel_futures=True)
    if failures:
        raise ChildFailed("\n".join(failures))


def _save(cell: Cell, verdict: Verdict, config: TimeToSuccess) -> None:
    verdict |= {"settings": settings(cell, config), "about": facts()}
    path = _path(cell, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, cell._asdict() | verdict)
    how = "solved" if verdict["solved"] else "not solved"
    steps, seconds = verdict["env_steps"], verdict["seconds"]
    console.print(f"{' '.join(map(str, cell))}: {how} after {seconds:.0f} s, {steps:,} environment steps")


def main(argv: Sequence[str] | None = None) -> int:
    return command("time_to_success", TimeToSuccess, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
