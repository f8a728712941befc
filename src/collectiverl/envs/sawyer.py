"""One Meta-World environment as a Gymnasium environment whose episodes follow from its seed and the actions.

Meta-World's own `reset(seed)` ignores the seed, and its environments carry something from one episode into
the next (positions written into the model, attributes of the reward). Here every episode starts from what
the environment was when it was made, and this module alone sets the goal.
"""

from copy import deepcopy
from functools import cache
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from collectiverl.envs.goals import FRESH, GoalSequence, goals
from collectiverl.types import EnvSpec

EXTRAS = 2  # entries after Meta-World's observation: success at this step, index of the goal
WRITTEN = ("body_pos", "site_pos")  # what the 50 environments' resets write into the MuJoCo model
SHARED = (mujoco.MjModel, mujoco.MjData, gym.Space)  # handles, not state


def make_sawyer(task: str) -> SawyerXYZEnv:
    """Meta-World's environment with its version 2 reward (its default) and an observable goal."""
    env = ALL_V3_ENVIRONMENTS[task](reward_function_version="v2")  # type: ignore[call-arg]
    env._partially_observable = False
    env._set_task_called = True
    del env.sawyer_observation_space  # cached while the goal was hidden
    return env


@cache
def sawyer_spec(task: str) -> EnvSpec:
    env = make_sawyer(task)
    (obs_dim,), (action_dim,) = env.sawyer_observation_space.shape, env.action_space.shape or ()
    goal_dim = env.goal_space.shape[0]  # type: ignore[union-attr]
    frame = (obs_dim - goal_dim) // 2  # this frame, the previous one, the goal
    state = (*range(frame), *range(2 * frame, obs_dim))
    env.close()
    return EnvSpec(task, obs_dim, action_dim, env.max_path_length, state)


class SawyerEnv(gym.Env):
    """Observations are Meta-World's with `EXTRAS` appended, which spares a vector of them the info dicts."""

    def __init__(self, task: str, sequence: GoalSequence):
        self._task, self._sequence = task, sequence
        self._env = make_sawyer(task)
        self._pristine = _Snapshot(self._env)
        size = sawyer_spec(task).obs_dim + EXTRAS
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = self._env.action_space
        self._goal_index = FRESH

    @property
    def mujoco_state(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self._env.model, self._env.data

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            self._sequence.restart(seed)
        self._goal_index = self._sequence.next()
        self._start(self._draw() if self._goal_index == FRESH else goals(self._task)[self._goal_index])
        obs, _ = self._env.reset()
        return self._widen(obs, 0.0), {}

    def step(self, action: np.ndarray):
        obs, reward, terminated, truncated, info = self._env.step(action)
        return self._widen(obs, info["success"]), reward, terminated, truncated, {}

    def close(self) -> None:
        self._env.close()

    def _start(self, rand_vec: np.ndarray) -> None:
        self._pristine.restore(self._env)
        self._env._freeze_rand_vec = True
        self._env._last_rand_vec = rand_vec.copy()

    def _draw(self) -> np.ndarray:
        """A goal from the task's distribution; `reset_model` draws until the task's constraint holds."""
        self._pristine.restore(self._env)
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = False, True
        self._env.np_random = self._sequence.generator
        self._env.reset_model()
        drawn = self._env._last_rand_vec
        assert drawn is not None
        return drawn

    def _widen(self, obs: np.ndarray, success: float) -> np.ndarray:
        return np.append(obs, (success, self._goal_index))


class _Snapshot:
    """An environment's attributes, and the model fields it writes, at the time the snapshot is taken."""

    def __init__(self, env: SawyerXYZEnv):
        self._attributes = {k: v for k, v in vars(env).items() if not isinstance(v, SHARED)}
        self._model = {field: getattr(env.model, field).copy() for field in WRITTEN}

    def restore(self, env: SawyerXYZEnv) -> None:
        kept = {k: v for k, v in vars(env).items() if isinstance(v, SHARED)}
        vars(env).clear()
        vars(env).update(kept)
        vars(env).update({k: _owned(v) for k, v in self._attributes.items()})
        for field, value in self._model.items():
            getattr(env.model, field)[:] = value


def _owned(value: Any) -> Any:
    """A copy of what an episode could change in place; views of the simulator's memory stay views."""
    if isinstance(value, dict) or (isinstance(value, np.ndarray) and value.base is None):
        return deepcopy(value)
    return value
