"""`Task`: a Gymnasium environment as a task, and how its observations are read."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float

from collectiverl.imports import calling
from collectiverl.types import EnvSpec, UserError

Entry = int | str  # of a box: its number; of a dictionary: the key of one of its boxes
Success = str | Callable[[np.ndarray, Mapping[str, Any]], Any]
DESIRED, ACHIEVED = "desired_goal", "achieved_goal"  # names of Gymnasium-Robotics
SUCCESS_KEYS = ("is_success", "success")  # of `info`, where a task does not say


@dataclass(frozen=True)
class Task:
    """A Gymnasium environment as a task. An episode must depend only on the seed of `reset` and on the actions.

    An observation becomes one vector: the entries of the state, then those of the goal. Actions are scaled from
    [-1, 1] to the bounds of the action space.

    Args:
        make: a function that makes the environment, or a name that `gymnasium.make` knows. Videos call the
            function with `render_mode="rgb_array"`, if it takes that argument.
        state: entries of the observation that are the state without the goal, in their order. An entry is a number,
            or a key where observations are dictionaries. None: all but those of the goal and of `achieved_goal`.
        goal: entries that show the goal; `--goals-hidden` hides them. None: `desired_goal` where there is one,
            otherwise no entry.
        success: says whether a step is a success: a key of `info` whose value is then positive, or a function of the
            observation (as one vector) and `info`. None: `is_success` or `success` of `info`.
        script: a scripted policy: observations [N, O] to actions [N, A] in [-1, 1]. None: the task has none.
        horizon: steps until the time limit. None: the limit with which the environment was registered.
        points: entries of the state that are positions in metres, such as ((0, 1, 2), (3, 4, 5)).
        moving: entries of the action that move the robot, which probing may use.
    """

    make: Callable[..., gym.Env] | str
    state: Sequence[Entry] | Entry | None = None
    goal: Sequence[Entry] | Entry | None = None
    success: Success | None = None
    script: Callable[[np.ndarray], Any] | None = None
    horizon: int | None = None
    points: Sequence[Sequence[int]] = ()
    moving: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Lists become tuples and a single entry a tuple of it, so that tasks can be compared."""
        for name in ("state", "goal", "moving"):
            value = getattr(self, name)
            if value is not None:
                one = isinstance(value, int | str)
                object.__setattr__(self, name, (value,) if one else tuple(value))
        object.__setattr__(self, "points", tuple(map(tuple, self.points)))

    def environment(self, name: str, render_mode: str | None = None) -> gym.Env:
        """A new environment; `name` is that of the task, for messages.

        Raises:
            UserError: it cannot be made.
        """
        options: dict[str, Any] = {"render_mode": render_mode} if render_mode else {}
        with calling(f"task {name}", "make its environment"):
            if isinstance(self.make, str):
                return gym.make(self.make, disable_env_checker=True, **options)
            return self.make(**(options if _takes(self.make, "render_mode") else {}))


