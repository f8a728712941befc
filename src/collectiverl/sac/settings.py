"""How experts are trained: the settings, and the reward shaping that a student adds."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.envs.rollout import Step
from collectiverl.sac.agent import SACConfig


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which training episodes are copied aside into `buffer_distill`."""

    period: int = 10_000  # environment steps from one sampling to the next
    warmup: int = 8_000  # environment steps before the first
    episodes: int = 2  # the last complete ones, at each sampling

    def __post_init__(self) -> None:
        if self.period < 1 or self.episodes < 0 or self.warmup < 0:
            raise ValueError(
                f"sampling.period={self.period} must be positive, "
                f"sampling.episodes={self.episodes} and sampling.warmup={self.warmup} not negative"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one expert is trained."""

    steps: int = 200_000  # environment steps, at most
    num_envs: int = 32
    updates_per_step: int = 4  # after each vector step, which is `num_envs` environment steps
    horizon: int | None = 200  # steps of a training episode, at most; None: the environment's own limit
    noise_hold: int = 8  # vector steps for which exploration keeps its noise; 1: white noise
    warmup: int = 2_000  # random transitions before the first update
    capacity: int = 1_000_000  # transitions in the replay
    eval_every: int = 8_000  # environment steps
    eval_episodes: int = 20
    eval_envs: int = 5  # at most, that play them: a simulator of Meta-World takes 30 MB
    stop_success: float = 0.95  # stop when an evaluation has reached this …
    stop_evaluations: int = 2  # … this many times in a row; 0: never
    checkpoint_every: int = 50_000  # environment steps
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    sac: SACConfig = field(default_factory=SACConfig)

    def __post_init__(self) -> None:
        for name in (
            *("steps", "num_envs", "updates_per_step", "noise_hold", "warmup"),
            *("eval_every", "eval_episodes", "eval_envs", "checkpoint_every"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')}={getattr(self, name)} must be at least 1")
        if self.horizon is not None and self.horizon < 1:
            raise ValueError(f"--horizon={self.horizon} must be at least 1")
        if self.warmup > self.capacity:
            raise ValueError(f"--warmup={self.warmup} exceeds --capacity={self.capacity}")
        if self.warmup >= self.steps:
            raise ValueError(
                f"--warmup={self.warmup} must lie below --steps={self.steps}: nothing would be learned"
            )
        if not 0 <= self.stop_success <= 1 or self.stop_evaluations < 0:
            raise ValueError(
                f"--stop-success={self.stop_success} must lie in [0, 1], "
                f"--stop-evaluations={self.stop_evaluations} must not be negative"
            )


@runtime_checkable
class Shaping(Protocol):
    """What a student's reward gains: `weight(t) * bonus`, recomputed with the weight of the day."""

    def bonus(self, step: Step) -> Float[np.ndarray, "N"]: ...

    def weight(self, env_steps: int) -> float: ...

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None: ...


class NoShaping:
    """Plain SAC."""

    def bonus(self, step: Step) -> Float[np.ndarray, "N"]:
        return np.zeros(len(step.obs), np.float32)

    def weight(self, env_steps: int) -> float:
        return 0.0

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        pass
