"""Stable-Baselines3 and SBX: with their own defaults and networks of our size, or with other settings."""

import os
import time
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float

from collectiverl.envs.goals import GoalSequence
from collectiverl.types import UserError

PEERS = {"sb3": "stable_baselines3", "sbx": "sbx"}  # names here: packages
TITLES = {
    "ours": "collectiverl",
    "ours-float32": "collectiverl, in float32",
    "sbx-ours": "SBX, our settings",
    "sb3-ours": "Stable-Baselines3, our settings",
    "sbx": "SBX",
    "sb3": "Stable-Baselines3",
}
LEARNING_STARTS = 100  # both peers' default: environment steps before the first update


def require(*packages: str) -> None:
    """Raises UserError unless these packages, or else all that the peers need, are installed."""
    needed = packages or (*PEERS.values(), "torch")
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed: pip install -e '.[bench]'")


def make_sac(peer: str, env: Any, *, device: str = "cpu", width: int = 256, **settings: Any) -> Any:
    """Its SAC; by default one update a step of the environment, batch 256, learning rate 3e-4: its own defaults."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if peer == "sb3":
        from stable_baselines3 import SAC
    else:
        from sbx import SAC
    defaults = {"batch_size": 256, "policy_kwargs": {"net_arch": [width, width]}}
    return SAC("MlpPolicy", env, device=device, **defaults | settings)


def filled_sac(
    peer: str, obs_dim: int, action_dim: int, transitions: int, *, device: str = "cpu", width: int = 256
) -> Any:
    """Its SAC with a replay buffer full of random transitions, ready for `train`."""
    from stable_baselines3.common.logger import Logger

    shapes = Shapes(obs_dim, action_dim)
    model = make_sac(peer, shapes, seed=0, buffer_size=transitions, device=device, width=width)
    model.set_logger(Logger(folder=None, output_formats=[]))
    buffer, rng = model.replay_buffer, np.random.default_rng(0)
    for column in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards):
        column[:] = rng.uniform(-1, 1, column.shape)
    buffer.full = True
    return model


class Shapes(gym.Env):
    """Only the spaces of an environment."""

    def __init__(self, obs_dim: int, action_dim: int):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (action_dim,), np.float32)


class StepTimes(gym.Wrapper):
    """Notes when each step is asked for."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.times: list[float] = []

    def step(self, action: Any) -> Any:
        self.times.append(time.perf_counter())
        return self.env.step(action)


def metaworld_env(task: str, seed: int = 0) -> gym.Env:
    """The task as Meta-World itself offers it: 50 goals, 500 steps."""
    import metaworld

    env = metaworld.make_mt_envs(task, seed=seed)
    assert isinstance(env, gym.Env)
    return env


def fresh_goals_env(task: str) -> gym.Env:
    """The task with a goal drawn afresh every episode, as our experts train on it."""
    from collectiverl.envs.metaworld.sawyer import SawyerEnv, sawyer_goals, sawyer_spec

    spec = sawyer_spec(task)
    space = gym.spaces.Box(-np.inf, np.inf, (spec.obs_dim,), np.float32)
    env = SawyerEnv(task, GoalSequence(partial(sawyer_goals, task), "fresh", "random"), spec.horizon)
    return gym.wrappers.TransformObservation(env, lambda obs: obs[: spec.obs_dim].astype(np.float32), space)


class PeerPolicy:
    """A peer's model behind our policy interface, deterministic; it sees observations as in its training."""

    def __init__(self, model: Any):
        self.model, self.statistics = model, model.get_vec_normalize_env()

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        if self.statistics is not None:
            observations = self.statistics.normalize_obs(observations)
        return self.model.predict(observations, deterministic=True)[0]

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        """Nothing to forget."""

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        """Reads no rewards."""
