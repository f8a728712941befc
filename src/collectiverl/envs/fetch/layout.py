"""The one observation of all Fetch tasks: what the robot and its object do, then the goal.

Gymnasium-Robotics describes its entries in the documentation of `FetchPush`. `FetchReach` has no object: its entries
are zero.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from collectiverl.types import EnvSpec

# places of the entries that an observation without an object has: gripper, fingers, and their velocities
WITHOUT_OBJECT = (0, 1, 2, 9, 10, 20, 21, 22, 23, 24)
STATE, GOAL = 25, 3  # entries
GOAL_INDEX = tuple(range(STATE, STATE + GOAL))
GRIPPER, OBJECT = (0, 1, 2), (3, 4, 5)
HORIZON = 50


def flatten(obs: Mapping[str, Float[np.ndarray, "*N _"]]) -> Float[np.ndarray, "*N 28"]:
    """A dictionary of Gymnasium-Robotics, or several at once, as the suite's observation."""
    state, goal = obs["observation"], obs["desired_goal"]
    whole = np.zeros((*state.shape[:-1], STATE + GOAL), np.float32)
    whole[..., list(range(STATE) if state.shape[-1] == STATE else WITHOUT_OBJECT)] = state
    whole[..., STATE:] = goal
    return whole


def fetch_spec(task: str) -> EnvSpec:
    return EnvSpec(
        task=task,
        obs_dim=STATE + GOAL,
        action_dim=4,
        horizon=HORIZON,
        state_index=tuple(range(STATE + GOAL)),
        goal_index=GOAL_INDEX,
        points=(GRIPPER, OBJECT, GOAL_INDEX),
        moving_index=(0, 1, 2),
    )