def _takes(function: Callable, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of a function written in C
        return False
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


class Reading:
    """Reads the observations, actions and successes of a task.

    Args:
        name: of the task, for messages.
        env: one environment of the task.

    Raises:
        UserError: the environment does not fit, or the task names what it does not have.
    """

    def __init__(self, name: str, task: Task, env: gym.Env):
        self._name, self._task = name, task
        self._boxes = self._observed(env.observation_space)
        goal = self._goal()
        self.columns = np.asarray([*self._state(goal), *goal], int)
        self.goal_size = len(goal)
        self._low, self._high = self._bounds(env.action_space)
        self._is_unit = bool((self._low == -1).all() and (self._high == 1).all())
        self.horizon = self._limit(env)

    @cached_property
    def spec(self) -> EnvSpec:
        size = len(self.columns)
        return EnvSpec(
            task=self._name,
            obs_dim=size,
            action_dim=len(self._low),
            horizon=self.horizon,
            state_index=tuple(range(size)),
            goal_index=tuple(range(size - self.goal_size, size)),
            points=tuple(map(tuple, self._task.points)),
            moving_index=tuple(self._task.moving),
        )

    def observation(self, obs: Any) -> Float[np.ndarray, "O"]:
        """An observation as one vector."""
        parts = [obs[key] for key in self._boxes] if isinstance(obs, Mapping) else [obs]
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)[self.columns]

    def action(self, action: Float[np.ndarray, "A"]) -> np.ndarray:
        """An action in [-1, 1] as the environment takes it."""
        if self._is_unit:  # not even rounded
            return np.asarray(action, self._low.dtype)
        scaled = self._low + (np.asarray(action) + 1) / 2 * (self._high - self._low)
        return np.clip(scaled, self._low, self._high).astype(self._low.dtype)

    def success(self, obs: Float[np.ndarray, "O"], info: Mapping[str, Any]) -> float:
        """1 where the step that led to `obs`, an observation as one vector, is a success."""
        rule = self._task.success
        if callable(rule):
            with calling(f"task {self._name}", "say whether a step is a success"):
                return float(bool(rule(obs, info)))
        key = rule or next((key for key in SUCCESS_KEYS if key in info), SUCCESS_KEYS[0])
        if key not in info:
            has = ", ".join(map(str, info)) or "nothing"
            raise self._error(
                f"no success {key!r} in info, which has {has}: name another key with success=, or pass a function"
            )
        return float(info[key] > 0)

    # -- what the environment has --------------------------------------------------------------------------

    def _observed(self, space: gym.Space) -> dict[str, gym.spaces.Box]:
        boxes = dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {"": space}
        for key, box in boxes.items():
            if not isinstance(box, gym.spaces.Box):
                where = f"observations[{key!r}]" if key else "observations"
                raise self._error(f"{where} are {box}: they must be boxes, or a dictionary of boxes")
        return boxes  # type: ignore[return-value]

    def _bounds(self, space: gym.Space) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
            raise self._error(f"actions are {space}: they must be a box of one axis with finite bounds")
        return space.low, space.high

    def _limit(self, env: gym.Env) -> int:
        horizon = self._task.horizon or getattr(env.spec, "max_episode_steps", None)
        if not horizon:
            raise self._error("no time limit: say after how many steps episodes end with horizon=")
        return int(horizon)

    def _entries(self, chosen: Sequence[Entry] | Entry) -> list[int]:
        """Numbers of entries of all boxes, one behind the other."""
        sizes = {key: int(np.prod(box.shape)) for key, box in self._boxes.items()}
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
        found = []
        for entry in (chosen,) if isinstance(chosen, int | str) else chosen:
            if isinstance(entry, str) and entry in sizes:
                found += range(starts[entry], starts[entry] + sizes[entry])
            elif isinstance(entry, int) and 0 <= entry < sum(sizes.values()):
                found.append(entry)
            else:
                raise self._error(f"{entry!r} is no entry of its observations: {self._described(sizes)}")
        return found

    def _described(self, sizes: Mapping[str, int]) -> str:
        if "" in sizes:
            return f"they have the entries 0 to {sizes[''] - 1}"
        return f"they have the keys {', '.join(sizes)}"

    def _goal(self) -> list[int]:
        named = self._task.goal
        return self._entries(((DESIRED,) if DESIRED in self._boxes else ()) if named is None else named)

    def _state(self, goal: Sequence[int]) -> list[int]:
        if self._task.state is not None:
            return [entry for entry in self._entries(self._task.state) if entry not in goal]
        left_out = {*goal, *self._entries((ACHIEVED,) if ACHIEVED in self._boxes else ())}
        return [entry for entry in self._entries((*self._boxes,)) if entry not in left_out]

    def _error(self, why: str) -> UserError:
        return UserError(f"task {self._name}: {why}")
