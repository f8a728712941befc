"""Scripted policies of the Fetch tasks; each is a function of the observation alone.

Distances are in metres. An action moves the gripper by up to `REACH` a step along each axis.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "N 3"]
GRIPPER, OBJECT, FINGERS, GOAL = slice(0, 3), slice(3, 6), slice(9, 11), slice(25, 28)
OBJECT_SPEED, GRIPPER_SPEED = slice(14, 17), slice(20, 23)  # a step; the object's is relative to the gripper
GAIN = 12.0  # of the position controller: a tenth of a metre saturates it
OPEN, CLOSED = 1.0, -1.0
TABLE = 0.425  # height of an object's centre on the table
CLEAR = 0.08  # height above the object at which the gripper passes over it


def reach(obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N 4"]:
    """Straight to the goal."""
    return _towards(obs, obs[:, GOAL], CLOSED)


def push(obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N 4"]:
    """Behind the object, as seen from the goal, then through it; over it, where the way is blocked."""
    gripper, at, goal = obs[:, GRIPPER], obs[:, OBJECT], obs[:, GOAL]
    way, distance = _direction(goal - at)
    behind, beside = _relative(gripper - at, way)
    ready = (behind < -0.02) & (np.abs(beside) < 0.025) & (gripper[:, 2] < TABLE + 0.03)
    done = distance < 0.015
    start = at - 0.075 * way
    through = at + way * np.clip(distance - 0.04, -0.03, 0.06)[:, None] - 0.6 * _side(way) * beside[:, None]
    near_start = np.linalg.norm((gripper - start)[:, :2], axis=1) < 0.025
    height = np.where(ready | near_start, TABLE - 0.005, TABLE + CLEAR)
    low_elsewhere = ~ready & ~near_start & (gripper[:, 2] < TABLE + 0.05)
    target = np.where(ready[:, None], through, np.where(low_elsewhere[:, None], gripper, start))
    target = np.where(done[:, None], gripper, target)
    target[:, 2] = np.where(done, gripper[:, 2], height)
    return _towards(obs, target, CLOSED)


def pick_and_place(obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N 4"]:
    """Over the object, down, close the fingers, and carry it to the goal."""
    gripper, at, goal = obs[:, GRIPPER], obs[:, OBJECT], obs[:, GOAL]
    apart = gripper - at
    across = np.linalg.norm(apart[:, :2], axis=1)
    around = (across < 0.02) & (np.abs(apart[:, 2]) < 0.018)
    held = around & (obs[:, FINGERS].sum(axis=1) < 0.056)
    over = at + np.array([0, 0, 1]) * np.where(across < 0.02, 0.0, CLEAR)[:, None]
    target = np.where(held[:, None], goal + apart * 0.5, over)
    return _towards(obs, target, np.where(around, CLOSED, OPEN))


def slide(obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N 4"]:
    """Behind the puck, then a stroke that ends when the puck is as fast as the rest of its way needs."""
    gripper, at, goal = obs[:, GRIPPER], obs[:, OBJECT], obs[:, GOAL]
    way, distance = _direction(goal - at)
    behind, beside = _relative(gripper - at, way)
    speed = np.einsum("ij,ij->i", (obs[:, OBJECT_SPEED] + obs[:, GRIPPER_SPEED])[:, :2], way[:, :2])
    needed = np.sqrt(2 * BRAKE * np.maximum(distance, 0))
    ready = (behind < -0.01) & (np.abs(beside) < 0.03) & (gripper[:, 2] < TABLE + 0.03)
    gone = (speed > needed) | (behind < -0.25) | (distance < 0.03)
    start = at - RUN_UP * way
    near_start = np.linalg.norm((gripper - start)[:, :2], axis=1) < 0.02
    height = np.where(ready | near_start, TABLE - 0.005, TABLE + CLEAR)
    low_elsewhere = ~ready & ~near_start & (gripper[:, 2] < TABLE + 0.05)
    target = np.where(low_elsewhere[:, None], gripper, start)
    target[:, 2] = height
    action = _towards(obs, target, CLOSED)
    fast = np.clip(STROKE * needed, 0.1, 1.0)[:, None]
    stroke = way * fast - 8.0 * _side(way) * beside[:, None]
    stroke[:, 2] = GAIN * (TABLE - 0.005 - gripper[:, 2])
    action[:, :3] = np.where(ready[:, None], stroke, action[:, :3])
    action[:, :3] = np.where((gone & ready)[:, None], -way * 0.3, action[:, :3])
    return np.clip(action, -1, 1)


BRAKE = 0.0006  # metres a step, each step: how a sliding puck slows down
RUN_UP = 0.09
STROKE = 12.0

SCRIPTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fetch-reach": reach,
    "fetch-push": push,
    "fetch-pick-and-place": pick_and_place,
    "fetch-slide": slide,
}


def _towards(obs: np.ndarray, target: Points, fingers) -> Float[np.ndarray, "N 4"]:
    move = np.clip(GAIN * (target - obs[:, GRIPPER]), -1, 1)
    return np.column_stack([move, np.broadcast_to(fingers, len(obs))])


def _direction(between: Points) -> tuple[Points, Float[np.ndarray, "N"]]:
    """The unit vector along the table, and how far."""
    flat = between * np.array([1.0, 1.0, 0.0])
    distance = np.linalg.norm(flat, axis=1)
    return flat / np.maximum(distance, 1e-6)[:, None], distance


def _side(way: Points) -> Points:
    return np.stack([-way[:, 1], way[:, 0], np.zeros(len(way))], axis=1)


def _relative(apart: Points, way: Points) -> tuple[np.ndarray, np.ndarray]:
    """How far along the way, and how far beside it."""
    return np.einsum("ij,ij->i", apart, way), np.einsum("ij,ij->i", apart, _side(way))
