"""EnvPool's copy of a simulator, written in C++: faster, with a fresh goal in every episode."""

import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult
from collectiverl.envs.goals import FRESH, env_seeds
from collectiverl.types import EnvSpec, UserError


class EnvpoolVectorEnv:
    """`num_envs` copies of one task on `num_threads` threads.

    Args:
        name: of the environment in EnvPool.
        success: the entry of `info` that is positive where the task is solved.
        options: of EnvPool's environment.

    Raises:
        UserError: EnvPool is not installed.
    """

    def __init__(
        self, spec: EnvSpec, name: str, num_envs: int, num_threads: int = 1, *, success: str, **options: Any
    ):
        _library()
        self.spec, self.num_envs, self.tasks = spec, num_envs, (spec.task,) * num_envs
        self._name, self._success = name, success
        self._options = {"num_threads": num_threads, **options}
        self._pool = None
        self._restart()

    def _restart(self) -> None:
        self._done = np.zeros(self.num_envs, bool)
        self._playing = np.arange(self.num_envs, dtype=np.int32)

    def read(self, obs: Any) -> Float[np.ndarray, "N O"]:
        """EnvPool's observations as the suite's."""
        return obs.astype(np.float32)

    def goals(self) -> Int[np.ndarray, "N"]:
        return np.full(self.num_envs, FRESH)

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]:
        """Starts a new pool, since EnvPool seeds a pool only when it is made: about 30 ms an environment."""
        self.close()
        seeds = env_seeds(seed, self.num_envs, self.spec.task)
        self._pool = _library().make_gymnasium(
            self._name,
            num_envs=self.num_envs,
            seed=[seed >> 1 for seed in seeds],  # EnvPool's seeds are 31 bits
            max_episode_steps=self.spec.horizon,
            **self._options,
        )
        self._restart()
        obs, _ = self._pool.reset()
        self._obs = self.read(obs)
        return self._obs.copy()

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        self.step_async(action)
        return self.step_wait()

    def step_async(self, action: Float[np.ndarray, "N A"]) -> None:
        if self._pool is None:
            raise RuntimeError("step before reset")
        if len(self._playing):
            clipped = np.clip(action[self._playing], -1, 1).astype(np.float32)
            self._pool.send(clipped, self._playing)

    def step_wait(self) -> StepResult:
        if self._pool is None:
            raise RuntimeError("step before reset")
        result = StepResult(
            self._obs.copy(), np.zeros(self.num_envs, np.float32), *np.zeros((4, self.num_envs), bool)
        )
        if len(self._playing):
            self._fill(result, *self._pool.recv())
        self._obs, self._done = result.obs.copy(), result.done
        return result

    def _fill(
        self, result: StepResult, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any
    ) -> None:
        """Writes what EnvPool returned for those that play."""
        rows, began = self._playing, self._done[self._playing]
        result.obs[rows] = self.read(obs)
        result.reward[rows] = np.where(began, 0, reward)
        result.terminated[rows], result.truncated[rows] = terminated, truncated
        result.success[rows] = (info[self._success] > 0) & ~began
        result.began[rows] = began

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        self._playing = self._playing[~over[self._playing]]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _library():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # users cannot fix the deprecated calls of its dependencies
            import envpool
    except ImportError as error:
        raise UserError(
            "EnvPool is not installed: pip install 'collectiverl[envpool]', or use --backend reference"
        ) from error
    return envpool


def uses_envpool(backend: str, goals: Any, *, fits: bool) -> bool:
    """Whether EnvPool plays a task; `fits`: its copy of the task agrees with the original.

    Raises:
        UserError: it is asked for fixed goals.
    """
    fresh = goals == "fresh"
    if backend == "envpool" and not fresh:
        raise UserError(
            f"EnvPool draws a fresh goal in every episode and cannot play goals {goals!r}: "
            "use --goals fresh, or --backend reference"
        )
    return backend == "envpool" or (backend == "auto" and fresh and fits and find_spec("envpool") is not None)
