"""What an encoder knows of the goal: decoded from `z` by a linear probe, over the course of an episode."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from collectiverl.data.episodes import EpisodeTable
from collectiverl.types import ABSENT, EnvSpec

STEPS = (1, 2, 5, 10, 20, 50, 100, 200)  # seen, at most those that most episodes have
MOST = 150  # episodes of a task, on each side of the split
FEWEST = 10  # episodes of a task on each side, with which a probe says something
VARIES = 1e-4  # a goal whose deviation is less is the same in all episodes: there is nothing to find out
PENALTIES = np.logspace(-3, 4, 8)  # of the ridge regression, which chooses one by leaving episodes out

Embed = Callable[[EpisodeTable], Float[np.ndarray, "steps Z"]]  # z at every state that has an action


class Course(NamedTuple):
    """One held-out episode, step by step, in the units of the observation."""

    task: str
    hand: Float[np.ndarray, "T G"]
    goal: Float[np.ndarray, "G"]
    decoded: Float[np.ndarray, "T G"]


class _Side(NamedTuple):
    """The episodes of one task on one side of the split."""

    z: list[Float[np.ndarray, "T Z"]]  # of each episode
    goal: Float[np.ndarray, "episodes G"]
    hand: list[Float[np.ndarray, "T G"]]

    def seen(self, steps: int) -> tuple[Float[np.ndarray, "E Z"], Float[np.ndarray, "E G"]]:
        """`z` after so many steps, and the goal, of the episodes that have as many."""
        long = [i for i, z in enumerate(self.z) if len(z) >= steps]
        rows = np.asarray([self.z[i][steps - 1] for i in long]).reshape(len(long), self.z[0].shape[1])
        return rows, self.goal[long]


def probe_goals(
    embed: Embed, training: Sequence[EpisodeTable], validation: Sequence[EpisodeTable], spec: EnvSpec
) -> tuple[dict[str, Any], Course | None]:
    """Median distance between each task's goal and what is decoded of it, on held-out episodes, by steps seen.

    One ridge regression a task and number of steps. `chance` is the distance from the mean of the training goals.
    Distances are in the units of the observation, metres on Meta-World.

    Args:
        embed: reads the tables as the policy does, without the goals that are hidden from it.
        training, validation: one table a task, with their goals.

    Returns:
        `{task: {"chance": ..., "error": {steps: ...}}}` of the tasks whose goal differs between episodes, and an
        episode of the first of them, whose last error is the median; None where there is no such task.
    """
    pairs = [
        tuple(table.subset(range(min(len(table), MOST))) for table in tables)
        for tables in zip(training, validation, strict=True)
        if spec.goal_index and min(map(len, tables)) >= FEWEST
    ]
    numbers: dict[str, Any] = {}
    course = None
    for task, train, held_out in _sides(pairs, embed, spec):
        if train.goal.std(axis=0).max() < VARIES:
            continue
        numbers[task], decoders = _errors(train, held_out)
        course = course or _course(task, held_out, decoders)
    return numbers, course


def _sides(
    pairs: Sequence[tuple[EpisodeTable, ...]], embed: Embed, spec: EnvSpec
) -> Iterator[tuple[str, _Side, _Side]]:
    """Each task with both sides of the split. All are embedded together: one program for all lengths."""
    if not pairs:
        return
    joined = EpisodeTable.join([table for pair in pairs for table in pair])
    z = iter(np.split(embed(joined), np.cumsum(joined.length)[:-1]))
    hand = list(spec.state_index[: len(spec.goal_index)])  # every suite's state begins with what moves
    for pair in pairs:
        sides = []
        for table in pair:
            obs = [episode.obs for episode in table]
            goal = np.asarray([seen[0, list(spec.goal_index)] for seen in obs])
            places = [np.where(seen == ABSENT, np.nan, seen)[:-1, hand] for seen in obs]
            sides.append(_Side([next(z) for _ in obs], goal, places))
        yield pair[0].tasks[0], *sides


def _errors(train: _Side, held_out: _Side) -> tuple[dict[str, Any], Mapping[int, Pipeline]]:
    """By steps seen; and the decoders, by steps seen too."""
    errors, decoders = {}, {}
    for steps in STEPS:
        x, goal = train.seen(steps)
        held_out_x, held_out_goal = held_out.seen(steps)
        if min(len(x), len(held_out_x)) < FEWEST:
            break
        decoders[steps] = make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(x, goal)
        errors[str(steps)] = _median_distance(decoders[steps].predict(held_out_x), held_out_goal)
    chance = _median_distance(train.goal.mean(axis=0), held_out.goal)
    return {"chance": chance, "error": errors}, decoders


def _median_distance(found: Float[np.ndarray, "*E G"], goal: Float[np.ndarray, "E G"]) -> float:
    return float(np.median(np.linalg.norm(found - goal, axis=-1)))


def _course(task: str, side: _Side, decoders: Mapping[int, Pipeline]) -> Course:
    """The episode whose last error is the median; each step is decoded by the probe of the most steps below it."""
    decoded = [_decode(z, decoders) for z in side.z]
    last = [np.linalg.norm(d[-1] - goal) for d, goal in zip(decoded, side.goal, strict=True)]
    i = int(np.argsort(last, kind="stable")[len(last) // 2])
    return Course(task, side.hand[i], side.goal[i], decoded[i])


def _decode(z: Float[np.ndarray, "T Z"], decoders: Mapping[int, Pipeline]) -> Float[np.ndarray, "T G"]:
    seen = np.searchsorted(sorted(decoders), np.arange(1, len(z) + 1), side="right") - 1
    parts = [decoders[steps].predict(z[seen == i]) for i, steps in enumerate(sorted(decoders)) if i in seen]
    return np.concatenate(parts)
