"""Wall time of experts on more and more machines of half a core: a real Ray cluster, all of it on this machine.

Linux's cgroups hold each machine to its share of a core, so it needs root. All machines share one store, a folder.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measure import console
from benchmarks.results import Options, Outcome, Table, command
from collectiverl.artifacts.store import Store
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig, claim
from collectiverl.pipeline.executors.base import run_stages
from collectiverl.pipeline.executors.remote import Remote
from collectiverl.pipeline.presets import scratch, smoke
from collectiverl.stages.base import Stage
from collectiverl.types import UserError

COLUMNS = ("experts", "machines", "seconds", "faster by")
GROUPS = Path("/sys/fs/cgroup/cpu")  # version 1; of version 2, all lie in one folder
PERIOD = 100_000  # microseconds
OBJECTS = 80_000_000  # bytes of shared memory of a machine; stages use none


@dataclass(frozen=True, kw_only=True)
class Machines(Options):
    """Experts on 1, 2 and 4 machines of half a core."""

    machines: tuple[int, ...] = (4, 2, 1)
    share: float = 0.5  # of a core, for each machine
    toy: int = 10  # experts of toy tasks, of two tasks and so many seeds as it takes
    toy_steps: int = 4_000  # environment steps of each
    real: tuple[str, ...] = ("reach", "window-close", "drawer-close", "button-press-topdown")
    real_steps: int = 4_000  # the ratio of the times is looked for: with more steps they only grow


def benchmark(config: Machines) -> Outcome:
    _check()
    kinds = {f"{config.toy} toy": toy(config), f"{len(config.real)} of Meta-World": real(config)}
    with tempfile.TemporaryDirectory() as folder:
        found = {
            kind: {
                machines: wall_time(Path(folder) / f"{k}_{machines}", runs, machines, config.share)
                for machines in config.machines
            }
            for k, (kind, runs) in enumerate(kinds.items())
        }
    title = f"Ray, machines of {config.share:g} cores"
    return Outcome(found, Table(title, COLUMNS, rows(found)))


def _check() -> None:
    if not (GROUPS / "tasks").exists():
        raise UserError(
            f"there are no cgroups of version 1 in {GROUPS}: they hold each machine to its share of a core"
        )
    if os.geteuid():
        raise UserError("cgroups can be made by root alone: run this as root")


def rows(found: dict[str, dict[int, float]]) -> list[list[str]]:
    """From one machine on; without one, nothing is compared."""
    return [
        [kind, str(n), f"{seconds:.0f}", f"{times[1] / seconds:.2f}x" if 1 in times else ""]
        for kind, times in found.items()
        for n, seconds in sorted(times.items())
    ]


# -- what is done ------------------------------------------------------------------------------------------

Run = tuple[RunConfig, Sequence[Stage]]


def toy(config: Machines) -> Run:
    """Experts of two toy tasks with several seeds, to their last step."""
    base = smoke().resolved()
    expert = replace(base.expert, steps=config.toy_steps, stop_evaluations=0)
    run = replace(base, expert=expert)
    seeds = -(-config.toy // len(run.tasks))
    every = [stage for seed in range(seeds) for stage in plan.experts(replace(run, seed=seed))]
    return run, every[: config.toy]


def real(config: Machines) -> Run:
    base = scratch()
    expert = replace(base.expert, steps=config.real_steps, stop_evaluations=0)
    run = replace(base, tasks=config.real, expert=expert).resolved()
    return run, plan.experts(run)


def wall_time(folder: Path, what: Run, machines: int, share: float) -> float:
    """Seconds from the first stage that is handed out to the last result."""
    from collectiverl.pipeline.executors.ray import RayCluster

    config, every = what
    folder.mkdir()
    claim(folder / "run", config)
    with cluster(machines, share) as address:
        executor = Remote(folder / "run", Store(f"file://{folder}/store"), RayCluster(address))
        began = time.perf_counter()
        run_stages(executor, every, lambda progress: None)
        seconds = time.perf_counter() - began
    console.print(f"{len(every)} stages on {machines} machines: {seconds:.0f} s")
    return round(seconds, 1)


# -- the machines ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(machines: int, share: float) -> Iterator[str]:
    """The address of a cluster whose head does no stages."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # as other processes have
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    groups = []
    try:
        for k in range(machines):
            node = made.add_node(num_cpus=1, object_store_memory=OBJECTS)
            groups.append(_held(f"collectiverl_{os.getpid()}_{k}", node, share))
        made.wait_for_nodes()
        yield made.address
    finally:
        made.shutdown()
        for group in groups:
            _remove(group)


def _held(name: str, node: Any, share: float) -> Path:
    """The cgroup of a machine; processes that these start belong to it, too."""
    import psutil

    group = GROUPS / name
    group.mkdir()
    (group / "cpu.cfs_period_us").write_text(str(PERIOD))
    (group / "cpu.cfs_quota_us").write_text(str(int(share * PERIOD)))
    for info in (info for kind in node.all_processes.values() for info in kind):
        parent = psutil.Process(info.process.pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                (group / "cgroup.procs").write_text(str(process.pid))
    return group


def _remove(group: Path) -> None:
    """Once its last process has ended."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


def main(argv: Sequence[str] | None = None) -> int:
    return command("machines", Machines, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
