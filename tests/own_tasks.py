"""Tasks that are not the library's: a point with observations in a dictionary, and a rail with a shorter state."""

import gymnasium as gym
import numpy as np

from collectiverl import Task, register_task

STEP, RADIUS, HORIZON = 0.1, 0.15, 25


class Point(gym.Env):
    """Moves by twice the first entry of its action and by the second; `axes` of its place are observed."""

    def __init__(self, axes=2, render_mode=None):
        self.render_mode = render_mode
        box = lambda size: gym.spaces.Box(-1, 1, (size,), np.float64)  # noqa: E731
        self.axes = axes
        self.observation_space = gym.spaces.Dict(
            {"achieved_goal": box(2), "desired_goal": box(2), "observation": box(axes)}
        )
        self.action_space = gym.spaces.Box(np.float32([-2, -1]), np.float32([2, 1]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        if self.axes == 1:
            self.goal[1] = self.place[1]
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.place = np.clip(self.place + STEP * action / [2, 1], -1, 1)
        distance = float(np.linalg.norm(self.place - self.goal))
        return self.observe(), -distance, False, False, {"is_success": distance < RADIUS}

    def render(self):
        return np.full((40, 60, 3), (255, 0, 0), np.uint8)

    def observe(self):
        return {
            "achieved_goal": self.place.copy(),
            "desired_goal": self.goal.copy(),
            "observation": self.place[: self.axes].copy(),
        }


def make_point():
    return Point()


def make_rail():
    return Point(axes=1)


def to_goal(obs):
    return (obs[:, 2:] - obs[:, :2]) / STEP


def along(obs):
    return np.stack([(obs[:, 1] - obs[:, 0]) / STEP, np.zeros(len(obs))], axis=1)


def make_drawn(render_mode=None):
    return Point(render_mode=render_mode)


point = Task(make_point, script=to_goal, horizon=HORIZON)
rail = Task(make_rail, script=along, horizon=HORIZON)
drawn = Task(make_drawn, script=to_goal, horizon=HORIZON)


def registered():
    """Registers the point under a name, as a user's script does."""
    return register_task("own-point", make_point, script=to_goal, horizon=HORIZON)
