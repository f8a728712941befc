"""One layout of observations for tasks whose states differ in length, so that one network reads them all.

An observation is the state's entries, then the goal's. In the joint layout the entries that a task does not have stand
between the two and are `ABSENT`. This marks them wherever observations go: they are left out of statistics, and
every network reads them as zero (`representation.scales`).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult, VectorEnv, leave
from collectiverl.types import ABSENT, EnvSpec, Labels, TeachingPolicy, UserError


def joint_spec(specs: Sequence[EnvSpec]) -> EnvSpec:
    """The layout in which tasks of these specs are played together: that of each, if all are alike.

    Raises:
        UserError: they differ in their actions or in the length of their goals, or their entries are in another order.
    """
    widest = max(specs, key=lambda spec: spec.obs_dim)
    for other in specs:
        if why := _misfit(other, widest):
            raise UserError(f"{other.task} and {widest.task} cannot share one policy: {why}")
    if all(_entries(spec) == _entries(widest) for spec in specs):
        return specs[0]
    longest = max(spec.horizon for spec in specs)
    return replace(widest, task=specs[0].task, horizon=longest, points=())  # entries of several meanings


def fits(spec: EnvSpec, layout: EnvSpec) -> bool:
    """Whether a task's observations can be laid out so."""
    return spec.obs_dim <= layout.obs_dim and not _misfit(spec, layout)


def _misfit(one: EnvSpec, other: EnvSpec) -> str:
    """Why two tasks cannot be played by one policy; "": they can."""
    if one.action_dim != other.action_dim:
        return f"they have {one.action_dim} and {other.action_dim} actions"
    if _entries(one) == _entries(other):
        return ""
    if len(one.goal_index) != len(other.goal_index):
        return f"their goals have {len(one.goal_index)} and {len(other.goal_index)} entries"
    if not (_is_state_then_goal(one) and _is_state_then_goal(other)):
        return "their observations differ, and are not a state and then a goal"
    return ""


def _entries(spec: EnvSpec) -> tuple:
    return spec.obs_dim, spec.state_index, spec.goal_index


def _is_state_then_goal(spec: EnvSpec) -> bool:
    every = tuple(range(spec.obs_dim))
    return spec.state_index == every and spec.goal_index == every[spec.obs_dim - len(spec.goal_index) :]


def lay_out(obs: Float[np.ndarray, "*N O"], layout: EnvSpec) -> Float[np.ndarray, "*N L"]:
    """Observations of a task in a layout that it fits."""
    missing = layout.obs_dim - obs.shape[-1]
    if not missing:
        return obs
    state = obs.shape[-1] - len(layout.goal_index)
    absent = np.full((*obs.shape[:-1], missing), ABSENT, obs.dtype)
    return np.concatenate([obs[..., :state], absent, obs[..., state:]], axis=-1)


def own_entries(spec: EnvSpec, layout: EnvSpec) -> Int[np.ndarray, "O"]:
    """The entries of the layout that are a task's own, in its order."""
    goal = len(layout.goal_index)
    state = np.arange(spec.obs_dim - goal)
    return np.concatenate([state, np.arange(layout.obs_dim - goal, layout.obs_dim)])


class LaidOut:
    """The environments of `envs` in a wider layout."""

    def __init__(self, envs: VectorEnv, layout: EnvSpec):
        self._envs, self._layout = envs, layout
        self.num_envs, self.tasks = envs.num_envs, envs.tasks
        self.spec = replace(layout, task=envs.spec.task, horizon=envs.spec.horizon)

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._envs.goals()

    def reset(self, seed: int) -> Float[np.ndarray, "N L"]:
        return lay_out(self._envs.reset(seed), self._layout)

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        result = self._envs.step(action)
        return result._replace(obs=lay_out(result.obs, self._layout))

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        leave(self._envs, over)

    def close(self) -> None:
        self._envs.close()


class OwnEntries:
    """A teacher of one task who is shown observations in a wider layout, and reads its own entries of them."""

    def __init__(self, teacher: TeachingPolicy, spec: EnvSpec, layout: EnvSpec):
        self._teacher, self._index = teacher, own_entries(spec, layout)

    def eval_action(self, observations: Float[np.ndarray, "N L"]) -> Float[np.ndarray, "N A"]:
        return self._teacher.eval_action(observations[:, self._index])

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self._teacher.reset(env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self._teacher.observe(rewards)

    def label(self, obs: Float[np.ndarray, "T L"], action: Float[np.ndarray, "T A"]) -> Labels:
        return self._teacher.label(obs[:, self._index], action)
