"""The protocol of a vector of environments, which every backend implements.

Automatic resets are Gymnasium's next-step mode. The step that ends an episode returns its true last observation. The
next step ignores that environment's action, returns the first observation of a new episode, and sets `began`: it is
not a transition.
"""

from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.types import EnvSpec


def limited(spec: EnvSpec, horizon: int | None) -> EnvSpec:
    """The same environment with a time limit of `horizon` steps, if that is less than its own."""
    return spec if horizon is None else replace(spec, horizon=min(horizon, spec.horizon))


class StepResult(NamedTuple):
    obs: Float[np.ndarray, "N O"]  # float32; at an episode's end its true last observation
    reward: Float[np.ndarray, "N"]  # float32, the environment's own scale
    terminated: Bool[np.ndarray, "N"]
    truncated: Bool[np.ndarray, "N"]  # the time limit
    success: Bool[np.ndarray, "N"]  # at this step
    began: Bool[np.ndarray, "N"]  # a new episode began: the action was ignored, this is no transition

    @property
    def done(self) -> Bool[np.ndarray, "N"]:
        return self.terminated | self.truncated


@runtime_checkable
class VectorEnv(Protocol):
    """`N` environments stepped together. What they return depends only on the seed of `reset` and the actions."""

    @property
    def spec(self) -> EnvSpec: ...

    @property
    def num_envs(self) -> int: ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task of each environment, length N."""
        ...

    def goals(self) -> Int[np.ndarray, "N"]:
        """The number of each running episode's goal; `FRESH` (-1) if it was drawn afresh."""
        ...

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]: ...

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult: ...

    def close(self) -> None: ...


@runtime_checkable
class Leavable(Protocol):
    """Environments of which some can be left behind, whose episodes nobody needs."""

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        """Those of the mask take no more steps until the next reset.

        Their results repeat their last observation, with no reward, no success, no end and no beginning.
        """
        ...


def leave(envs: VectorEnv, over: Bool[np.ndarray, "N"]) -> None:
    """Leaves those of the mask behind, if these environments can; else they play on."""
    if isinstance(envs, Leavable):
        envs.leave(over)


@runtime_checkable
class ThreadedVectorEnv(VectorEnv, Protocol):
    """Environments that step in threads of their own: `step` is `step_async`, then `step_wait`, as in Gymnasium's."""

    def step_async(self, action: Float[np.ndarray, "N A"]) -> None:
        """Begins a step; others can begin theirs meanwhile."""
        ...

    def step_wait(self) -> StepResult:
        """The result of the step that was begun."""
        ...
