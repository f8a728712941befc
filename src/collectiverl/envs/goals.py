"""Goals: the fixed ones of every task, their split for training and evaluation, and the order of play.

Meta-World draws a task's 50 goals from a seed. Numbers 0 to 49 are those of seed 0, 50 to 99 those of seed 1,
and so on.
"""

import pickle
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from collectiverl.envs.tasks import TOY_TASKS, is_toy
from collectiverl.types import UserError

NUM_GOALS = 50  # Meta-World's own number; checked where its goals are made
MAX_SEEDS = 100  # of goals; more would be a slip of the pen
HELD_OUT = 10
FRESH = -1  # the index of a goal drawn afresh

GoalSet = Literal["all", "train", "held-out"]
Goals = GoalSet | Literal["fresh"] | Sequence[int]
Order = Literal["random", "sequential"]


@cache
def goals(task: str, seed: int = 0) -> Float[np.ndarray, "G K"]:
    """The task's fixed goals, one row each: what Meta-World's `MT1(task, seed)` would play.

    A row is Meta-World's `rand_vec` (metres; where the object and the goal are), or for a toy task the
    start and the goal. Read-only, since the cache hands the same array to all.
    """
    rows = _toy_goals(task, seed) if is_toy(task) else _metaworld_goals(task, seed)
    if len(rows) != NUM_GOALS:
        raise RuntimeError(f"{task} has {len(rows)} goals, not {NUM_GOALS}: an unknown Meta-World version")
    rows.flags.writeable = False
    return rows


def goal_split() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the goals to train on and of those held out; the same for every task."""
    order = np.random.default_rng(0).permutation(NUM_GOALS)
    return tuple(sorted(order[HELD_OUT:].tolist())), tuple(sorted(order[:HELD_OUT].tolist()))


def indices(chosen: Goals | str) -> tuple[int, ...]:
    """Goal indices that `chosen` stands for; none if each goal is drawn afresh.

    Raises:
        UserError: an index is out of range, a set is unknown, or nothing is chosen.
    """
    train, held_out = goal_split()
    sets = {"all": tuple(range(NUM_GOALS)), "train": train, "held-out": held_out, "fresh": ()}
    if isinstance(chosen, str):
        if chosen not in sets:
            raise UserError(f"no goal set {chosen!r}: choose one of {', '.join(sets)}, or list goal indices")
        return sets[chosen]
    listed = tuple(int(goal) for goal in chosen)
    if not listed or min(listed) < 0 or max(listed) >= NUM_GOALS * MAX_SEEDS:
        raise UserError(
            f"goals {listed} must be one or more of 0 to {NUM_GOALS - 1}, or {NUM_GOALS} more a seed of goals"
        )
    return listed


class Goal(NamedTuple):
    number: int  # which of the task's fixed goals; `FRESH`: to be drawn
    row: Float[np.ndarray, "K"] | None  # None: to be drawn


class GoalSequence:
    """Which goal environment `env` of `num_envs` plays next.

    In order, environment `i` of `N` plays the `i`-th goal, then the `i+N`-th and so on, so that together
    they play each goal once before any twice. At random, it draws from its own generator, which also serves
    to draw fresh goals.
    """

    def __init__(self, task: str, chosen: Goals, order: Order, env: int = 0, num_envs: int = 1):
        if order not in ("random", "sequential"):
            raise UserError(f"no goal order {order!r}: choose random or sequential")
        self._indices = indices(chosen)
        self._task = task
        self._sequential = order == "sequential"
        self._first, self._stride = env, num_envs
        self.restart(0)

    def restart(self, seed: int) -> None:
        self._position = self._first
        self.generator = np.random.default_rng(seed)

    def next(self) -> Goal:
        if not self._indices:
            return Goal(FRESH, None)
        number = self._indices[self._choose() % len(self._indices)]
        seed, place = divmod(number, NUM_GOALS)
        return Goal(number, goals(self._task, seed)[place])

    def _choose(self) -> int:
        if not self._sequential:
            return int(self.generator.integers(len(self._indices)))
        position = self._position
        self._position += self._stride
        return position


def env_seeds(seed: int, num_envs: int) -> list[int]:
    """Unrelated seeds for the members of a vector: `seed` and `seed + 1` share none."""
    return np.random.SeedSequence(seed).generate_state(num_envs).tolist()


def _toy_goals(task: str, seed: int) -> Float[np.ndarray, "G 4"]:
    return np.random.default_rng([seed, TOY_TASKS.index(task)]).uniform(-1, 1, (NUM_GOALS, 4))


def _metaworld_goals(task: str, seed: int) -> Float[np.ndarray, "G K"]:
    import metaworld  # here, because it takes most of a second and the toy tasks do without

    # The bytes were pickled by Meta-World a moment ago in this process: no file is read.
    made = metaworld.MT1(task, seed=seed).train_tasks
    return np.stack([pickle.loads(one.data)["rand_vec"] for one in made])
