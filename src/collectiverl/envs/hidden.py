"""Environments that do not show their goals: the goal's entries of every observation are zero."""

import numpy as np
from jaxtyping import Float, Int

from collectiverl.envs.core import StepResult, VectorEnv


class HiddenGoals:
    """The environments of `envs`, seen by one from whom the goals are hidden. Rewards still depend on them."""

    def __init__(self, envs: VectorEnv):
        self._envs, self._hidden = envs, list(envs.spec.goal_index)
        self.spec, self.num_envs, self.tasks = envs.spec, envs.num_envs, envs.tasks

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._envs.goals()

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]:
        return self._without_goal(self._envs.reset(seed))

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        result = self._envs.step(action)
        return result._replace(obs=self._without_goal(result.obs))

    def close(self) -> None:
        self._envs.close()

    def _without_goal(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N O"]:
        hidden = obs.copy()
        hidden[:, self._hidden] = 0
        return hidden
