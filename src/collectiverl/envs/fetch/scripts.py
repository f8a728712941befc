"""Scripted policies of the Fetch tasks; each is a function of the observation alone.

Distances are in metres. An action of 1 moves the gripper by `FULL_SPEED` a step.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "N 3"]
GRIPPER, OBJECT, FINGERS, GOAL = slice(0, 3), slice(3, 6), slice(9, 11), slice(25, 28)
OBJECT_SPEED, GRIPPER_SPEED = slice(14, 17), slice(20, 23)  # a step; the object's is relative to the gripper
FLAT = np.array([1.0, 1.0, 0.0])
GAIN = 12.0  # of the position controller: a tenth of a metre saturates it
OPEN, CLOSED = 1.0, -1.0
TABLE = 0.425  # height of an object's centre on the table
CLEAR = 0.08  # height above the object at which the gripper passes over it
BRAKE = 0.00157  # metres a step, each step: how a sliding puck slows down
FULL_SPEED = 0.031  # metres a step: of the gripper at an action of 1
BOUNCE = 1.5  # speed of the puck after a stroke, in that of the gripper
LEVEL = 0.04  # metres beside the goal at which a puck may come to rest
TAIL = 0.027  # metres that a puck slides further than with `BRAKE` alone, since that is weaker at low speeds
SHORT = (
    0.7  # share of its way that a stroke across sends a puck: it still drifts during the one along the table
)
DIAGONAL = 0.6  # ratio of the speeds along the two axes, from which on a corner of the fingers strikes
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
    """Strokes that send the puck off as fast as its way to the goal needs.

    The closed fingers are a box along the axes of the table. A corner of it sends the puck where it is going itself, a
    side only along an axis. So there is one stroke where the way is nearly diagonal, and otherwise one across the
    table, and one along it as soon as that brings the puck level with the goal.
    """
    gripper, at = obs[:, GRIPPER], obs[:, OBJECT]
    velocity = (obs[:, OBJECT_SPEED] + obs[:, GRIPPER_SPEED]) * FLAT
    rest = at + velocity * np.abs(velocity) / (2 * BRAKE)
    way, needed, level, now = _stroke((obs[:, GOAL] - at) * FLAT, velocity)
    aim = np.where(level[:, None], np.column_stack([at[:, 0], rest[:, 1], at[:, 2]]), at)
    behind, beside = _relative(gripper - aim, way)
    low = gripper[:, 2] < TABLE + 0.03
    ready = (behind < -0.01) & (np.abs(beside) < 0.03) & low & (now | ~level)
    speed = np.einsum("ij,ij->i", velocity, way)
    start = aim - RUN_UP * way
    near_start = np.linalg.norm((gripper - start)[:, :2], axis=1) < 0.02
    target = np.where((low & ~near_start)[:, None], gripper, start)
    target[:, 2] = np.where(near_start, TABLE - 0.005, TABLE + CLEAR)
    action = _towards(obs, target, CLOSED)
    faster = np.clip((speed + (needed - speed) / BOUNCE) / FULL_SPEED, 0.2, 1)
    stroke = faster[:, None] * way - 8.0 * _side(way) * beside[:, None]
    stroke[:, 2] = GAIN * (TABLE - 0.005 - gripper[:, 2])
    sent = (speed > 0.97 * needed)[:, None]
    action[:, :3] = np.where(ready[:, None], np.where(sent, 0.0, stroke), action[:, :3])
    return np.clip(action, -1, 1)


def _stroke(left: Points, velocity: Points) -> tuple[Points, np.ndarray, np.ndarray, np.ndarray]:
    """Direction and speed of the next stroke of a puck; whether it is one along the table, and whether to do it now.

    Args:
        left: from the puck to the goal.
    """
    distance = np.linalg.norm(left, axis=1)
    launch = _launch(left * np.maximum(1 - TAIL / np.maximum(distance, 1e-6), 0)[:, None])
    speeds = np.abs(launch[:, :2])
    diagonal = speeds.min(1) > DIAGONAL * speeds.max(1)
    along = np.sqrt(2 * BRAKE * np.maximum(np.abs(left[:, 0]) - TAIL, 0))
    across = np.sqrt(2 * BRAKE * np.maximum(SHORT * np.abs(left[:, 1]) - TAIL, 0))
    beside = left[:, 1] - velocity[:, 1] * along / BRAKE  # of the goal, after a stroke along the table now
    on_its_way = (velocity[:, 1] * left[:, 1] > 0) & (np.sign(left[:, 1]) * beside < LEVEL)
    level = ~diagonal & ((np.abs(left[:, 1]) < LEVEL) | on_its_way)
    axis = np.where(level[:, None], np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    direction, speed = _direction(launch)
    way = np.where(diagonal[:, None], direction, axis * np.sign(left))
    return way, np.where(diagonal, speed, np.where(level, along, across)), level, np.abs(beside) < LEVEL


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
    flat = between * FLAT
    distance = np.linalg.norm(flat, axis=1)
    return flat / np.maximum(distance, 1e-6)[:, None], distance


def _side(way: Points) -> Points:
    return np.stack([-way[:, 1], way[:, 0], np.zeros(len(way))], axis=1)


def _relative(apart: Points, way: Points) -> tuple[np.ndarray, np.ndarray]:
    """How far along the way, and how far beside it."""
    return np.einsum("ij,ij->i", apart, way), np.einsum("ij,ij->i", apart, _side(way))
