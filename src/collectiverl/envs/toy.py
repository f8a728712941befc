"""The toy task: reach a point in a square, with a hidden action matrix that only the trajectory shows.

    x' = clip(x + 0.1 M a, -1, 1),   reward = 10 / (1 + (|x' - goal| / 0.5)^2)

Every `M` permutes or flips the axes, so `a = clip(M^-1 (goal - x) / 0.1, -1, 1)` is optimal, and a goal is
at most 20 steps away. The observation is laid out like Meta-World's: this frame, the previous one, the goal.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult, limited
from collectiverl.envs.goals import FRESH, Goals, GoalSequence, Order, env_seeds
from collectiverl.types import EnvSpec

STEP = 0.1
SUCCESS_RADIUS = 0.1  # one step
REWARD_SCALE = 0.5  # distance at which the reward is half its maximum
MAX_REWARD = 10.0
HORIZON = 25  # five more than the farthest goal needs
MATRICES = {
    "toy-reach": np.array([[1.0, 0.0], [0.0, 1.0]]),
    "toy-mirror": np.array([[-1.0, 0.0], [0.0, 1.0]]),
    "toy-swap": np.array([[0.0, 1.0], [1.0, 0.0]]),
    "toy-turn": np.array([[0.0, -1.0], [1.0, 0.0]]),
}


def toy_spec(task: str) -> EnvSpec:
    return EnvSpec(
        task=task,
        obs_dim=6,
        action_dim=2,
        horizon=HORIZON,
        state_index=(0, 1, 4, 5),
        goal_index=(4, 5),
        points=((0, 1), (2, 3)),
        moving_index=(0, 1),
    )


def optimal_action(task: str, obs: Float[np.ndarray, "*N 6"]) -> Float[np.ndarray, "*N 2"]:
    """The best action, which no other beats in any step's reward."""
    error = (obs[..., 4:6] - obs[..., 0:2]) / STEP
    return np.clip(error @ np.linalg.inv(MATRICES[task]).T, -1, 1).astype(np.float32)


class ToyVectorEnv:
    """`num_envs` copies of one toy task, stepped together; never terminates, only times out."""

    def __init__(
        self,
        task: str,
        num_envs: int,
        goals: Goals = "all",
        order: Order = "random",
        horizon: int | None = None,
    ):
        self.spec = limited(toy_spec(task), horizon)
        self.num_envs = num_envs
        self.tasks = (task,) * num_envs
        self._matrix = MATRICES[task]
        self._sequences = [GoalSequence(task, goals, order, i, num_envs) for i in range(num_envs)]
        self._goal_index = np.full(num_envs, FRESH)
        self._position, self._previous, self._goal = np.zeros((3, num_envs, 2))
        self._elapsed = np.zeros(num_envs, int)

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._goal_index.copy()

    def reset(self, seed: int) -> Float[np.ndarray, "N 6"]:
        for sequence, env_seed in zip(self._sequences, env_seeds(seed, self.num_envs), strict=True):
            sequence.restart(env_seed)
        self._begin(np.ones(self.num_envs, bool))
        return self._observe()

    def step(self, action: Float[np.ndarray, "N 2"]) -> StepResult:
        began = self._elapsed == self.spec.horizon
        self._previous = self._position
        moved = self._position + STEP * np.clip(action, -1, 1) @ self._matrix.T
        self._position = np.clip(moved, -1, 1)
        self._elapsed += 1
        self._begin(began)
        distance = np.linalg.norm(self._position - self._goal, axis=1)
        reward = MAX_REWARD / (1 + (distance / REWARD_SCALE) ** 2)
        return StepResult(
            obs=self._observe(),
            reward=np.where(began, 0, reward).astype(np.float32),
            terminated=np.zeros(self.num_envs, bool),
            truncated=self._elapsed == self.spec.horizon,
            success=(distance <= SUCCESS_RADIUS) & ~began,
            began=began,
        )

    def close(self) -> None:
        """Nothing to release."""

    def _begin(self, mask: Bool[np.ndarray, "N"]) -> None:
        for i in np.flatnonzero(mask):
            number, row = self._sequences[i].next()
            if row is None:
                row = self._sequences[i].generator.uniform(-1, 1, 4)
            self._position[i] = self._previous[i] = row[:2]
            self._goal[i] = row[2:]
            self._goal_index[i] = number
        self._elapsed[mask] = 0

    def _observe(self) -> Float[np.ndarray, "N 6"]:
        return np.concatenate([self._position, self._previous, self._goal], axis=1, dtype=np.float32)
