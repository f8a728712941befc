"""One Meta-World environment as a Gymnasium environment whose episodes depend on its seed and the actions alone.

Meta-World's own `reset(seed)` ignores the seed and leaves the choice of a goal to its wrappers. Here the goal is set
at every reset. Afterwards nothing of earlier episodes is left: Meta-World resets twice, so that at the second reset
the model already has the new goal (`tests/test_envs.py` checks this).
"""

import pickle
from copy import copy
from functools import cache, lru_cache
from typing import Any

import gymnasium as gym
import metaworld
import numpy as np
from jaxtyping import Float
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from mujoco._specs import MjSpec
from mujoco._structs import MjData, MjModel  # where type checkers find them

from collectiverl.envs.goals import FRESH, GoalSequence, fixed_goals
from collectiverl.envs.gym_vector import EXTRAS, widen
from collectiverl.envs.metaworld.assets import SEEN
from collectiverl.types import EnvSpec

HAND, FIRST_OBJECT, SECOND_OBJECT = (0, 1, 2), (4, 5, 6), (11, 12, 13)  # positions in a frame
MOVING = (0, 1, 2)  # of the action; the last entry is the gripper's


class _CopiedModel:
    """Copies a compiled model, which takes less time than compiling it anew for each environment."""

    fullpath: str
    width: int
    height: int
    lean: bool

    def _initialize_simulation(self) -> tuple[MjModel, MjData]:
        model = copy(_compiled(self.fullpath, self.lean))
        size = model.vis.global_  # as Gymnasium does, which this stands in for
        size.offwidth, size.offheight = max(size.offwidth, self.width), max(size.offheight, self.height)
        return model, MjData(model)


@lru_cache(maxsize=2)  # environments are made task by task, and models are large
def _compiled(path: str, lean: bool) -> MjModel:
    model = MjSpec.from_file(path)
    model.compiler.discardvisual = lean
    return model.compile()


@cache
def _with_copied_model(task: str, lean: bool) -> type[SawyerXYZEnv]:
    original = ALL_V3_ENVIRONMENTS[task]
    return type(original.__name__, (_CopiedModel, original), {"lean": lean})


def make_sawyer(task: str, drawn: bool = False) -> SawyerXYZEnv:
    """Meta-World's environment with its version 2 reward (its default) and an observable goal.

    One that is not drawn does without what is only seen, which is most of a model's memory, and has the same physics
    (`collectiverl.envs.metaworld.assets`).
    """
    lean = not drawn and task not in SEEN
    env = _with_copied_model(task, lean)(reward_function_version="v2")
    env._partially_observable = False
    env._set_task_called = True
    del env.sawyer_observation_space  # cached while the goal was hidden
    return env


@cache
def sawyer_spec(task: str) -> EnvSpec:
    """Sizes of the task's environment. An observation is this frame, the previous frame, and the goal."""
    env = make_sawyer(task)
    env.close()
    assert env.goal_space is not None
    obs_dim, goal_dim = env.sawyer_observation_space.shape[0], env.goal_space.shape[0]
    frame, goal = (obs_dim - goal_dim) // 2, tuple(range(obs_dim - goal_dim, obs_dim))
    return EnvSpec(
        task=task,
        obs_dim=obs_dim,
        action_dim=gym.spaces.flatdim(env.action_space),
        horizon=env.max_path_length,
        state_index=(*range(frame), *goal),
        goal_index=goal,
        points=(HAND, FIRST_OBJECT, SECOND_OBJECT, tuple(range(frame, frame + goal_dim))),
        moving_index=MOVING,
    )


@fixed_goals
def sawyer_goals(task: str, seed: int) -> Float[np.ndarray, "G K"]:
    """What Meta-World's `MT1(task, seed)` plays: its `rand_vec`, the places of the object and the goal in metres."""
    # The bytes were pickled by Meta-World a moment ago in this process: no file is read.
    made = metaworld.MT1(task, seed=seed).train_tasks
    return np.stack([pickle.loads(one.data)["rand_vec"] for one in made])


class SawyerEnv(gym.Env):
    """Its observations are Meta-World's, widened by `EXTRAS`."""

    def __init__(self, task: str, sequence: GoalSequence, horizon: int, drawn: bool = False):
        self._sequence = sequence
        self._env = make_sawyer(task, drawn)
        self._env.max_path_length = horizon  # where Meta-World truncates
        self._goal_index = FRESH
        size = self._env.sawyer_observation_space.shape[0] + EXTRAS
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = self._env.action_space

    @property
    def mujoco_state(self) -> tuple[MjModel, MjData]:
        return self._env.model, self._env.data

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begins the sequence's next episode; with a seed, the sequence starts over."""
        if seed is not None:
            self._sequence.restart(seed)
        self._goal_index, row = self._sequence.next()
        self._env._last_rand_vec = self._draw() if row is None else row.copy()
        self._env._freeze_rand_vec = True
        obs, _ = self._env.reset()
        return widen(obs, 0.0, self._goal_index), {}

    def step(self, action: Float[np.ndarray, "A"]):
        obs, reward, terminated, truncated, info = self._env.step(action)
        return widen(obs, info["success"], self._goal_index), reward, terminated, truncated, {}

    def close(self) -> None:
        self._env.close()

    def _draw(self) -> Float[np.ndarray, "K"]:
        """A goal from the task's distribution; `reset_model` draws again until the task's constraint holds."""
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = False, True
        self._env.np_random = self._sequence.generator
        self._env.reset_model()
        assert self._env._last_rand_vec is not None
        return self._env._last_rand_vec
