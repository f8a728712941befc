"""Experts side by side, a core each, against one expert on one core and one on all cores' threads."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import training
from benchmarks.measure import Contender, Results, available_cores, interleaved, plain
from benchmarks.results import Outcome, Repeated, Table, command
from collectiverl.envs.tasks import canonical
from collectiverl.sac.settings import TrainConfig
from collectiverl.types import UserError

COLUMNS = ("experts", "updates/s in all", "environment steps/s in all", "against one core")
ALONE = "one, on one core"


@dataclass(frozen=True, kw_only=True)
class Cores(Repeated):
    """Total speed of our training loop: an expert on each core, one on one core, one on all of them."""

    task: str = "reach-v3"
    steps: int = 16_000  # environment steps of each expert measured, once learning has begun
    num_envs: int = TrainConfig().num_envs
    updates_per_step: int = TrainConfig().updates_per_step


def benchmark(config: Cores) -> Outcome:
    cores = available_cores()
    if len(cores) < 2:
        raise UserError("this benchmark compares cores and needs two, but only one is available")
    args = ((canonical(config.task),), config.num_envs, config.updates_per_step, config.steps)
    layouts = {
        ALONE: (cores[:1],),
        f"one, on {len(cores)} cores' threads": (cores,),
        f"{len(cores)} side by side, one core each": tuple((core,) for core in cores),
    }
    contenders = [Contender(name, training.ours, args, places) for name, places in layouts.items()]
    results = interleaved(contenders, config.repetitions)
    title = f"{config.task}, {config.updates_per_step} updates every {config.num_envs} environment steps"
    return Outcome(plain(results), Table(title, COLUMNS, rows(results)))


def rows(results: Results) -> list[list[str]]:
    alone = results[ALONE]["updates/s"].median
    return [
        [
            name,
            str(found["updates/s"]),
            str(found["env_steps/s"]),
            f"{found['updates/s'].median / alone:.2f}x",
        ]
        for name, found in results.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    return command("cores", Cores, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
