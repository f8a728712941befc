"""ML10 and ML45 by Meta-World's own protocol, `metaworld.evaluation.metalearning_evaluation`, as it is."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from collectiverl.artifacts import sealed
from collectiverl.artifacts.metrics import Report, silent
from collectiverl.artifacts.validation import MOST_EPISODES, at_least, at_most, seed
from collectiverl.collective.policy import Collective, check_shapes
from collectiverl.envs.goals import NUM_GOALS
from collectiverl.envs.make import spec
from collectiverl.envs.metaworld.meta import MetaBenchmark, Split, default_per_task, make_meta_envs
from collectiverl.envs.tasks import resolve
from collectiverl.evaluation.evaluate import SCHEMA
from collectiverl.evaluation.statistics import success_interval
from collectiverl.types import ConfigError, UserError

META_AGENT = ("eval_action", "reset", "init", "adapt_action", "step", "adapt")


@dataclass(frozen=True, kw_only=True)
class MetaConfig:
    """How long the collective adapts to each goal, and how often it is played; the defaults are Meta-World's."""

    benchmark: MetaBenchmark = "ML10"  # whose tasks are played
    splits: tuple[Split, ...] = ("train", "test")  # its training tasks, or its test tasks, or both
    rounds: int = 10  # goals of each environment, one after another
    adaptation_episodes: int = 10  # rollouts to adapt in, for each goal; their rewards are told
    evaluation_episodes: int = 3  # episodes of each task and round that count; no rewards are told
    # environments of each task; None: 20 in all if they can be divided, and one of each task where there are more.
    # From 2 on the protocol favours goals that are solved quickly
    envs_per_task: int | None = None
    seed: int = 0  # of the goals

    def __post_init__(self) -> None:
        at_least(self, 1, "rounds", "adaptation_episodes", "evaluation_episodes", "envs_per_task")
        at_most(self, MOST_EPISODES, "rounds", "adaptation_episodes", "evaluation_episodes")
        seed(self)
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ConfigError("splits", "name train, test, or both, each once")
        if self.envs_per_task is not None and self.envs_per_task > NUM_GOALS:
            raise ConfigError(
                "envs_per_task", f"{self.envs_per_task} is more than the {NUM_GOALS} goals of a task"
            )

    def tasks(self, split: Split) -> tuple[str, ...]:
        """Of one part of the benchmark."""
        return resolve([self.benchmark if split == "train" else f"{self.benchmark}-{split}"])

    def per_task(self, split: Split) -> int:
        """Environments of each task."""
        return self.envs_per_task or default_per_task(len(self.tasks(split)))


@dataclass(frozen=True)
class MetaEvaluation:
    """What a collective did on one part of a benchmark."""

    split: Split
    num_envs: int
    success: dict[str, float]  # of each task, in the benchmark's order; an episode ends at its first success
    return_mean: float  # of the episodes that counted

    @property
    def rate(self) -> float:
        """Mean over tasks."""
        return float(np.mean(list(self.success.values())))


class Counted:
    """A `metaworld.evaluation.MetaLearningAgent` of the user's, and a report of the rollouts that have ended.

    Raises:
        UserError: it lacks a part of that interface.
    """

    def __init__(self, agent: Any, ended: Callable[[int], Any]):
        missing = [name for name in META_AGENT if not callable(getattr(agent, name, None))]
        if missing:
            raise UserError(
                f"{type(agent).__name__} is no MetaLearningAgent: it has no {', '.join(missing)}, see "
                "metaworld.evaluation"
            )
        self.agent, self.ended = agent, ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def step(self, timestep: Any) -> None:
        self.agent.step(timestep)
        self.ended(int(np.logical_or(timestep.terminated, timestep.truncated).sum()))


def evaluate_meta(
    player: Collective | Any, config: MetaConfig, split: Split, report: Report = silent
) -> MetaEvaluation:
    """Lets an agent adapt to each goal and plays it, as the protocol says; the environments are in this process.

    Args:
        player: a collective, or a `metaworld.evaluation.MetaLearningAgent`.

    Raises:
        UserError: the collective does not suit the protocol, or other environments, see `MetaLearner`.
    """
    from metaworld.evaluation import metalearning_evaluation  # here, because it takes most of a second

    from collectiverl.evaluation.adaptation import MetaLearner

    tasks, per_task = config.tasks(split), config.per_task(split)
    if isinstance(player, Collective):
        check_shapes(player, spec(tasks[0]))
    total = config.rounds * config.adaptation_episodes * per_task * len(tasks)
    played = 0

    def ended(count: int) -> None:
        nonlocal played
        played += count
        report(played, total, "rollouts to adapt in")

    learner: Any = MetaLearner(player, ended) if isinstance(player, Collective) else Counted(player, ended)
    report(0, total, f"makes {per_task * len(tasks)} environments")
    with closing(
        make_meta_envs(config.benchmark, split, len(tasks), per_task, config.rounds, config.seed)
    ) as envs:
        _, mean_return, success = metalearning_evaluation(
            learner,
            envs,
            num_evals=config.rounds,
            adaptation_episodes=config.adaptation_episodes,
            evaluation_episodes=config.evaluation_episodes,
        )
    ordered = {task: float(success[task]) for task in tasks}
    return MetaEvaluation(split, per_task * len(tasks), ordered, float(mean_return))


def meta_report(policy: str, config: MetaConfig, found: Sequence[MetaEvaluation]) -> dict[str, Any]:
    """One row a task, the means, and how they were found, as JSON has it.

    An interval is as wide as the goals are few: episodes of one environment and round have one goal, so they are no
    trials of their own.
    """
    episodes = config.rounds * config.evaluation_episodes

    def goals(one: MetaEvaluation) -> int:
        return config.rounds * min(one.num_envs // len(one.success), config.evaluation_episodes)

    def interval(rate: float, trials: int) -> list[float]:
        return [round(bound, 4) for bound in success_interval(round(rate * trials), trials)]

    rows = [
        {
            "policy": policy,
            "task": task,
            "split": one.split,
            "success_any": rate,
            "success_last": None,  # an episode ends at its first success
            "interval": interval(rate, goals(one)),
            "episodes": episodes,
            "trials": goals(one),
            "goals": "hidden",
        }
        for one in found
        for task, rate in one.success.items()
    ]
    return {
        "schema": SCHEMA,
        "policy": policy,
        "benchmark": config.benchmark,
        "protocol": {
            "function": "metaworld.evaluation.metalearning_evaluation",
            **sealed.to_jsonable(config),
            "num_envs": {one.split: one.num_envs for one in found},
        },
        "policies": rows,
        "mean": {one.split: {"success_any": one.rate, "return": one.return_mean} for one in found},
    }
