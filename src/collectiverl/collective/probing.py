"""Probing: a small deterministic movement that is added to the action where the policy hardly moves.

Where only rewards tell the goal, a policy that stands still gets no new information, and may stop short of the goal.
The added movement fades as the policy's own action grows; it is zero where an entry of that is at its limit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from collectiverl.artifacts.validation import at_least, between
from collectiverl.types import AnyArray


@dataclass(frozen=True, kw_only=True)
class ProbingConfig:
    """A small periodic movement, added to the actions where the policy hardly moves."""

    amplitude: float = 0.0  # largest added action, where 1 is the action's limit; 0: no probing
    period: float = 12.0  # steps of one period

    def __post_init__(self) -> None:
        between(self, 0, 1, "amplitude")
        at_least(self, 2, "period")


def probe(
    action: Float[AnyArray, "N A"],
    age: Real[AnyArray, "N"],
    config: ProbingConfig,
    moving: tuple[int, ...],
    xp: Any = np,
) -> Float[AnyArray, "N A"]:
    """The action with the pattern added to its `moving` entries.

    Args:
        age: steps that each running episode has lasted; the phase of the pattern depends on it alone.
        moving: entries of the action that move the robot; the others, such as a gripper's, are left alone.
        xp: `numpy`, or `jax.numpy` inside a function that is traced.
    """
    if not config.amplitude or not moving:
        return action
    chosen = list(moving)
    place = np.arange(len(chosen))
    turns = 2 * np.pi * age[:, None] / config.period
    # a sine, a cosine, then slower ones: no two entries move alike
    pattern = xp.sin(turns / np.maximum(place, 1) + np.pi / 2 * (place == 1))
    commanded = xp.abs(action[:, chosen]).max(axis=1, keepdims=True)
    added = config.amplitude * xp.maximum(0, 1 - commanded) * pattern
    moved = action + added @ np.eye(action.shape[1])[chosen]
    return xp.clip(moved, -1, 1).astype(np.float32)
