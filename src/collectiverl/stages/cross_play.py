"""`cross-play`: which tasks begin alike, and whose expert labels them.

Experts of tasks that nobody can tell apart at first label one input differently, and whoever learns from both averages
them. So each of these experts also plays the others' tasks, and one that plays all of them as well as each task's own
does labels all.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from collectiverl.artifacts.paths import CROSS_PLAY
from collectiverl.artifacts.validation import MOST_EPISODES, MOST_STEPS, at_least, at_most
from collectiverl.collective.playing import play_together
from collectiverl.envs.concat import same_shape
from collectiverl.envs.make import Backend, layout_of, make_envs, spec
from collectiverl.envs.rollout import RandomPolicy, episodes
from collectiverl.stages.base import Stage, Work, subject_of
from collectiverl.stages.flags import Tasks
from collectiverl.stages.teachers import check_teacher, each_teacher, seeing, teacher_inputs
from collectiverl.types import ABSENT, Episode, Policy

# share of first observations that look most like the other task's; of equal tasks, half do. In MT50 eleven pairs share
# 0.125 and more, no other more than 0.055, with either of two seeds
CONFUSED = 0.1
AS_WELL = 0.05  # success that an expert may lack in another's task
NUM_ENVS = 100  # environments alive at once, at most
SEEN, SEEN_AT_ONCE = 100, 10  # first observations of a task, and environments that show them


@dataclass(frozen=True, kw_only=True)
class CrossPlay:
    """Let experts of tasks that begin alike play each other's tasks, and choose who labels them."""

    tasks: Tasks  # tasks or benchmarks
    # who teaches: sac (the run's experts), scripted, shipped, shipped-or-scripted, package.module:function,
    # or a path with {task}
    teacher: str = "sac"
    episodes: int = 20  # of each expert in each task, with fresh goals
    horizon: int | None = 200  # steps of an episode, at most; None: the environment's own limit
    # who learns does not see the goals, so that they tell no tasks apart; experts see them
    goals_hidden: bool = False
    backend: Backend = "auto"  # simulator; auto: EnvPool where it agrees with the suite's own

    def __post_init__(self) -> None:
        check_teacher(self)
        at_least(self, 2, "episodes")
        at_least(self, 1, "horizon")
        at_most(self, MOST_EPISODES, "episodes")
        at_most(self, MOST_STEPS, "horizon")


def cross_play_stage(config: CrossPlay, seed: int) -> Stage[CrossPlay]:
    return Stage(
        kind="cross-play",
        subject=subject_of(config.tasks),
        out=CROSS_PLAY,
        function=cross_play,
        config=config,
        inputs=teacher_inputs(config.teacher, config.tasks, seed),
        seed=seed,
    )


def cross_play(work: Work[CrossPlay]) -> dict[str, Any]:
    """The groups of tasks that begin alike, what every expert does in them, and who labels each task."""
    config = work.config
    play = _Playing(work)
    seen = {task: play.first_observations(task) for task in config.tasks}
    confused = {pair: share for pair, share in confusions(seen).items() if same_shape(*map(spec, pair))}
    groups = alike(config.tasks, confused)
    play.more(sum(len(group) ** 2 for group in groups))
    found, labeller = [], {task: task for task in config.tasks}
    for group in groups:
        played = {(e, task): play(e, task, config.horizon) for e in group for task in group}
        success_any = _table(group, played, lambda e: bool(e.success.any()))
        success_last = _table(group, played, lambda e: bool(e.success[-1]))
        chosen = labellers(success_any, success_last)
        labeller |= {task: group[e] for task, e in zip(group, chosen, strict=True)}
        found.append(
            {"tasks": list(group), "success_any": success_any.tolist(), "success_last": success_last.tolist()}
        )
    return {
        "tasks": list(config.tasks),
        "episodes": config.episodes,
        "confused": [[one, other, share] for (one, other), share in confused.items()],
        "groups": found,
        "labeller": labeller,
    }


