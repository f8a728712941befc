"""`finetune-student`: SAC continued on the collective's own networks; the encoder stays frozen."""

import numpy as np
from jaxtyping import Float, Int

from collectiverl.collective.policy import Collective, conditioner, features
from collectiverl.envs.core import StepResult, VectorEnv
from collectiverl.types import EnvSpec


class Embedded:
    """A vector of environments seen through the collective's eyes: observations are `[z, state]`."""

    def __init__(self, envs: VectorEnv, collective: Collective):
        self._envs, self._collective = envs, collective
        self._conditioner = conditioner(collective, envs.num_envs, envs.tasks)
        dim = collective.condition_dim + envs.spec.state_dim
        state = tuple(range(collective.condition_dim, dim))
        self.spec = EnvSpec(envs.spec.task, dim, envs.spec.action_dim, envs.spec.horizon, state)
        self.num_envs, self.tasks = envs.num_envs, envs.tasks

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._envs.goals()

    def reset(self, seed: int) -> Float[np.ndarray, "N F"]:
        obs = self._envs.reset(seed)
        self._conditioner.reset(np.ones(self.num_envs, bool))
        return self._look(obs)

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        self._conditioner.acted(action)
        result = self._envs.step(action)
        self._conditioner.observe(result.reward)
        if result.began.any():
            self._conditioner.reset(result.began)
        return result._replace(obs=self._look(result.obs))

    def close(self) -> None:
        self._envs.close()

    def _look(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N F"]:
        z = self._conditioner.embed(obs)
        return np.asarray(features(self._collective.state_index, obs, z))
