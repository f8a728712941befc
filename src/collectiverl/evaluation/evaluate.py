"""Meta-World's evaluation protocol: deterministic actions, each goal of a task once, the whole time limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from collectiverl.artifacts.metrics import Report, silent
from collectiverl.artifacts.validation import MOST_ENVS, at_least, at_most, between
from collectiverl.envs import make
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.goals import MAX_SEEDS, NUM_GOALS, GoalSet, indices
from collectiverl.envs.rollout import Step, episodes
from collectiverl.evaluation.statistics import Interval, success_interval
from collectiverl.types import ConfigError, Episode, Policy

SCHEMA = 1  # of the files of `evaluate --json` and `evaluate-meta --json`


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which goals are played, and in how many environments at once."""

    goals: GoalSet | tuple[int, ...] = "all"  # all 50, the 40 for training, the 10 held out, or a list
    goal_seeds: int = 1  # sets of goals: those drawn with the seeds 0, 1, …
    goals_hidden: bool = False  # observations do not show the goal
    # environments at once, at most. Up to 16 give the same result; more round differently, and may be faster
    num_envs: int = 10

    def __post_init__(self) -> None:
        at_least(self, 1, "num_envs")
        at_most(self, MOST_ENVS, "num_envs")
        between(self, 1, MAX_SEEDS, "goal_seeds")
        if not self.goal_indices:
            raise ConfigError(
                "goals", f"{self.goals} has no numbers: choose all, train, held-out, or list goals"
            )
        if len(set(self.goal_indices)) < len(self.goal_indices):
            raise ConfigError("goals", f"{self.goals} names a goal twice")

    @property
    def goal_indices(self) -> tuple[int, ...]:
        return tuple(
            seed * NUM_GOALS + goal for seed in range(self.goal_seeds) for goal in indices(self.goals)
        )

    @property
    def envs_used(self) -> int:
        """The largest number of environments, up to `num_envs`, that divides the number of goals."""
        goals = len(self.goal_indices)
        return max(n for n in range(1, min(self.num_envs, goals) + 1) if goals % n == 0)


@dataclass(frozen=True)
class Evaluation:
    """What a policy did on each goal of a task; all tuples have the order of `goals`."""

    task: str
    seed: int  # of the policy's training
    goals_hidden: bool  # from the policy
    goals: tuple[int, ...]  # numbers of the task's fixed goals
    success_any: tuple[bool, ...]  # at any step: what Meta-World counts
    success_last: tuple[bool, ...]  # at the last step
    returns: tuple[float, ...]  # undiscounted, of the whole episode
    first_success: tuple[int | None, ...]  # the step of the first success, counted from 1; None: none

    @property
    def episodes(self) -> int:
        return len(self.goals)

    @property
    def rate_any(self) -> float:
        return float(np.mean(self.success_any))

    @property
    def rate_last(self) -> float:
        return float(np.mean(self.success_last))

    @property
    def interval(self) -> Interval:
        """95 % interval of `rate_any`."""
        return success_interval(sum(self.success_any), self.episodes)

    @property
    def return_mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def steps_to_success(self) -> float | None:
        """Mean number of steps to the first success, over the episodes that succeed."""
        reached = [steps for steps in self.first_success if steps is not None]
        return float(np.mean(reached)) if reached else None


def evaluation_envs(task: str, config: EvaluateConfig) -> VectorEnv:
    """Environments that play the goals of `config` in order, on the suite's reference simulator."""
    return make.make_envs(
        task,
        config.envs_used,
        goals=config.goal_indices,
        order="sequential",
        backend="reference",
        goals_hidden=config.goals_hidden,
    )


def evaluate(
    policy: Policy,
    task: str,
    config: EvaluateConfig | None = None,
    *,
    seed: int = 0,
    envs: VectorEnv | None = None,
    report: Report = silent,
    watch: Callable[[Step], None] | None = None,
) -> Evaluation:
    """Plays every goal of `config` once to the time limit.

    The policy must act deterministically. Its `reset` is called with the environments that begin a new episode.

    Args:
        seed: of the policy's training, kept with the result. The environments have no randomness: goals are fixed.
        envs: from `evaluation_envs` with the same `task` and `config`, to use the same simulators for several
            policies; they are not closed.
        watch: called with every step, as by `video.filming`.

    Raises:
        ValueError: `envs` play another task or other goals.
    """
    config = config or EvaluateConfig()
    used = envs if envs is not None else evaluation_envs(task, config)
    if set(used.tasks) != {task}:
        raise ValueError(f"envs play {sorted(set(used.tasks))}, not {task}")
    try:
        played = _play(policy, used, config, seed, report, watch)
    finally:
        if envs is None:
            used.close()
    return _evaluation(task, seed, config.goals_hidden, played)


def _play(
    policy: Policy,
    envs: VectorEnv,
    config: EvaluateConfig,
    seed: int,
    report: Report,
    watch: Callable[[Step], None] | None,
) -> list[Episode]:
    """One episode of each goal, by ascending number of the goal."""
    wanted, played = config.goal_indices, []
    per_env = -(-len(wanted) // envs.num_envs)
    for episode in episodes(envs, policy, per_env=per_env, phase="expert", seed=seed, watch=watch):
        played.append(episode)
        report(len(played), len(wanted), envs.spec.task)
    played.sort(key=lambda episode: episode.goal)
    if [episode.goal for episode in played] != sorted(wanted):
        raise ValueError(
            "envs do not play each goal once: make them with evaluation_envs and the same config"
        )
    return played


def _evaluation(task: str, seed: int, goals_hidden: bool, played: Sequence[Episode]) -> Evaluation:
    return Evaluation(
        task=task,
        seed=seed,
        goals_hidden=goals_hidden,
        goals=tuple(episode.goal for episode in played),
        success_any=tuple(bool(episode.success.any()) for episode in played),
        success_last=tuple(bool(episode.success[-1]) for episode in played),
        returns=tuple(float(episode.reward.sum()) for episode in played),
        first_success=tuple(_first_success(episode) for episode in played),
    )


def _first_success(episode: Episode) -> int | None:
    return int(episode.success.argmax()) + 1 if episode.success.any() else None