class _Playing:
    """Episodes of one task's expert in another task, with the same goals for every expert."""

    def __init__(self, work: Work[CrossPlay]):
        self.work, config = work, work.config
        self.layout = layout_of(config.tasks)
        self.experts = seeing(each_teacher(work.run, config.tasks, config.teacher, work.seed), self.layout)
        self.done, self.wanted = 0, len(config.tasks)

    def more(self, count: int) -> None:
        """So often it will be called beside once for each task."""
        self.wanted += count

    def __call__(self, expert: str, task: str, horizon: int | None) -> list[Episode]:
        config = self.work.config
        make = partial(make_envs, backend=config.backend, goals="fresh", horizon=horizon, layout=self.layout)

        def policy(tasks: Sequence[str], seed: int) -> Policy:
            return self.experts[expert]

        wanted = {task: config.episodes}
        parts = play_together(make, wanted, NUM_ENVS, policy, phase="expert", seed=self.work.seed)
        played = [episode for part in parts for episode in part]
        self._tell(f"{expert} in {task}")
        return played

    def first_observations(self, task: str) -> Float[np.ndarray, "E O"]:
        """What can be seen before anybody has acted: what comes later also tells whose expert acts."""
        layout, seed = self.layout, self.work.seed
        make = partial(make_envs, backend=self.work.config.backend, goals="fresh", horizon=1, layout=layout)
        anybody = RandomPolicy(layout.action_dim, seed, layout.obs_dim)
        with contextlib.closing(make(task, SEEN_AT_ONCE)) as envs:
            stream = episodes(envs, anybody, per_env=SEEN // SEEN_AT_ONCE, phase="random", seed=seed)
            found = np.stack([e.obs[0] for e in stream])
        found[found == ABSENT] = 0
        if self.work.config.goals_hidden:
            found[:, list(layout.goal_index)] = 0
        self._tell(f"beginnings of {task}")
        return found

    def _tell(self, what: str) -> None:
        self.done += 1
        self.work.report(self.done, self.wanted, what)


def _table(
    group: Sequence[str], played: Mapping[tuple[str, str], list[Episode]], won: Callable[[Episode], bool]
) -> Float[np.ndarray, "K K"]:
    """The share of episodes that are won: a row for each expert, a column for each task."""
    return np.array([[np.mean([won(e) for e in played[expert, task]]) for task in group] for expert in group])


# -- who looks like whom -----------------------------------------------------------------------------------


def confusions(seen: Mapping[str, Float[np.ndarray, "E O"]]) -> dict[tuple[str, str], float]:
    """For each two tasks, the share of their observations whose nearest neighbour among both is of the other task.

    Every entry counts by its deviation over all tasks; entries that are the same in all say nothing.
    """
    deviation = np.concatenate(list(seen.values())).std(0)
    told = deviation > 1e-6
    scaled = {task: (x[:, told] / deviation[told]).astype(np.float64) for task, x in seen.items()}
    return {(a, b): _mixed(scaled[a], scaled[b]) for a, b in combinations(scaled, 2)}


def _mixed(one: Float[np.ndarray, "E O"], other: Float[np.ndarray, "E O"]) -> float:
    every = np.concatenate([one, other])
    is_one = np.arange(len(every)) < len(one)
    distance = ((every[:, None] - every[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    return float(np.mean(is_one[distance.argmin(1)] != is_one))


def alike(tasks: Sequence[str], confused: Mapping[tuple[str, str], float]) -> list[tuple[str, ...]]:
    """Groups of two tasks and more in which each task is confused with another; in the order of `tasks`."""
    group = {task: {task} for task in tasks}
    for (one, other), share in confused.items():
        if share >= CONFUSED:
            together = group[one] | group[other]
            group |= dict.fromkeys(together, together)
    found = {id(g): g for g in group.values() if len(g) > 1}
    return [tuple(task for task in tasks if task in g) for g in found.values()]


def labellers(success_any: Float[np.ndarray, "K K"], success_last: Float[np.ndarray, "K K"]) -> list[int]:
    """Which expert of a group labels each of its tasks; rows are experts, columns tasks.

    An expert may label a task in which it succeeds about as often as the task's own. The one that may label most
    tasks labels them; of equals, the one with the most success in these at the last step. So it goes on with the
    tasks left.
    """
    as_well = success_any >= np.diag(success_any) - AS_WELL - 1e-9
    left, chosen = set(range(len(as_well))), {}
    while left:
        covered = {e: [task for task in sorted(left) if as_well[e, task]] for e in sorted(left)}
        best = max(covered, key=lambda e: (len(covered[e]), success_last[e, covered[e]].mean()))
        chosen |= dict.fromkeys(covered[best], best)
        left -= set(covered[best])
    return [chosen[task] for task in range(len(as_well))]
