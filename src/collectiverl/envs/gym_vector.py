"""Gymnasium environments as a vector, in this process or in a process each.

Automatic resets are Gymnasium's (`AutoresetMode.NEXT_STEP`), whose rules are those of `VectorEnv`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult
from collectiverl.envs.goals import FRESH, env_seeds
from collectiverl.types import EnvSpec

EXTRAS = 2  # entries behind an observation: success at this step, number of the goal


def widen(obs: Float[np.ndarray, "O"], success: float, goal: int) -> Float[np.ndarray, "O+2"]:
    """An observation and its `EXTRAS`, so that a vector of environments needs no info dicts."""
    return np.append(obs, (success, goal))


class Leaving(gym.Wrapper):
    """An environment that can be left behind until it is reset with a seed: it then repeats its last observation."""

    left = False
    last: np.ndarray

    def leave(self) -> None:
        if not self.left:
            self.left, self.last = True, widen(self.last[:-EXTRAS], 0.0, int(self.last[-1]))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self.left = self.left and seed is None  # without a seed, it is an automatic reset
        if not self.left:
            self.last, _ = self.env.reset(seed=seed, options=options)
        return self.last, {}

    def step(self, action: Any):
        if self.left:
            return self.last, 0.0, False, False, {}
        self.last, reward, terminated, truncated, info = self.env.step(action)
        return self.last, reward, terminated, truncated, info


def _leaving(maker: Callable[[], gym.Env]) -> gym.Env:
    return Leaving(maker())


class GymVectorEnv:
    """Copies of one task, whose observations `makers` widen by `EXTRAS`."""

    def __init__(self, spec: EnvSpec, makers: Sequence[Callable[[], gym.Env]], processes: bool = False):
        self.spec, self.num_envs = spec, len(makers)
        self.tasks = (spec.task,) * self.num_envs
        vector: Any = AsyncVectorEnv if processes else SyncVectorEnv
        if not processes:
            makers = [partial(_leaving, maker) for maker in makers]
        options = {"context": "spawn"} if processes else {}  # forking a process that runs JAX may hang
        self._envs: SyncVectorEnv | AsyncVectorEnv = vector(
            makers, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP, **options
        )
        self._done = np.zeros(self.num_envs, bool)
        self._goal_index = np.full(self.num_envs, FRESH)

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._goal_index.copy()

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]:
        wide, _ = self._envs.reset(seed=[*env_seeds(seed, self.num_envs, self.spec.task)])
        self._done = np.zeros(self.num_envs, bool)
        return self._narrow(wide)

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        began = self._done
        wide, reward, terminated, truncated, _ = self._envs.step(np.clip(action, -1, 1))
        self._done = terminated | truncated
        return StepResult(
            obs=self._narrow(wide),
            reward=reward.astype(np.float32),
            terminated=terminated.copy(),
            truncated=truncated.copy(),
            success=wide[:, self.spec.obs_dim] > 0,
            began=began,
        )

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        """As `Leavable.leave`; environments in processes of their own play on."""
        if isinstance(self._envs, SyncVectorEnv):
            for i in np.flatnonzero(over):
                env = self._envs.envs[i]
                assert isinstance(env, Leaving)
                env.leave()
            self._done &= ~over

    def member(self, i: int) -> Any:
        """Environment `i`, to be drawn. The environments must be in this process."""
        if not isinstance(self._envs, SyncVectorEnv):
            raise ValueError("environments in processes of their own cannot be rendered: use processes=False")
        return self._envs.envs[i].unwrapped

    def close(self) -> None:
        self._envs.close()

    def _narrow(self, wide: np.ndarray) -> Float[np.ndarray, "N O"]:
        self._goal_index = wide[:, -1].astype(int)
        return wide[:, : self.spec.obs_dim].astype(np.float32)
