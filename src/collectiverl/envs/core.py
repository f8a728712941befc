"""The vector protocol that every environment backend speaks.

Auto-reset is Gymnasium's next-step mode: the step that ends an episode returns its true last observation;
the next call ignores its action for that environment, returns the new episode's first observation and
says so in `began`. Such a call is not a transition.
"""

from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.types import EnvSpec


def limited(spec: EnvSpec, horizon: int | None) -> EnvSpec:
    """The same environment with its episodes cut after `horizon` steps, if that is sooner than its own limit."""
    return spec if horizon is None else replace(spec, horizon=min(horizon, spec.horizon))


class StepResult(NamedTuple):
    obs: Float[np.ndarray, "N O"]  # float32; at an episode's end its true last observation
    reward: Float[np.ndarray, "N"]  # float32, the environment's own scale
    terminated: Bool[np.ndarray, "N"]
    truncated: Bool[np.ndarray, "N"]  # the time limit
    success: Bool[np.ndarray, "N"]  # at this step
    began: Bool[np.ndarray, "N"]  # a new episode began: action ignored, not a transition

    @property
    def done(self) -> Bool[np.ndarray, "N"]:
        return self.terminated | self.truncated


@runtime_checkable
class VectorEnv(Protocol):
    """`N` environments stepped together; everything after `reset(seed)` follows from it and the actions."""

    @property
    def spec(self) -> EnvSpec: ...

    @property
    def num_envs(self) -> int: ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task of each environment, length N."""
        ...

    def goals(self) -> Int[np.ndarray, "N"]:
        """Which of its task's fixed goals each running episode has; -1: drawn afresh."""
        ...

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]: ...

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult: ...

    def close(self) -> None: ...
