"""The toy suite: move a point to its goal in a square. How actions move it differs from task to task.

    x' = clip(x + 0.1 M a, -1, 1),   reward = 10 / (1 + (|x' - goal| / 0.5)^2)

The matrix `M` of the task is not observed: only the trajectory shows it. Every `M` permutes or flips the axes, so
`a = clip(M^-1 (goal - x) / 0.1, -1, 1)` is optimal, and a goal is at most 20 steps away. An observation is laid
out as in Meta-World: this frame, the previous frame, the goal.
"""

from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult, VectorEnv, limited
from collectiverl.envs.goals import FRESH, NUM_GOALS, Goals, GoalSequence, Order, env_seeds, fixed_goals
from collectiverl.envs.suite import EnvOptions, Frame, Scene, Script, Suite
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


TASKS = tuple(MATRICES)


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


@fixed_goals
def toy_goals(task: str, seed: int) -> Float[np.ndarray, "G 4"]:
    """Start and goal."""
    return np.random.default_rng([seed, TASKS.index(task)]).uniform(-1, 1, (NUM_GOALS, 4))


def optimal_action(task: str, obs: Float[np.ndarray, "*N 6"]) -> Float[np.ndarray, "*N 2"]:
    """The action with the highest reward of the next step."""
    error = (obs[..., 4:6] - obs[..., 0:2]) / STEP
    return np.clip(error @ np.linalg.inv(MATRICES[task]).T, -1, 1).astype(np.float32)


class ToyVectorEnv:
    """`num_envs` copies of one toy task, stepped together; episodes end at the time limit alone."""

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
        fixed = partial(toy_goals, task)
        self._sequences = [GoalSequence(fixed, goals, order, i, num_envs) for i in range(num_envs)]
        self._goal_index = np.full(num_envs, FRESH)
        self._position, self._previous, self._goal = np.zeros((3, num_envs, 2))
        self._elapsed = np.zeros(num_envs, int)

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._goal_index.copy()

    def reset(self, seed: int) -> Float[np.ndarray, "N 6"]:
        for sequence, env_seed in zip(
            self._sequences, env_seeds(seed, self.num_envs, self.spec.task), strict=True
        ):
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


class ToyScene:
    """The square from above: the point (dark), and how near it must come to its goal (green)."""

    def __init__(self, width: int, height: int):
        axes = np.linspace(1.1, -1.1, height), np.linspace(-1.1, 1.1, width)
        self._y, self._x = np.meshgrid(*axes, indexing="ij")
        self._square = np.where(np.maximum(abs(self._x), abs(self._y)) > 1, 230, 255).astype(np.uint8)

    def draw(self, obs: Float[np.ndarray, "6"]) -> Frame:
        frame = np.stack([self._square] * 3, axis=-1)
        frame[self._disc(obs[4:6], SUCCESS_RADIUS)] = (120, 200, 120)
        frame[self._disc(obs[0:2], SUCCESS_RADIUS / 3)] = (40, 60, 120)
        return frame

    def close(self) -> None:
        """Nothing to release."""

    def _disc(self, centre: Float[np.ndarray, "2"], radius: float) -> Bool[np.ndarray, "H W"]:
        return np.hypot(self._x - centre[0], self._y - centre[1]) < radius


class ToySuite(Suite):
    """Needs no simulator; made for tests and first tries."""

    name = "toy"
    tasks = TASKS
    cameras = ("above",)
    steps_per_second = 10  # slow enough to follow

    def spec(self, task: str) -> EnvSpec:
        return toy_spec(task)

    def make(self, task: str, num_envs: int, options: EnvOptions) -> VectorEnv:
        return ToyVectorEnv(task, num_envs, options.goals, options.order, options.horizon)

    def goals(self, task: str, seed: int) -> Float[np.ndarray, "G 4"]:
        return toy_goals(task, seed)

    def script(self, task: str) -> Script:
        return partial(optimal_action, task)

    def scene(self, envs: VectorEnv, camera: str, width: int, height: int) -> Scene:
        return ToyScene(width, height)


TOY = ToySuite()
