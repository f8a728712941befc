"""What MT50 with several seeds costs on more and more machines: its schedule, simulated from stages that were measured.

No machine is started. Each stage takes the seconds that its like took on one core (`results/`, from manifests of
real runs). Stages and their order are those of `collectiverl run`, and a free core takes the first that is ready.
"""

import heapq
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from benchmarks.results import Options, Outcome, Table, command
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.presets import mt50
from collectiverl.stages.base import Stage

ROOT = Path(__file__).parents[1]
RUN = ROOT / "results/collective/mt50_seed_0.json"  # seconds of the stages of MT50, on one core each
EXPERTS = ROOT / "src/collectiverl/pretrained/mt10/experts.json"  # of ten experts that SAC trained
OTHERS = ROOT / "results/scratch/seed_0.json"  # of kinds of stages that the two do not have
COLUMNS = ("experts", "machines", "hours", "core-hours", "cores at work", "faster by", "not below, hours")
HOUR = 3600.0
LEFT_OUT = ("film",)  # kinds of stages that no run of the ledger has measured; nothing waits for them


@dataclass(frozen=True, kw_only=True)
class Schedule(Options):
    """The schedule of MT50 with several seeds, simulated."""

    machines: tuple[int, ...] = (1, 2, 4, 8, 16, 50)
    cores: int = 2  # of a machine
    seeds: int = 3


@dataclass(frozen=True)
class Node:
    """A stage of one seed."""

    seconds: float
    inputs: tuple[str, ...]
    label: str


Graph = dict[str, Node]  # in the order of the run


def graph(config: RunConfig, seeds: int) -> Graph:
    """All stages of a run for each seed, by seed and folder."""
    found = {}
    for seed in range(seeds):
        for stage in plan.stages(replace(config, seed=seed)):
            if stage.kind in LEFT_OUT:
                continue
            node = Node(seconds_of(stage), tuple(f"{seed}:{name}" for name in stage.inputs), stage.label)
            found[f"{seed}:{stage.out}"] = node
    return found


def seconds_of(stage: Stage) -> float:
    """What stages of its kind took, as a mean; an expert takes what one of the ten that were measured took, in turn."""
    if stage.kind == "train-task":
        trained = [row["seconds"] for row in json.loads(EXPERTS.read_text())["policies"]]
        return trained[mt50().resolved().tasks.index(stage.config.task) % len(trained)]
    if stage.kind in ("summary", "take-expert"):
        return 0.1
    folder = "/".join(stage.out.split("/")[: 2 if stage.kind in ("evaluate", "probe") else 1])
    for source in (RUN, OTHERS):
        alike = [
            s for out, s in json.loads(source.read_text())["stage_seconds"].items() if out.startswith(folder)
        ]
        if alike:
            return mean(alike)
    raise ValueError(f"no seconds of {stage.label} were measured")


def simulate(stages: Graph, slots: int) -> tuple[float, dict[str, float]]:
    """Seconds until all is done, and when each stage ends."""
    ended: dict[str, float] = {}
    waiting, running, now = list(stages), [], 0.0
    while waiting or running:
        ready = (name for name in waiting if all(i in ended for i in stages[name].inputs))
        for name in list(_first(ready, slots - len(running))):
            waiting.remove(name)
            heapq.heappush(running, (now + stages[name].seconds, name))
        now, name = heapq.heappop(running)
        ended[name] = now
    return now, ended


def _first(names: Iterator[str], count: int) -> Iterator[str]:
    yield from (name for _, name in zip(range(count), names, strict=False))


def critical_path(stages: Graph) -> list[str]:
    """The chain of stages that takes longest: no number of machines is faster."""
    ended: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for name, node in stages.items():  # inputs stand before what reads them
        before[name] = max(node.inputs, key=ended.__getitem__, default=None)
        ended[name] = node.seconds + max((ended[i] for i in node.inputs), default=0.0)
    path, at = [], max(ended, key=ended.__getitem__)
    while at is not None:
        path.append(at)
        at = before[at]
    return path[::-1]


def benchmark(config: Schedule) -> Outcome:
    base = mt50().resolved()
    kinds = {"that come with the package": base, "trained by SAC": replace(base, teacher="sac")}
    rows, found = [], {}
    for name, run in kinds.items():
        stages = graph(run, config.seeds)
        work, path = sum(node.seconds for node in stages.values()), critical_path(stages)
        least = sum(stages[at].seconds for at in path)
        times = {machines: simulate(stages, machines * config.cores)[0] for machines in config.machines}
        alone = simulate(stages, config.cores)[0]
        rows += [
            _row(name, machines, time, work, alone, least, config.cores) for machines, time in times.items()
        ]
        found[name] = {
            "stages": len(stages),
            "seconds": times,
            "core_seconds": work,
            "critical_path": [(stages[at].label, stages[at].seconds) for at in path],
        }
    title = f"MT50, {config.seeds} seeds, machines of {config.cores} cores, simulated"
    return Outcome(found, Table(title, COLUMNS, rows))


def _row(
    name: str, machines: int, seconds: float, work: float, alone: float, least: float, cores: int
) -> list[str]:
    used = work / (seconds * machines * cores)
    return [
        *(name, str(machines), f"{seconds / HOUR:.2f}", f"{work / HOUR:.1f}", f"{used:.0%}"),
        *(f"{alone / seconds:.1f}x", f"{least / HOUR:.2f}"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    return command("schedule", Schedule, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
