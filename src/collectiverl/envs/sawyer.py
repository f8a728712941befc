"""One Meta-World environment as a Gymnasium environment whose episodes follow from its seed and the actions.

Meta-World's own `reset(seed)` ignores the seed, and leaves the choice of a goal to wrappers of its own. Here
the goal is set at every reset. Once it is, nothing of earlier episodes is left: Meta-World resets twice, and
the second time everything the first wrote into the model is already that goal's (tests hold it to that).
"""

from functools import cache
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from collectiverl.envs.goals import FRESH, GoalSequence
from collectiverl.types import EnvSpec

if TYPE_CHECKING:
    from mujoco._structs import MjData, MjModel  # where type checkers find them

HAND, FIRST_OBJECT, SECOND_OBJECT = (0, 1, 2), (4, 5, 6), (11, 12, 13)  # positions in a frame
MOVING = (0, 1, 2)  # of the action; the last entry is the gripper's
EXTRAS = 2  # entries after Meta-World's observation: success at this step, index of the goal


def make_sawyer(task: str) -> SawyerXYZEnv:
    """Meta-World's environment with its version 2 reward (its default) and an observable goal."""
    env = ALL_V3_ENVIRONMENTS[task](reward_function_version="v2")
    env._partially_observable = False
    env._set_task_called = True
    del env.sawyer_observation_space  # cached while the goal was hidden
    return env


@cache
def sawyer_spec(task: str) -> EnvSpec:
    """Shapes of the task's environment: this frame, the previous one, the goal."""
    env = make_sawyer(task)
    env.close()
    assert env.goal_space is not None
    obs_dim, goal_dim = env.sawyer_observation_space.shape[0], env.goal_space.shape[0]
    frame = (obs_dim - goal_dim) // 2
    return EnvSpec(
        task=task,
        obs_dim=obs_dim,
        action_dim=gym.spaces.flatdim(env.action_space),
        horizon=env.max_path_length,
        state_index=(*range(frame), *range(2 * frame, obs_dim)),
        goal_index=tuple(range(2 * frame, obs_dim)),
        points=(HAND, FIRST_OBJECT, SECOND_OBJECT, tuple(range(frame, frame + goal_dim))),
        moving_index=MOVING,
    )


class SawyerEnv(gym.Env):
    """Observations are Meta-World's with `EXTRAS` appended, which spares a vector of them the info dicts."""

    def __init__(self, task: str, sequence: GoalSequence, horizon: int):
        self._sequence = sequence
        self._env = make_sawyer(task)
        self._env.max_path_length = horizon  # where Meta-World truncates
        self._goal_index = FRESH
        size = self._env.sawyer_observation_space.shape[0] + EXTRAS
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = self._env.action_space

    @property
    def mujoco_state(self) -> "tuple[MjModel, MjData]":
        return self._env.model, self._env.data

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begins the sequence's next episode; with a seed, the sequence starts over."""
        if seed is not None:
            self._sequence.restart(seed)
        self._goal_index, row = self._sequence.next()
        self._env._last_rand_vec = self._draw() if row is None else row.copy()
        self._env._freeze_rand_vec = True
        obs, _ = self._env.reset()
        return self._widen(obs, 0.0), {}

    def step(self, action: Float[np.ndarray, "A"]):
        obs, reward, terminated, truncated, info = self._env.step(action)
        return self._widen(obs, info["success"]), reward, terminated, truncated, {}

    def close(self) -> None:
        self._env.close()

    def _draw(self) -> Float[np.ndarray, "K"]:
        """A goal from the task's distribution; `reset_model` draws until the task's constraint holds."""
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = False, True
        self._env.np_random = self._sequence.generator
        self._env.reset_model()
        assert self._env._last_rand_vec is not None
        return self._env._last_rand_vec

    def _widen(self, obs: Float[np.ndarray, "O"], success: float) -> Float[np.ndarray, "O+2"]:
        return np.append(obs, (success, self._goal_index))
