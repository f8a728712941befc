"""Goals: the fixed ones of a task, their split for training and evaluation, and the order in which they are played.

Every task has 50 fixed goals for each seed of goals. Goals are numbered: 0 to 49 are those of seed 0, 50 to 99
those of seed 1, and so on. A goal may also be drawn afresh, and then has no number.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from collectiverl.types import UserError

NUM_GOALS = 50  # of each task and seed, as in Meta-World
MAX_SEEDS = 100  # of goals; a larger number is taken for a typing error
HELD_OUT = 10
FRESH = -1  # stands for the number of a goal that is drawn afresh

GoalSet = Literal["all", "train", "held-out"]
Goals = GoalSet | Literal["fresh"] | Sequence[int]
Order = Literal["random", "sequential"]
GoalTable = Float[np.ndarray, "G K"]  # one row a goal; what a row means is up to the suite


def fixed_goals(draw: Callable[[str, int], GoalTable]) -> Callable[[str, int], GoalTable]:
    """Decorates a suite's function of task and seed that draws the fixed goals.

    They are drawn once, and their number is checked. The table is read-only, because all callers share it.
    """

    @cache
    @wraps(draw)
    def fixed(task: str, seed: int) -> GoalTable:
        table = draw(task, seed)
        if len(table) != NUM_GOALS:
            raise RuntimeError(
                f"{task} has {len(table)} goals for seed {seed}: each task must have {NUM_GOALS}"
            )
        table.flags.writeable = False
        return table

    return fixed


def goal_split() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of the goals to train on and of those held out; the same for every task."""
    order = np.random.default_rng(0).permutation(NUM_GOALS)
    return tuple(sorted(order[HELD_OUT:].tolist())), tuple(sorted(order[:HELD_OUT].tolist()))


def indices(chosen: Goals | str) -> tuple[int, ...]:
    """Numbers of the goals that `chosen` stands for; none if each goal is drawn afresh.

    Raises:
        UserError: a number is out of range, a set is unknown, or nothing is chosen.
    """
    train, held_out = goal_split()
    sets = {"all": tuple(range(NUM_GOALS)), "train": train, "held-out": held_out, "fresh": ()}
    if isinstance(chosen, str):
        if chosen not in sets:
            raise UserError(f"no goal set {chosen!r}: choose one of {', '.join(sets)}, or list goal numbers")
        return sets[chosen]
    listed = tuple(int(goal) for goal in chosen)
    last = NUM_GOALS * MAX_SEEDS - 1
    if not listed or min(listed) < 0 or max(listed) > last:
        raise UserError(
            f"goals {listed} are not one or more numbers from 0 to {last} ({NUM_GOALS} for each seed)"
        )
    return listed


class Goal(NamedTuple):
    number: int  # which of the task's fixed goals; `FRESH`: to be drawn
    row: Float[np.ndarray, "K"] | None  # None: to be drawn


class GoalSequence:
    """Which goal environment `env` of `num_envs` plays next.

    In sequential order, environment `i` of `N` plays goals `i`, `i+N`, `i+2N` and so on of those chosen:
    together the environments play each goal once before any goal twice. In random order, an environment draws
    goals with its own generator. The same generator serves to draw fresh goals.

    Args:
        fixed: the task's fixed goals, by seed of goals.
    """

    def __init__(
        self, fixed: Callable[[int], GoalTable], chosen: Goals, order: Order, env: int = 0, num_envs: int = 1
    ):
        if order not in ("random", "sequential"):
            raise UserError(f"no goal order {order!r}: choose random or sequential")
        self._fixed = fixed
        self._indices = indices(chosen)
        self._sequential = order == "sequential"
        self._first, self._stride = env, num_envs
        self.restart(0)

    def restart(self, seed: int) -> None:
        """Begins the sequence anew."""
        self._position = self._first
        self.generator = np.random.default_rng(seed)

    def next(self) -> Goal:
        if not self._indices:
            return Goal(FRESH, None)
        number = self._indices[self._choose() % len(self._indices)]
        seed, place = divmod(number, NUM_GOALS)
        return Goal(number, self._fixed(seed)[place])

    def _choose(self) -> int:
        if not self._sequential:
            return int(self.generator.integers(len(self._indices)))
        position = self._position
        self._position += self._stride
        return position


def env_seeds(seed: int, num_envs: int, task: str = "") -> list[int]:
    """Independent seeds for the members of a vector: `seed` and `seed + 1`, or two tasks, have none in common."""
    entropy = [seed, zlib.crc32(task.encode())] if task else seed
    return np.random.SeedSequence(entropy).generate_state(num_envs).tolist()
