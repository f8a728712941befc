"""Environments, their shapes and their goals, by the canonical name of a task (see `tasks.canonical`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from collectiverl.envs.core import VectorEnv
from collectiverl.envs.goals import Goals, Order
from collectiverl.envs.hidden import HiddenGoals
from collectiverl.envs.layout import LaidOut, joint_spec, lay_out
from collectiverl.envs.registry import suite_of
from collectiverl.envs.suite import Backend, EnvOptions
from collectiverl.types import EnvSpec

__all__ = ["Backend", "goals", "layout_of", "make_envs", "spec"]


def spec(task: str) -> EnvSpec:
    """Sizes of the task's environment, and what the entries of its observations are."""
    return suite_of(task).spec(task)


def layout_of(tasks: Sequence[str]) -> EnvSpec:
    """The layout in which these tasks are played by one policy: that of each, or a joint one (`envs.layout`).

    Raises:
        UserError: one policy cannot play them all.
    """
    return joint_spec([spec(task) for task in tasks])


def goals(task: str, seed: int = 0) -> Float[np.ndarray, "G K"]:
    """The task's fixed goals of a seed, one row each; read-only. What a row means is up to the suite."""
    return suite_of(task).goals(task, seed)


def make_envs(
    task: str,
    num_envs: int,
    *,
    backend: Backend = "auto",
    goals: Goals = "all",
    order: Order = "random",
    num_threads: int = 1,
    processes: bool = False,
    horizon: int | None = None,
    goals_hidden: bool = False,
    drawn: bool = False,
    layout: EnvSpec | None = None,
) -> VectorEnv:
    """`num_envs` environments of `task`.

    Args:
        backend: `auto` takes EnvPool where it is installed, agrees with the suite's own simulator on the task,
            and fresh goals are asked for, since it plays no others. `reference` takes the suite's own simulator.
        goals: those that are played: a set of fixed goals, a list of their numbers, or fresh ones.
        order: in which fixed goals are played.
        num_threads: of EnvPool.
        processes: gives each environment of the reference simulator a process of its own.
        horizon: ends episodes sooner than the task's own time limit.
        goals_hidden: the goal's entries of the observations are zero.
        drawn: a scene of the suite will draw them.
        layout: of the observations, if that is wider than the task's own.

    Raises:
        UserError: EnvPool is asked for what it cannot do, or is not installed.
    """
    options = EnvOptions(
        backend=backend,
        goals=goals,
        order=order,
        num_threads=num_threads,
        processes=processes,
        horizon=horizon,
        drawn=drawn,
    )
    envs = suite_of(task).make(task, num_envs, options)
    if layout and layout.obs_dim != envs.spec.obs_dim:
        envs = LaidOut(envs, layout)
    return HiddenGoals(envs) if goals_hidden else envs


def laid_out(observations: Any, layout: EnvSpec, tasks: Sequence[str]) -> Any:
    """Observations that are one of the tasks' own, in the layout of all; anything else as it is."""
    if not isinstance(observations, np.ndarray) or observations.ndim != 2:
        return observations
    width = observations.shape[1]
    if width == layout.obs_dim or width not in {spec(task).obs_dim for task in tasks}:
        return observations
    return lay_out(observations, layout)
