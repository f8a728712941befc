"""One environment of a `Task` as the library plays it."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float

from collectiverl.envs.core import limited
from collectiverl.envs.goals import FRESH, NUM_GOALS, GoalSequence, env_seeds, fixed_goals
from collectiverl.envs.gym_vector import EXTRAS, GymVectorEnv, widen
from collectiverl.envs.own.task import Reading, Task
from collectiverl.envs.suite import EnvOptions
from collectiverl.imports import calling
from collectiverl.types import EnvSpec


class PlayedEnv(gym.Env):
    """Its observations are vectors, widened by `EXTRAS`. A goal is a seed of the environment's `reset`."""

    def __init__(self, name: str, task: Task, sequence: GoalSequence, horizon: int, render_mode: str | None):
        self._name = name
        self.played = task.environment(name, render_mode)
        self._reading, self._sequence, self._horizon = Reading(name, task, self.played), sequence, horizon
        self._elapsed, self._goal_index = 0, FRESH
        spec = self._reading.spec
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (spec.obs_dim + EXTRAS,), np.float64)
        self.action_space = gym.spaces.Box(-1, 1, (spec.action_dim,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begins the sequence's next episode; with a seed, the sequence starts over."""
        if seed is not None:
            self._sequence.restart(seed)
        self._goal_index, row = self._sequence.next()
        start = int(self._sequence.generator.integers(2**31)) if row is None else int(row[0])
        with calling(f"task {self._name}", "reset its environment"):
            obs, _ = self.played.reset(seed=start)
        self._elapsed = 0
        return widen(self._reading.observation(obs), 0.0, self._goal_index), {}

    def step(self, action: Float[np.ndarray, "A"]):
        with calling(f"task {self._name}", "step its environment"):
            obs, reward, terminated, truncated, info = self.played.step(self._reading.action(action))
        self._elapsed += 1
        seen = self._reading.observation(obs)
        wide = widen(seen, self._reading.success(seen, info), self._goal_index)
        return wide, float(reward), bool(terminated), bool(truncated) or self._elapsed >= self._horizon, {}

    def close(self) -> None:
        self.played.close()


@fixed_goals
def reset_seeds(task: str, seed: int) -> Float[np.ndarray, "G 1"]:
    """The fixed goals of a task whose goals are seeds of `reset`."""
    return np.asarray(env_seeds(seed, NUM_GOALS, task), np.float64)[:, None]


def played_envs(spec: EnvSpec, task: Task, num_envs: int, options: EnvOptions) -> GymVectorEnv:
    """A vector of environments of `task`, whose sizes are `spec`."""
    spec, fixed = limited(spec, options.horizon), partial(reset_seeds, spec.task)
    render_mode = "rgb_array" if options.drawn else None
    sequences = [GoalSequence(fixed, options.goals, options.order, i, num_envs) for i in range(num_envs)]
    makers = [partial(PlayedEnv, spec.task, task, own, spec.horizon, render_mode) for own in sequences]
    return GymVectorEnv(spec, makers, options.processes)
