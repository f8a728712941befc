"""EnvPool's Meta-World, written in C++: several times faster, with a fresh goal in every episode."""

import warnings

import numpy as np
from jaxtyping import Float, Int

from collectiverl.envs.core import StepResult, limited
from collectiverl.envs.goals import FRESH, env_seeds
from collectiverl.envs.metaworld.sawyer import sawyer_spec
from collectiverl.types import EnvSpec, UserError


class EnvpoolVectorEnv:
    """`num_envs` copies of one task on `num_threads` threads.

    Raises:
        UserError: EnvPool is not installed.
    """

    def __init__(self, task: str, num_envs: int, num_threads: int = 1, horizon: int | None = None):
        _library()
        self.spec = limited(sawyer_spec(task), horizon)
        self.num_envs = num_envs
        self.tasks = (task,) * num_envs
        self._num_threads = num_threads
        self._pool = None
        self._done = np.zeros(num_envs, bool)

    def goals(self) -> Int[np.ndarray, "N"]:
        return np.full(self.num_envs, FRESH)

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]:
        """Starts a new pool, since EnvPool seeds a pool only when it is made: about 30 ms an environment."""
        self.close()
        self._pool = _make_pool(self.spec, env_seeds(seed, self.num_envs, self.spec.task), self._num_threads)
        self._done = np.zeros(self.num_envs, bool)
        obs, _ = self._pool.reset()
        return obs.astype(np.float32)

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        if self._pool is None:
            raise RuntimeError("step before reset")
        began = self._done
        clipped = np.clip(action, -1, 1).astype(np.float32)
        obs, reward, terminated, truncated, info = self._pool.step(clipped)
        self._done = terminated | truncated
        return StepResult(
            obs=obs.astype(np.float32),
            reward=np.where(began, 0, reward).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            success=(info["success"] > 0) & ~began,
            began=began,
        )

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
            "EnvPool is not installed: pip install 'collectiverl[envpool]', or use --backend metaworld"
        ) from error
    return envpool


def _make_pool(spec: EnvSpec, seeds: list[int], num_threads: int):
    *words, version = spec.task.split("-")
    return _library().make_gymnasium(
        f"MetaWorld/{''.join(map(str.capitalize, words))}-{version}",
        num_envs=len(seeds),
        seed=[seed >> 1 for seed in seeds],  # EnvPool's seeds are 31 bits
        partially_observable=False,
        max_episode_steps=spec.horizon,
        num_threads=num_threads,
    )
