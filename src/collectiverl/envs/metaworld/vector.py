"""Meta-World itself as a vector of environments: the reference simulator, which evaluation uses."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from jaxtyping import Float, Int

from collectiverl.envs.core import StepResult, limited
from collectiverl.envs.goals import FRESH, Goals, GoalSequence, Order, env_seeds
from collectiverl.envs.metaworld.sawyer import SawyerEnv, sawyer_goals, sawyer_spec

if TYPE_CHECKING:
    from mujoco._structs import MjData, MjModel  # where type checkers find them


class MetaworldVectorEnv:
    """`num_envs` copies of one Meta-World task, in this process or in a process each.

    Automatic resets are Gymnasium's (`AutoresetMode.NEXT_STEP`), whose rules are those of `VectorEnv`.
    """

    def __init__(
        self,
        task: str,
        num_envs: int,
        goals: Goals = "all",
        order: Order = "random",
        processes: bool = False,
        horizon: int | None = None,
    ):
        self.spec = limited(sawyer_spec(task), horizon)
        self.num_envs = num_envs
        self.tasks = (task,) * num_envs
        fixed = partial(sawyer_goals, task)
        sequences = [GoalSequence(fixed, goals, order, i, num_envs) for i in range(num_envs)]
        makers = [partial(SawyerEnv, task, sequence, self.spec.horizon) for sequence in sequences]
        vector: Any = AsyncVectorEnv if processes else SyncVectorEnv
        options = {"context": "spawn"} if processes else {}  # forking a process that runs JAX may hang
        self._envs: SyncVectorEnv | AsyncVectorEnv = vector(
            makers, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP, **options
        )
        self._done = np.zeros(num_envs, bool)
        self._goal_index = np.full(num_envs, FRESH)

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._goal_index.copy()

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]:
        wide, _ = self._envs.reset(seed=[*env_seeds(seed, self.num_envs, self.spec.task)])
        self._done = np.zeros(self.num_envs, bool)
        return self._narrow(wide)

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        began = self._done
        wide, reward, terminated, truncated, _ = self._envs.step(np.clip(action, -1, 1))
        self._done = terminated | truncated
        return StepResult(
            obs=self._narrow(wide),
            reward=reward.astype(np.float32),
            terminated=terminated.copy(),
            truncated=truncated.copy(),
            success=wide[:, self.spec.obs_dim] > 0,
            began=began,
        )

    def mujoco_state(self, i: int) -> "tuple[MjModel, MjData]":
        """The simulator of environment `i`, for rendering. The environments must be in this process."""
        if not isinstance(self._envs, SyncVectorEnv):
            raise ValueError("environments in processes of their own cannot be rendered: use processes=False")
        return self._envs.envs[i].unwrapped.mujoco_state  # type: ignore[reportAttributeAccessIssue]

    def close(self) -> None:
        self._envs.close()

    def _narrow(self, wide: np.ndarray) -> Float[np.ndarray, "N O"]:
        self._goal_index = wide[:, -1].astype(int)
        return wide[:, : self.spec.obs_dim].astype(np.float32)
