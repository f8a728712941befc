"""What a GPU is worth: experts in one program, with the replay on the device, and distillation in large batches.

Everything is measured beside one CPU core of the same machine, and beside Stable-Baselines3's learner where PyTorch
is installed.
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

COLUMNS = ("what", "where", "experts E", "speed", "GFLOP/s")
CPU = "cpu"
OURS, PEER = "learner", "Stable-Baselines3's learner"
TRANSITIONS = 100_000  # in a peer's replay
Size = tuple[int, int]  # of a batch, and of the two hidden layers
SMALL: Size = (learner.CONFIG.batch_size, learner.CONFIG.width)


@dataclass(frozen=True, kw_only=True)
class Gpu(Repeated):
    """Training on a GPU beside one CPU core."""

    repetitions: int = 1
    platform: str = "gpu"  # of JAX; cpu: the same code without a GPU, which tells nothing of its speed
    task: str = "reach-v3"
    experts: tuple[int, ...] = (1, 10)  # in one program
    updates: int = 32  # in one call
    large: Size = (4_096, 1_024)  # batch and width that fill a GPU, beside the defaults of 256 and 256
    num_envs: int = (
        256  # of each expert: eight environment steps for an update, as with 32 environments and 4
    )
    steps: int = 5_000  # environment steps of each expert in every measurement of the loop
    labels: int = 100_000  # of one update of the distillation, on the GPU
    episodes: int = 200  # of 500 steps, in the distillation's memory
    seconds: float = 5.0  # of every measurement of a learner


def benchmark(config: Gpu) -> Outcome:
    core = available_cores()[:1]
    devices = in_child(visible_devices, cores=core)
    if config.platform not in devices:
        raise UserError(
            f"JAX sees no {config.platform} here, so nothing was measured: pip install 'collectiverl[cuda]' on a "
            "machine with a GPU; --platform cpu tries the same code without one"
        )
    contenders = [
        Contender(" | ".join((what, where, str(e))), *measurement, (cores,))
        for (what, where, e), (measurement, cores) in measurements(config, core).items()
    ]
    results = interleaved(contenders, config.repetitions)
    return Outcome(plain(results), table(config, devices[config.platform], results))


Measurement = tuple[Callable[..., Metrics], tuple[Any, ...]]
Cores = tuple[int, ...]


def measurements(config: Gpu, core: Cores) -> dict[tuple[str, str, int], tuple[Measurement, Cores]]:
    """By what is measured, where, and how many experts; the simulators beside the GPU have all cores."""
    device, every, task = config.platform, available_cores(), canonical(config.task)
    small = training.TrainConfig()
    found: dict[tuple[str, str, int], tuple[Measurement, Cores]] = {
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
        found["loop", device, e] = (training.ours, loop), every
    for size, core_updates in ((SMALL, 8), (config.large, 1)):
        found |= learners(config, core, size, core_updates)
    return found


def learners(
    config: Gpu, core: Cores, size: Size, core_updates: int
) -> dict[tuple[str, str, int], tuple[Measurement, Cores]]:
    """Ours and Stable-Baselines3's, with batches and networks of that size, on the device and on one core.

    One core is given `core_updates` in a call: more would take it minutes and make it no faster.
    """
    places = (
        (config.platform, config.updates, available_cores(), "auto"),
        ("one core", core_updates, core, CPU),
    )
    peers = find_spec("torch") and find_spec("stable_baselines3")
    found: dict[tuple[str, str, int], tuple[Measurement, Cores]] = {}
    for where, updates, cores, torch_device in places:
        platform = CPU if where == "one core" else config.platform
        for e in config.experts if where == config.platform else (1,):
            ours = updates, config.seconds, e, platform, *size
            found[named(OURS, size), where, e] = (learner.update_rate, ours), cores
        if peers:
            theirs = "sb3", updates, config.seconds, TRANSITIONS, torch_device, *size
            found[named(PEER, size), where, 1] = (learner.peer_train_rate, theirs), cores
    return found


def named(what: str, size: Size) -> str:
    return f"{what}, batch {size[0]:,}, width {size[1]:,}"


def flops(config: Gpu) -> dict[str, float]:
    """Of an update in matrix products, by the name of the learner."""
    dims, depth = (learner.OBS_DIM, learner.ACTION_DIM), learner.CONFIG.depth
    return {
        named(what, size): learner.update_flops(*dims, size[1], depth, size[0])
        for what in (OURS, PEER)
        for size in (SMALL, config.large)
    }


def table(config: Gpu, device: str, results: Results) -> Table:
    return Table(f"{device}, {config.task}", COLUMNS, rows(results, flops(config)))


def rows(results: Results, flops: dict[str, float]) -> list[list[str]]:
    """By what is measured, then in the order of the measurements."""
    table = []
    for name, found in results.items():
        what, where, e = name.split(" | ")
        speed = ", ".join(f"{speed} {metric}" for metric, speed in found.items())
        products = f"{found['updates/s'].median * flops[what] / 1e9:,.0f}" if what in flops else ""
        table.append([what, where, e, speed, products])
    return sorted(table, key=lambda row: row[0])


# -- in a child --------------------------------------------------------------------------------------------


def visible_devices() -> dict[str, str]:
    """What JAX computes on here: the kind of the first device, by its platform."""
    return {platform: jax.devices(platform)[0].device_kind for platform in visible_platforms()}


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
