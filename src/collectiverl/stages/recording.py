"""`record`: episodes of a random policy, of a teacher, or of both, labelled by the teacher."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np

from collectiverl.artifacts import paths
from collectiverl.artifacts.paths import EPISODES
from collectiverl.artifacts.validation import MOST_ENVS, MOST_EPISODES, MOST_STEPS, at_least, at_most
from collectiverl.data.episodes import write
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.envs.rollout import NoisyPolicy, RandomPolicy, episodes
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.flags import Task
from collectiverl.stages.teachers import check_teacher, teacher_inputs, teachers
from collectiverl.types import Episode, Policy, TeachingPolicy


@dataclass(frozen=True, kw_only=True)
class Record:
    """Episodes of one policy in one task.

    `scripted` plays the teacher, which is the scripted policy unless `--teacher` names another. `mixed` plays half of
    the episodes by the random policy and half by the teacher. `mixed-skill` plays the teacher with a share of random
    actions: all are random in the first environment, none in the last.
    """

    task: Task  # a name such as push, or your own as package.module:name
    policy: Literal["random", "scripted", "mixed", "mixed-skill"] = "scripted"  # who plays
    # who is recorded and labels: scripted, sac (the run's expert), shipped, shipped-or-scripted,
    # package.module:function, or a path
    teacher: str = "scripted"
    episodes: int = 20  # episodes in all
    num_envs: int = 5  # environments played side by side
    horizon: int | None = None  # steps of an episode, at most; None: the environment's own limit
    backend: Backend = "auto"  # simulator; auto: EnvPool where it agrees with the suite's own

    def __post_init__(self) -> None:
        check_teacher(self)
        at_least(self, 1, "episodes", "num_envs", "horizon")
        at_most(self, MOST_ENVS, "num_envs")
        at_most(self, MOST_EPISODES, "episodes")
        at_most(self, MOST_STEPS, "horizon")


def record_stage(config: Record, seed: int) -> Stage[Record]:
    return Stage(
        kind="record",
        subject=config.task,
        out=paths.recorded(config.policy, config.task, seed),
        function=record,
        config=config,
        inputs=teacher_inputs(config.teacher, (config.task,), seed),
        seed=seed,
    )


def record(work: Work[Record]) -> dict[str, Any]:
    played = _recorded(work, _teacher(work))
    write(work.folder / EPISODES, played)
    success = [bool(e.success.any()) for e in played]
    return {
        "task": work.config.task,
        "episodes": len(played),
        "env_steps": sum(map(len, played)),
        "success": sum(success) / len(success),
    }


def _teacher(work: Work[Record]) -> TeachingPolicy:
    """A script is taken as it is, also where online distillation has a better labeller."""
    task, teacher = work.config.task, work.config.teacher
    if teacher == "scripted":
        return ScriptedPolicy((task,))
    return teachers(work.run, (task,), teacher, work.seed)[task]


def _recorded(work: Work[Record], teacher: TeachingPolicy) -> list[Episode]:
    """Episodes of `teacher`, of random actions, or of both, labelled by `teacher`."""
    config = work.config
    num_envs = min(config.num_envs, config.episodes)
    shapes = spec(config.task)
    random = RandomPolicy(shapes.action_dim, work.seed, shapes.obs_dim)
    half, skilled = config.episodes // 2, "scripted" if config.teacher == "scripted" else "expert"
    plays: dict[str, list[tuple[str, Policy, int]]] = {
        "random": [("random", random, config.episodes)],
        "scripted": [(skilled, teacher, config.episodes)],
        "mixed": [("random", random, half), (skilled, teacher, config.episodes - half)],
        "mixed-skill": [
            ("mixed", NoisyPolicy(teacher, np.linspace(1, 0, num_envs), work.seed), config.episodes)
        ],
    }
    envs = make_envs(config.task, num_envs, backend=config.backend, goals="fresh", horizon=config.horizon)
    played = []
    with contextlib.closing(envs):
        for phase, policy, wanted in plays[config.policy]:
            for episode in first_episodes(envs, policy, wanted, phase=phase, seed=work.seed):
                played.append(replace(episode, labels=teacher.label(episode.obs[:-1], episode.action)))
                work.report(len(played), config.episodes, phase)
    return played


def first_episodes(
    envs: VectorEnv, policy: Policy, wanted: int, *, phase: str, seed: int
) -> Iterator[Episode]:
    """The first `wanted` episodes, as they end."""
    stream = episodes(envs, policy, per_env=-(-wanted // envs.num_envs), phase=phase, seed=seed)
    return islice(stream, wanted)
