"""Environment steps a second of whole training loops at one update an environment step, on one core."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import peers, training
from benchmarks.measure import Contender, Results, available_cores, interleaved, plain
from benchmarks.results import Outcome, Repeated, Table, command
from collectiverl.envs.tasks import canonical

COLUMNS = ("training loop", "environment steps/s", "ours is faster by")
METRIC = "env_steps/s"


@dataclass(frozen=True, kw_only=True)
class Loop(Repeated):
    """Whole training loops at one update an environment step: ours, SBX's and Stable-Baselines3's."""

    task: str = "reach-v3"
    steps: int = 4_000  # environment steps measured, once learning has begun
    num_envs: int = 32  # of ours, which makes as many updates after each vector step


def benchmark(config: Loop) -> Outcome:
    peers.require()
    task, places = canonical(config.task), (available_cores()[:1],)
    ours = ((task,), config.num_envs, config.num_envs, config.steps)
    contenders = [
        Contender("ours", training.ours, ours, places),
        *(Contender(peer, training.peer, (peer, task, config.steps), places) for peer in ("sbx", "sb3")),
    ]
    results = interleaved(contenders, config.repetitions)
    title = f"{task}, one update an environment step, one core"
    return Outcome(plain(results), Table(title, COLUMNS, rows(results)))


def rows(results: Results) -> list[list[str]]:
    ours = results["ours"][METRIC].median
    return [
        [peers.TITLES[name], str(found[METRIC]), f"{ours / found[METRIC].median:.2f}x"]
        for name, found in results.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    return command("loop", Loop, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
