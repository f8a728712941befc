"""Probing: a small deterministic movement that is added to the action where the policy hardly moves.

Where only rewards tell the goal, a policy that stands still gets no new information, and may stop short of the goal.
The added movement fades as the policy's own action grows; it is zero where an entry of that is at its limit.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from collectiverl.artifacts.validation import at_least, between


@dataclass(frozen=True, kw_only=True)
class ProbingConfig:
    """A small periodic movement, added to the actions where the policy hardly moves."""

    amplitude: float = 0.0  # largest added action, where 1 is the action's limit; 0: no probing
    period: float = 12.0  # steps of one period

    def __post_init__(self) -> None:
        between(self, 0, 1, "amplitude")
        at_least(self, 2, "period")


def probe(
    action: Float[np.ndarray, "N A"],
    age: Int[np.ndarray, "N"],
    config: ProbingConfig,
    moving: tuple[int, ...],
) -> Float[np.ndarray, "N A"]:
    """The action with the pattern added to its `moving` entries.

    Args:
        age: steps that each running episode has lasted; the phase of the pattern depends on it alone.
        moving: entries of the action that move the robot; the others, such as a gripper's, are left alone.
    """
    if not config.amplitude:
        return action
    chosen = list(moving)
    turns = 2 * np.pi * age[:, None] / config.period
    # a sine, a cosine, then slower ones: no two entries move alike
    pattern = np.sin(
        turns / np.maximum(np.arange(len(chosen)), 1) + np.pi / 2 * (np.arange(len(chosen)) == 1)
    )
    commanded = np.abs(action[:, chosen]).max(axis=1, keepdims=True)
    moved = action.copy()
    moved[:, chosen] += config.amplitude * np.maximum(0, 1 - commanded) * pattern
    return np.clip(moved, -1, 1).astype(np.float32)
