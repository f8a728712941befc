"""Playing many tasks together: who acts in which environment, how many episodes each task gets, what succeeded."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.envs.concat import Concatenated
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import episodes
from collectiverl.types import Episode, Policy

EVALUATION = 1_000_003  # stream of random numbers: goals that no training had
EVEN = 0.5  # share of a round's episodes that all tasks get alike; the rest goes where the last round failed


class PerTaskPolicy:
    """Each environment played by the teacher of its task."""

    def __init__(self, teachers: Mapping[str, Policy], tasks: Sequence[str]):
        self.members = [(np.asarray([t == task for t in tasks]), policy) for task, policy in teachers.items()]

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        parts = [
            (mine, policy.eval_action(observations[mine])) for mine, policy in self.members if mine.any()
        ]
        action = np.empty((len(observations), parts[0][1].shape[-1]), np.float32)
        for mine, part in parts:
            action[mine] = part
        return action

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        for mine, policy in self.members:
            policy.reset(env_mask[mine])

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        for mine, policy in self.members:
            policy.observe(rewards[mine])


def allocate(success: Mapping[str, float], per_task: int) -> dict[str, int]:
    """Episodes of each task in the next round, `per_task` on average, more where fewer succeeded."""
    failure = {task: 1 - rate for task, rate in success.items()}
    most = sum(failure.values())
    extra = (1 - EVEN) * per_task * len(success) if most else 0
    even = EVEN * per_task if most else per_task
    return {task: round(even + extra * failure[task] / (most or 1)) for task in success}


def groups(wanted: Mapping[str, int], size: int) -> Iterator[dict[str, int]]:
    """The same episodes in groups of at most `size`, task by task."""
    group: dict[str, int] = {}
    for task, count in wanted.items():
        while count:
            taken = min(count, size - sum(group.values()))
            group[task] = taken
            count -= taken
            if sum(group.values()) == size:
                yield group
                group = {}
    if group:
        yield group


def play_together(
    make_envs: Callable[[str, int], VectorEnv],
    wanted: Mapping[str, int],
    size: int,
    make_policy: Callable[[Sequence[str], int], Policy],
    *,
    phase: str,
    seed: int,
) -> Iterator[list[Episode]]:
    """So many episodes of each task, in groups of at most `size` environments that are alive at once.

    Each environment plays one episode. `make_policy` gets the task of each environment and a seed.
    """
    for i, group in enumerate(groups(wanted, size)):
        envs = Concatenated([make_envs(task, count) for task, count in group.items()])
        try:
            policy = make_policy(envs.tasks, seed + i)
            yield list(episodes(envs, policy, per_env=1, phase=phase, seed=seed + i))
        finally:
            envs.close()


def play_judged(
    make_envs: Callable[[str, int], VectorEnv],
    tasks: Sequence[str],
    episodes: int,
    size: int,
    make_policy: Callable[[Sequence[str], int], Policy],
    *,
    seed: int,
) -> list[Episode]:
    """So many episodes of each task, with goals that no training had.

    All tasks are side by side, as many environments of each, about `size` at once.
    """
    per_group = max(1, min(episodes, size // len(tasks)))
    played: list[Episode] = []
    for i in range(0, episodes, per_group):
        wanted = dict.fromkeys(tasks, min(per_group, episodes - i))
        together = sum(wanted.values())
        for part in play_together(
            make_envs, wanted, together, make_policy, phase="learner", seed=EVALUATION + seed + i
        ):
            played += part
    return played


def success_by_task(played: Sequence[Episode], tasks: Sequence[str]) -> dict[str, float]:
    """Share of each task's episodes that succeeded at any step."""
    return {
        task: float(np.mean([e.success.any() for e in played if e.task == task] or [0])) for task in tasks
    }
