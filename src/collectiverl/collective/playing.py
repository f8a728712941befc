"""Rollouts of many tasks together: who acts in which environment, episodes per task, success per task."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.collective.policy import CollectivePolicy
from collectiverl.envs import memory
from collectiverl.envs.concat import Concatenated
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.policy import CheckedPolicy
from collectiverl.envs.rollout import episodes
from collectiverl.types import EnvSpec, Episode, Policy, UserError

EVALUATION = 1_000_003  # stream of random numbers: goals that no training had
EVEN = 0.5  # share of a round's episodes that is the same for all tasks; the rest goes to tasks that fail
STRETCH = 20  # steps that the teacher or the learner acts for, before it is drawn anew who acts
NEVER = 2**31  # steps; more than any episode has


# -- who acts ----------------------------------------------------------------------------------------------


class PerTaskPolicy(CheckedPolicy):
    """Each environment played by the policy of its task; one policy may play several tasks.

    Raises:
        UserError: a task has no policy.
    """

    def __init__(self, policies: Mapping[str, Policy], tasks: Sequence[str], spec: EnvSpec):
        super().__init__(spec.obs_dim, spec.action_dim, len(tasks))
        self.spec = spec
        if missing := sorted(set(tasks) - set(policies)):
            raise UserError(f"no policy plays {missing[0]}: there are policies for {', '.join(policies)}")
        playing = {id(policies[task]): policies[task] for task in tasks}
        self.members = [
            (np.asarray([policies[task] is policy for task in tasks]), policy) for policy in playing.values()
        ]

    def _act(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        action = np.empty((len(obs), self.spec.action_dim), np.float32)
        for mine, policy in self.members:
            action[mine] = policy.eval_action(obs[mine])
        return action

    def _reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        for mine, policy in self.members:
            policy.reset(env_mask[mine])

    def _observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        for mine, policy in self.members:
            policy.observe(rewards[mine])


class NoisyActions:
    """A policy whose actions carry Gaussian noise, with a standard deviation for each environment."""

    def __init__(self, policy: Policy, deviation: Float[np.ndarray, "N"], seed: int):
        self.policy, self.deviation, self.rng = policy, deviation[:, None], np.random.default_rng(seed)

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        action = self.policy.eval_action(observations)
        noise = self.deviation * self.rng.standard_normal(action.shape)
        return np.clip(action + noise, -1, 1).astype(np.float32)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.policy.reset(env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self.policy.observe(rewards)


class Alternating:
    """The learner; in some environments the teacher acts for stretches. Both see the actions really taken.

    Args:
        share: part of the stretches in which the teacher acts, for each environment.
        told: environments in which the learner sees the rewards.
    """

    def __init__(
        self,
        learner: CollectivePolicy,
        teacher: Policy,
        share: Float[np.ndarray, "N"],
        told: Bool[np.ndarray, "N"],
        seed: int,
    ):
        self.learner, self.teacher, self.share, self.told = learner, teacher, share, told
        self.rng, self.calls = np.random.default_rng(seed), 0

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        if self.calls % STRETCH == 0:
            self.teaching = self.rng.random(len(observations)) < self.share
        self.calls += 1
        action = self.learner.eval_action(observations)
        if self.teaching.any():
            action = np.where(self.teaching[:, None], self.teacher.eval_action(observations), action)
            self.learner.executed(action)
        return action

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.learner.reset(env_mask)
        self.teacher.reset(env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self.learner.observe(np.where(self.told, rewards, np.nan).astype(np.float32))
        self.teacher.observe(rewards)


# -- how much ----------------------------------------------------------------------------------------------


def allocate(failure: Mapping[str, float], per_task: int) -> dict[str, int]:
    """Episodes of each task in the next round, `per_task` on average, more where more failed, and at least one.

    Every task gets one; the others are apportioned by largest remainder, so that they add up.
    """
    share, tasks = np.array(list(failure.values())), len(failure)
    part = share / share.sum() if share.any() else np.full(tasks, 1 / tasks)
    quota = np.maximum(per_task * (EVEN + (1 - EVEN) * tasks * part) - 1, 0)
    rest = (per_task - 1) * tasks
    quota *= rest / max(quota.sum(), 1)
    wanted = np.floor(quota).astype(int)
    most_left = np.lexsort((share, quota - wanted))[::-1]  # where as much is left, more where more failed
    wanted[most_left[: rest - wanted.sum()]] += 1
    return {task: 1 + int(count) for task, count in zip(failure, wanted, strict=True)}


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


# -- playing -----------------------------------------------------------------------------------------------


def play_together(
    make_envs: Callable[[str, int], VectorEnv],
    wanted: Mapping[str, int],
    size: int,
    make_policy: Callable[[Sequence[str], int], Policy],
    *,
    phase: str,
    seed: int,
    after_success: Callable[[int, int], Int[np.ndarray, "N"]] | None = None,
) -> Iterator[list[Episode]]:
    """The wanted number of episodes of each task, in groups of at most `size` environments alive at once.

    Each environment plays one episode. `make_policy` gets the task of each environment and a seed; `after_success`
    the number of environments and the seed, and says how many steps after its first success each episode ends.
    """
    for i, group in enumerate(groups(wanted, size)):
        envs = Concatenated([make_envs(task, count) for task, count in group.items()])
        try:
            policy = make_policy(envs.tasks, seed + i)
            limit = after_success(envs.num_envs, seed + i) if after_success else None
            yield list(episodes(envs, policy, per_env=1, phase=phase, seed=seed + i, after_success=limit))
        finally:
            envs.close()
            del envs
            memory.release()


def play_judged(
    make_envs: Callable[[str, int], VectorEnv],
    tasks: Sequence[str],
    episodes: int,
    size: int,
    make_policy: Callable[[Sequence[str], int], Policy],
    *,
    seed: int,
) -> list[Episode]:
    """Evaluation: `episodes` of each task, with goals that no training had.

    All tasks are played side by side, with equally many environments each, about `size` in all.
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
