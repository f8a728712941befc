"""Several vectors of environments as one, so that several tasks are played side by side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult, ThreadedVectorEnv, VectorEnv, leave
from collectiverl.envs.goals import env_seeds
from collectiverl.types import EnvSpec


class Concatenated:
    """The environments of all `members`, in their order. Their tasks may differ, their shapes must not.

    The time limit of `spec` is the longest of theirs.
    """

    def __init__(self, members: Sequence[VectorEnv]):
        first, *others = [member.spec for member in members]
        for other in others:
            if not same_shape(first, other):
                raise ValueError(f"{other.task} and {first.task} differ in shape: {other} and {first}")
        self._members: list[Any] = list(members)
        self._in_threads = [isinstance(member, ThreadedVectorEnv) for member in members]
        self._bounds = np.cumsum([member.num_envs for member in members])[:-1]
        self.spec = replace(first, horizon=max(member.spec.horizon for member in members))
        self.num_envs = sum(member.num_envs for member in members)
        self.tasks = tuple(task for member in members for task in member.tasks)

    def goals(self) -> Int[np.ndarray, "N"]:
        return np.concatenate([member.goals() for member in self._members])

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]:
        seeds = env_seeds(seed, len(self._members))
        return np.concatenate([m.reset(s) for m, s in zip(self._members, seeds, strict=True)])

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        """Members with threads of their own step at the same time."""
        pairs = list(zip(self._members, np.split(action, self._bounds), self._in_threads, strict=True))
        for member, part, in_threads in pairs:
            if in_threads:
                member.step_async(part)
        results = [m.step_wait() if in_threads else m.step(part) for m, part, in_threads in pairs]
        return StepResult(*map(np.concatenate, zip(*results, strict=True)))

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        """As `Leavable.leave`, in the members that can."""
        for member, part in zip(self._members, np.split(over, self._bounds), strict=True):
            leave(member, part)

    def close(self) -> None:
        for member in self._members:
            member.close()


def same_shape(one: EnvSpec, other: EnvSpec) -> bool:
    """Whether environments of both can be played side by side."""
    first, second = (
        (spec.obs_dim, spec.action_dim, spec.state_index, spec.goal_index) for spec in (one, other)
    )
    return first == second
