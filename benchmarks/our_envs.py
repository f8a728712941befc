"""Our vector environments behind Stable-Baselines3's interface, which SBX shares: a peer plays the same simulator."""

from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from collectiverl.envs.core import StepResult, VectorEnv
from collectiverl.envs.make import make_envs
from collectiverl.nn.normalizer import CLIP, STD_FLOOR
from collectiverl.sac.settings import TrainConfig


def training_env(task: str, train: TrainConfig) -> VecEnv:
    """The environments that ours trains on, with rewards scaled, and observations standardised if ours are.

    `epsilon` is added to the variance, so that a deviation is never below our floor.
    """
    envs = make_envs(task, train.num_envs, goals="fresh", horizon=train.horizon)
    scaled = OurEnvs(envs, train.sac.reward_scale)
    if not train.sac.normalize_obs:
        return scaled
    return VecNormalize(scaled, norm_reward=False, clip_obs=CLIP, epsilon=STD_FLOOR**2)


class OurEnvs(VecEnv):
    """A `VectorEnv` as a `VecEnv`.

    Ours reset in a step of their own, a `VecEnv` in the step that ends the episode. So at an end this takes both, and
    `terminal_observation` of the infos is the episode's true last observation. All episodes must end together, as
    those of Meta-World do, which end at their time limit alone.
    """

    def __init__(self, envs: VectorEnv, reward_scale: float = 1.0):
        self.envs, self.reward_scale = envs, np.float32(reward_scale)
        self._actions: np.ndarray
        observations = gym.spaces.Box(-np.inf, np.inf, (envs.spec.obs_dim,), np.float32)
        actions = gym.spaces.Box(-1, 1, (envs.spec.action_dim,), np.float32)
        super().__init__(envs.num_envs, observations, actions)

    def reset(self) -> Float[np.ndarray, "N O"]:
        return self.envs.reset(self._seeds[0] or 0)

    def step_async(self, actions: Float[np.ndarray, "N A"]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        result = self.envs.step(self._actions)
        reward, done = result.reward * self.reward_scale, result.done
        if not done.any():
            return result.obs, reward, done, [{} for _ in done]
        if not done.all():
            raise RuntimeError("episodes of these environments do not end together")
        first = self.envs.step(self._actions)  # the actions are ignored
        return first.obs, reward, done, _ends(result)

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise NotImplementedError

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [False] * self.num_envs


def _ends(last: StepResult) -> list[dict[str, Any]]:
    """What the replay of a peer reads where episodes end; at a time limit it bootstraps."""
    limit = last.truncated & ~last.terminated
    return [
        {"terminal_observation": obs, "TimeLimit.truncated": bool(cut)}
        for obs, cut in zip(last.obs, limit, strict=True)
    ]
