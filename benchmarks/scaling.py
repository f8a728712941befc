"""What E experts in one program gain over E programs: on this CPU, and on a GPU if JAX sees one."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from benchmarks import learner, training
from benchmarks.measure import Contender, Results, available_cores, in_child, interleaved, plain
from benchmarks.results import Outcome, Repeated, Table, command
from collectiverl.envs.tasks import canonical
from collectiverl.sac.settings import TrainConfig

COLUMNS = (
    *("device", "experts E", "learner, updates/s in all", "of each", "against E programs in turn"),
    *("loop, environment steps/s in all", "against E programs in turn"),
)


@dataclass(frozen=True, kw_only=True)
class Scaling(Repeated):
    """Speed of the learner and of the training loop against the number of experts in one program."""

    task: str = "reach-v3"
    experts: tuple[int, ...] = (1, 2, 5, 10)
    updates: int = 8  # in one call of the learner
    seconds: float = 5.0  # of every measurement of the learner
    steps: int = 4_000  # environment steps of each expert in every measurement of the loop
    num_envs: int = TrainConfig().num_envs
    updates_per_step: int = TrainConfig().updates_per_step

    def __post_init__(self) -> None:
        super().__post_init__()
        if 1 not in self.experts:
            raise ValueError(f"--experts={self.experts} must include 1, which the others are compared with")


def benchmark(config: Scaling) -> Outcome:
    place = available_cores()[:1]
    platforms = in_child(visible_platforms, cores=place)
    task, sizes = canonical(config.task), (config.num_envs, config.updates_per_step, config.steps)
    contenders = []
    for platform in platforms:
        for experts in config.experts:
            update = (config.updates, config.seconds, experts, platform)
            loop = ((task,) * experts, *sizes, platform)
            contenders += [
                Contender(_key("learner", platform, experts), learner.update_rate, update, (place,)),
                Contender(_key("loop", platform, experts), training.ours, loop, (place,)),
            ]
    results = interleaved(contenders, config.repetitions)
    title = f"experts in one program, {task}, one core"
    return Outcome(plain(results), Table(title, COLUMNS, rows(platforms, config.experts, results)))


def rows(platforms: Sequence[str], experts: Sequence[int], results: Results) -> list[list[str]]:
    """E programs in turn are, all together, as fast as one."""
    return [_row(platform, e, results) for platform in platforms for e in experts]


def _row(platform: str, experts: int, results: Results) -> list[str]:
    updates, steps = (
        [results[_key(part, platform, e)][metric] for e in (experts, 1)]
        for part, metric in (("learner", "updates/s"), ("loop", "env_steps/s"))
    )
    return [
        *(platform, str(experts), str(updates[0]), f"{updates[0].median / experts:.0f}"),
        f"{updates[0].median / updates[1].median:.2f}x",
        *(str(steps[0]), f"{steps[0].median / steps[1].median:.2f}x"),
    ]


def _key(part: str, platform: str, experts: int) -> str:
    return f"{part}, {platform}, E = {experts}"


def visible_platforms() -> list[str]:
    """In a child, since a process that has looked at a GPU holds on to its memory."""
    return list(dict.fromkeys(["cpu", jax.default_backend()]))


def main(argv: Sequence[str] | None = None) -> int:
    return command("scaling", Scaling, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
