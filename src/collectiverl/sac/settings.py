"""How experts are trained: the settings, and the help that a student has."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

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


class MentorOutput(NamedTuple):
    """What a helper sees in the observations of N environments, kept beside them in the replay."""

    potential: Float[np.ndarray, "N"]  # value of the states, in units of the environment's reward
    advice: Float[np.ndarray, "N A"]  # what the helper would do


class Weights(NamedTuple):
    """What help counts for in an update; zeros are plain SAC."""

    bonus: float = 0.0  # of the reward for the action
    potential: float = 0.0  # of the difference that potentials make to the reward
    imitation: float = 0.0  # of the actor's distance from the advice


@runtime_checkable
class Help(Protocol):
    """What a student has beyond its environment's reward; weighed anew in every update."""

    def look(self, obs: Float[np.ndarray, "N O"]) -> MentorOutput:
        """Once for every observation, before it is acted on."""
        ...

    def act(self, own: Float[np.ndarray, "N A"], env_steps: int) -> Float[np.ndarray, "N A"]:
        """Who acts: the student's own actions, or others in their place."""
        ...

    def bonus(self, step: Step) -> Float[np.ndarray, "N"]:
        """Of the actions just taken."""
        ...

    def weights(self, env_steps: int) -> Weights: ...

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None: ...


class NoHelp:
    """Plain SAC."""

    def look(self, obs: Float[np.ndarray, "N O"]) -> MentorOutput:
        return MentorOutput(np.zeros(len(obs), np.float32), np.zeros((len(obs), 1), np.float32))

    def act(self, own: Float[np.ndarray, "N A"], env_steps: int) -> Float[np.ndarray, "N A"]:
        return own

    def bonus(self, step: Step) -> Float[np.ndarray, "N"]:
        return np.zeros(len(step.obs), np.float32)

    def weights(self, env_steps: int) -> Weights:
        return Weights()

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        pass
