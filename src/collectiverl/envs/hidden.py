"""Environments that do not show their goals: the goal's entries of every observation are zero."""

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult, VectorEnv, leave


class HiddenGoals:
    """The environments of `envs`, seen by one from whom the goals are hidden. Rewards still depend on them."""

    uncovered: Float[np.ndarray, "N O"]  # the latest observations with their goals, for whoever films

    def __init__(self, envs: VectorEnv):
        self.envs, self._hidden = envs, list(envs.spec.goal_index)
        self.spec, self.num_envs, self.tasks = envs.spec, envs.num_envs, envs.tasks

    def goals(self) -> Int[np.ndarray, "N"]:
        return self.envs.goals()

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]:
        return self._without_goal(self.envs.reset(seed))

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        result = self.envs.step(action)
        return result._replace(obs=self._without_goal(result.obs))

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        leave(self.envs, over)

    def close(self) -> None:
        self.envs.close()

    def _without_goal(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N O"]:
        self.uncovered = obs
        hidden = obs.copy()
        hidden[:, self._hidden] = 0
        return hidden
