"""The environments of Meta-World's meta-learning benchmarks, as Meta-World makes them: observations hide the goal."""

from typing import Literal

import gymnasium as gym
from gymnasium.vector import SyncVectorEnv

from collectiverl.envs.goals import NUM_GOALS

MetaBenchmark = Literal["ML10", "ML45"]
Split = Literal["train", "test"]
SIDE_BY_SIDE = 20  # environments that Meta-World makes by default, if so many can be divided among the tasks


def default_per_task(tasks: int) -> int:
    """Environments of each task that Meta-World makes by default; one, where there are more tasks than that."""
    return max(1, SIDE_BY_SIDE // tasks)


def make_meta_envs(
    benchmark: MetaBenchmark, split: Split, tasks: int, per_task: int, rounds: int, seed: int
) -> SyncVectorEnv:
    """`per_task` environments of each of the `tasks` tasks of a benchmark, in this process.

    Each has goals of its own, as many as there are `rounds`, or fewer if the 50 of a task do not suffice.
    """
    import metaworld  # noqa: F401  registers the benchmarks with Gymnasium; here, because it takes long

    goals = min(rounds, NUM_GOALS // per_task) * per_task
    envs = gym.make_vec(
        f"Meta-World/{benchmark}-{split}",
        seed=seed,
        meta_batch_size=tasks * per_task,
        total_tasks_per_cls=goals,
    )
    assert isinstance(envs, SyncVectorEnv)
    return envs
