"""What a GPU is worth: experts in one program, with the replay on the device, and distillation in large batches.

Everything is measured beside one CPU core of the same machine, and beside Stable-Baselines3's learner where PyTorch
is installed. It takes less than 8 minutes.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import jax

from benchmarks import learner, training
from benchmarks.encoder import LABELS, labelled_episodes
from benchmarks.measure import (
    Contender,
    Metrics,
    Results,
    available_cores,
    in_child,
    interleaved,
    plain,
    rate,
)
from benchmarks.results import Outcome, Repeated, Table, command
from benchmarks.scaling import visible_platforms
from collectiverl.collective.train import UPDATES_PER_CALL, CollectiveConfig, Training, fresh_collective
from collectiverl.envs.make import spec
from collectiverl.envs.tasks import canonical
from collectiverl.types import UserError

COLUMNS = ("what", "where", "experts E", "speed")
CPU = "cpu"
PEER = "Stable-Baselines3's learner"


@dataclass(frozen=True, kw_only=True)
class Gpu(Repeated):
    """Training on a GPU beside one CPU core."""

    repetitions: int = 1
    platform: str = "gpu"  # of JAX; cpu: the same code without a GPU, which tells nothing of its speed
    task: str = "reach-v3"
    experts: tuple[int, ...] = (1, 10)  # in one program
    updates: int = 32  # in one call
    num_envs: int = (
        256  # of each expert: eight environment steps for an update, as with 32 environments and 4
    )
    steps: int = 8_000  # environment steps of each expert in every measurement of the loop
    labels: int = 100_000  # of one update of the distillation, on the GPU
    episodes: int = 200  # of 500 steps, in the distillation's memory
    seconds: float = 5.0  # of every measurement of a learner


def benchmark(config: Gpu) -> Outcome:
    core = available_cores()[:1]
    if config.platform not in in_child(visible_platforms, cores=core):
        raise UserError(
            f"JAX sees no {config.platform} here, so nothing was measured: pip install 'collectiverl[cuda]' on a "
            "machine with a GPU; --platform cpu tries the same code without one"
        )
    contenders = [
        Contender(" | ".join((what, where, str(e))), *measurement, (cores,))
        for (what, where, e), (measurement, cores) in measurements(config, core).items()
    ]
    results = interleaved(contenders, config.repetitions)
    return Outcome(plain(results), Table(f"GPU, {config.task}", COLUMNS, rows(results)))


Measurement = tuple[Callable[..., Metrics], tuple[Any, ...]]
Cores = tuple[int, ...]


def measurements(config: Gpu, core: Cores) -> dict[tuple[str, str, int], tuple[Measurement, Cores]]:
    """By what is measured, where, and how many experts; the simulators beside the GPU have all cores."""
    device, every, task = config.platform, available_cores(), canonical(config.task)
    small = training.TrainConfig()
    found: dict[tuple[str, str, int], tuple[Measurement, Cores]] = {
        ("learner", "one core", 1): ((learner.update_rate, (8, config.seconds, 1, CPU)), core),
        ("loop", "one core", 1): (
            (training.ours, ((task,), small.num_envs, small.updates_per_step, config.steps, CPU)),
            core,
        ),
        ("distillation", "one core", 1): (
            (distil, (CollectiveConfig().labels, config.episodes, config.seconds, CPU)),
            core,
        ),
        ("distillation", device, 1): (
            (distil, (config.labels, config.episodes, config.seconds, device)),
            every,
        ),
    }
    for e in config.experts:
        loop = ((task,) * e, config.num_envs, config.updates, config.steps, device)
        found["learner", device, e] = (
            (learner.update_rate, (config.updates, config.seconds, e, device)),
            every,
        )
        found["loop", device, e] = (training.ours, loop), every
    if find_spec("torch") and find_spec("stable_baselines3"):
        for where, cores, torch_device in ((device, every, "auto"), ("one core", core, CPU)):
            peer = (learner.peer_train_rate, ("sb3", config.updates, config.seconds, 100_000, torch_device))
            found[PEER, where, 1] = peer, cores
    return found


def rows(results: Results) -> list[list[str]]:
    """By what is measured, then in the order of the measurements."""
    table = [
        [*name.split(" | "), ", ".join(f"{speed} {metric}" for metric, speed in found.items())]
        for name, found in results.items()
    ]
    return sorted(table, key=lambda row: row[0])


# -- in a child --------------------------------------------------------------------------------------------


def distil(labels: int, episodes: int, seconds: float, platform: str) -> Metrics:
    """Whole episodes, `labels` of them in an update, as `distill-collective` learns from them."""
    with jax.default_device(jax.devices(platform)[0]):
        table = labelled_episodes(episodes)
        config = replace(CollectiveConfig(), labels=labels)
        training = Training(*(fresh_collective(table, config, spec("reach-v3")), config), seed=0)
        segments, rates = training.segments(table), training.constant(UPDATES_PER_CALL)

        def call() -> None:
            training.advance(segments, rates)
            jax.block_until_ready(training.state)

        return {LABELS.replace("core-s", "s"): rate(call, UPDATES_PER_CALL * labels, seconds)}


def main(argv: Sequence[str] | None = None) -> int:
    return command("gpu", Gpu, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
