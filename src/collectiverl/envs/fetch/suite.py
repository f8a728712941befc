"""The Fetch suite of Gymnasium-Robotics: four tasks of another robot arm, with Meta-World's four actions."""

import contextlib
import io
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float

from collectiverl.envs.core import VectorEnv, limited
from collectiverl.envs.fetch.layout import GOAL_INDEX, fetch_spec, flatten
from collectiverl.envs.fetch.scripts import SCRIPTS
from collectiverl.envs.own.env import played_envs, reset_seeds
from collectiverl.envs.own.suite import OwnScene
from collectiverl.envs.own.task import Task
from collectiverl.envs.pool import EnvpoolVectorEnv, uses_envpool
from collectiverl.envs.suite import EnvOptions, Scene, Script, Suite
from collectiverl.types import EnvSpec, UserError

ORIGINAL = {  # names in Gymnasium-Robotics and in EnvPool; rewards are minus the distance to the goal
    "fetch-reach": "FetchReachDense-v4",
    "fetch-push": "FetchPushDense-v4",
    "fetch-pick-and-place": "FetchPickAndPlaceDense-v4",
    "fetch-slide": "FetchSlideDense-v4",
}
DIFFERS = {
    "fetch-slide": "EnvPool's robot stands 39 cm nearer to the table's far edge, where pucks fall down"
}
SUCCESS = "is_success"  # the goal is within 5 cm


class FetchSuite(Suite):
    """Simulated by Gymnasium-Robotics itself, or by EnvPool's copy of it where that agrees.

    A goal is the seed of a reset, which draws the places of object and goal.
    """

    name = "Fetch"
    tasks = tuple(ORIGINAL)
    benchmarks = ("FETCH",)
    cameras = ("default",)
    steps_per_second = 25  # a step is twenty of MuJoCo's, of 2 ms each

    def canonical(self, name: str) -> str | None:
        bare = re.sub(r"(Dense)?(-v\d+)?$", "", name)
        return super().canonical(re.sub(r"(?<=[a-z])(?=[A-Z])", "-", bare).lower())

    def benchmark(self, name: str) -> tuple[str, ...]:
        return self.tasks

    def spec(self, task: str) -> EnvSpec:
        return fetch_spec(task)

    def make(self, task: str, num_envs: int, options: EnvOptions) -> VectorEnv:
        if uses_envpool(options.backend, options.goals, fits=task not in DIFFERS):
            spec = limited(fetch_spec(task), options.horizon)
            return EnvpoolFetch(spec, ORIGINAL[task], num_envs, options.num_threads, success=SUCCESS)
        _library()
        original = Task(partial(make_fetch, task), goal=GOAL_INDEX, success=SUCCESS)
        return played_envs(fetch_spec(task), original, num_envs, options)

    def goals(self, task: str, seed: int) -> Float[np.ndarray, "G 1"]:
        return reset_seeds(task, seed)

    def script(self, task: str) -> Script:
        return SCRIPTS[task]

    def scene(self, envs: VectorEnv, camera: str, width: int, height: int) -> Scene:
        from collectiverl.envs.gym_vector import GymVectorEnv

        assert isinstance(envs, GymVectorEnv)
        return OwnScene(envs.spec.task, envs.member(0).played, width, height)


FETCH = FetchSuite()


class EnvpoolFetch(EnvpoolVectorEnv):
    """EnvPool's copy; its dictionaries become vectors."""

    def read(self, obs: Mapping[str, np.ndarray]) -> Float[np.ndarray, "N 28"]:
        return flatten(obs)


class FlatFetch(gym.ObservationWrapper):
    """Gymnasium-Robotics' environment; its dictionaries become vectors."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        size = fetch_spec("").obs_dim
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, "28"]:
        return flatten(observation)


def make_fetch(task: str, render_mode: str | None = None) -> gym.Env:
    """The environment of Gymnasium-Robotics."""
    gym.register_envs(_library())
    return FlatFetch(gym.make(ORIGINAL[task], disable_env_checker=True, render_mode=render_mode))


def _library() -> Any:
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # news of other environments, at every import
            import gymnasium_robotics
    except ImportError as error:
        raise UserError(
            "Gymnasium-Robotics, which simulates the Fetch tasks, is not installed: pip install 'collectiverl[fetch]'"
        ) from error
    return gymnasium_robotics
