"""Environment steps a second of our backends, and of Gymnasium's vectors over Meta-World's environments."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.measure import Contender, Metrics, Results, available_cores, interleaved, plain
from benchmarks.peers import metaworld_env
from benchmarks.results import Outcome, Repeated, Table, command
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.tasks import canonical
from collectiverl.types import EnvSpec

METRIC = "env_steps/s"


@dataclass(frozen=True, kw_only=True)
class Environments(Repeated):
    """Steps a second under random actions, whole episodes with their resets."""

    task: str = "reach-v3"
    num_envs: tuple[int, ...] = (1, 10, 32)
    seconds: float = 5.0  # of every measurement, at least; it ends with an episode


def benchmark(config: Environments) -> Outcome:
    task = canonical(config.task)
    layouts = layouts_of(available_cores())
    contenders = [
        Contender(_key(name, n), measure, (task, n, config.seconds), (cores,))
        for n in config.num_envs
        for name, (measure, cores) in layouts.items()
    ]
    results = interleaved(contenders, config.repetitions)
    columns = ("environments", *(f"N = {n}" for n in config.num_envs))
    table = Table(
        f"{task}, environment steps/s, random actions", columns, rows(layouts, config.num_envs, results)
    )
    return Outcome(plain(results), table)


def layouts_of(cores: tuple[int, ...]) -> dict[str, tuple[Callable[..., Metrics], tuple[int, ...]]]:
    """What is measured on which cores: what cannot use more than one is given one."""
    one, all_cores = cores[:1], f"{len(cores)} cores"
    layouts: dict[str, tuple[Callable[..., Metrics], tuple[int, ...]]] = {
        "envpool, one core": (partial(ours, "envpool", threads=1), one),
        "metaworld, one core": (partial(ours, "metaworld"), one),
        "Gymnasium's SyncVectorEnv, one core": (partial(gymnasium_vector, gym.vector.SyncVectorEnv), one),
    }
    if len(cores) > 1:
        layouts |= {
            f"envpool, {all_cores}": (partial(ours, "envpool", threads=len(cores)), cores),
            f"metaworld in processes, {all_cores}": (partial(ours, "metaworld", processes=True), cores),
        }
    asynchronous = partial(gymnasium_vector, gym.vector.AsyncVectorEnv)
    return layouts | {f"Gymnasium's AsyncVectorEnv, {all_cores}": (asynchronous, cores)}


def rows(layouts: Iterable[str], num_envs: Sequence[int], results: Results) -> list[list[str]]:
    return [[name, *(str(results[_key(name, n)][METRIC]) for n in num_envs)] for name in layouts]


def _key(name: str, num_envs: int) -> str:
    return f"{name}, N = {num_envs}"


# -- in a child --------------------------------------------------------------------------------------------


def ours(
    backend: Any, task: str, num_envs: int, seconds: float, *, threads: int = 1, processes: bool = False
) -> Metrics:
    envs = make_envs(task, num_envs, backend=backend, goals="fresh", num_threads=threads, processes=processes)
    envs.reset(0)
    return {METRIC: steps_rate(envs.step, envs.spec, num_envs, seconds, envs.close)}


def gymnasium_vector(
    kind: Callable[..., gym.vector.VectorEnv], task: str, num_envs: int, seconds: float
) -> Metrics:
    makers = [partial(metaworld_env, task, seed) for seed in range(num_envs)]
    envs = kind(makers)
    envs.reset()
    return {METRIC: steps_rate(envs.step, spec(task), num_envs, seconds, envs.close)}


def steps_rate(
    step: Callable[[np.ndarray], object],
    shapes: EnvSpec,
    num_envs: int,
    seconds: float,
    close: Callable[[], None],
) -> float:
    """Transitions a second over whole episodes; with each goes one call that resets and is none."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (shapes.horizon + 1, num_envs, shapes.action_dim)).astype(np.float32)
    transitions, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for action in actions:
            step(action)
        transitions += shapes.horizon * num_envs
    spent = time.perf_counter() - began
    close()
    return transitions / spent


def main(argv: Sequence[str] | None = None) -> int:
    return command("environments", Environments, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
