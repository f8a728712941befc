"""Scripted policies of the Fetch tasks; each is a function of the observation alone.

Distances are in metres. An action of 1 moves the gripper by `FULL_SPEED` a step.
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
BRAKE = 0.00157  # metres a step, each step: how a sliding puck slows down
FULL_SPEED = 0.031  # metres a step: of the gripper at an action of 1
BOUNCE = 1.4  # speed of the puck after a stroke, in that of the gripper
RUN_UP = 0.11  # metres behind the puck from which a stroke begins


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
    """Behind the puck, then a stroke that sends it off as fast as its way needs; if it was weak, another."""
    gripper, at, goal = obs[:, GRIPPER], obs[:, OBJECT], obs[:, GOAL]
    way, needed = _direction(_launch(goal - at))
    behind, beside = _relative(gripper - at, way)
    speed = np.einsum("ij,ij->i", obs[:, OBJECT_SPEED] + obs[:, GRIPPER_SPEED], way)
    low = gripper[:, 2] < TABLE + 0.03
    ready = (behind < -0.01) & (np.abs(beside) < 0.03) & low
    sent = (speed > 0.97 * needed) | (np.linalg.norm((goal - at)[:, :2], axis=1) < 0.03)
    start = at - RUN_UP * way
    near_start = np.linalg.norm((gripper - start)[:, :2], axis=1) < 0.02
    target = np.where((low & ~near_start)[:, None], gripper, start)
    target[:, 2] = np.where(near_start, TABLE - 0.005, TABLE + CLEAR)
    action = _towards(obs, target, CLOSED)
    stroke = np.minimum(needed / (BOUNCE * FULL_SPEED), 1)[:, None] * way - 8.0 * _side(way) * beside[:, None]
    stroke[:, 2] = GAIN * (TABLE - 0.005 - gripper[:, 2])
    action[:, :3] = np.where(ready[:, None], np.where(sent[:, None], 0.0, stroke), action[:, :3])
    return np.clip(action, -1, 1)


def _launch(offset: Points) -> Points:
    """The speed, in metres a step, with which a puck comes to rest at this offset.

    MuJoCo's friction cone is a pyramid: a puck is slowed along the axis of its larger speed alone until both are
    equal, then by half as much along each. With speeds v1 >= v2 along the two axes it comes to rest at
    ((v1^2 + v2^2) / 2b, v1 v2 / b), where b is `BRAKE`. So (v1 + v2)^2 and (v1 - v2)^2 follow from the offset.
    """
    size = np.abs(offset[:, :2])
    both, apart = np.sqrt(2 * BRAKE * size.sum(1)), np.sqrt(2 * BRAKE * np.abs(size[:, 0] - size[:, 1]))
    larger, smaller = (both + apart) / 2, (both - apart) / 2
    along_x = size[:, 0] >= size[:, 1]
    speeds = np.stack([np.where(along_x, larger, smaller), np.where(along_x, smaller, larger)], axis=1)
    return np.column_stack([np.sign(offset[:, :2]) * speeds, np.zeros(len(offset))])


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
