"""What flows through the system: shapes, units, and the one policy interface.

Axis names used throughout: `T` steps of an episode, `N` environments of a vector,
`E` experts trained in one program, `L` steps of a window, `O` observation entries,
`S` state entries (the observation without its frame stack), `A` action entries.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float

if TYPE_CHECKING:
    AnyArray = Any  # a union would not be let into what a compiled function calls
else:
    AnyArray = Array | np.ndarray  # what compiled functions take: on the device, or still on the host

Metrics = dict[str, float]
# An entry of an observation that the task does not have, beside others that do. Not `nan`: that is a defect.
ABSENT = float(np.finfo(np.float32).min)
PHASES = ("training", "random", "learner", "expert", "scripted", "mixed", "logged")


class UserError(Exception):
    """An error that the user can mend: it says what is wrong, where, and what to do. The command line exits with 2."""


class Notice(UserWarning):
    """A warning that a user should see, and that ends nothing."""


class ConfigError(ValueError):
    """A value that a configuration refuses. The parser, which alone knows the path, turns it into a flag.

    Args:
        field: of the configuration that refuses, such as `warmup`; "" where no single field is to blame.
        why: what is wrong with its value and what would be right, such as `2000 exceeds the capacity of 1000`.
    """

    def __init__(self, field: str, why: str):
        super().__init__(f"{field.replace('_', '-')}: {why}" if field else why)
        self.field, self.why = field, why


class StageFailed(Exception):
    """A stage failed because of a defect; its traceback is in a log file. The command line exits with 1."""


@dataclass(frozen=True)
class EnvSpec:
    """Sizes of a task's environment, and what its entries mean; every shape in the program comes from here."""

    task: str
    obs_dim: int
    action_dim: int
    horizon: int  # steps until the time limit
    state_index: tuple[int, ...]  # observation entries that make the state: the current frame and the goal
    goal_index: tuple[int, ...] = ()  # observation entries that are the goal; (): no entry is
    points: tuple[tuple[int, ...], ...] = ()  # positions in one frame, in metres: entries of the state
    moving_index: tuple[int, ...] = ()  # action entries that move the robot, which probing may use

    @property
    def state_dim(self) -> int:
        return len(self.state_index)


class Transition(NamedTuple):
    """An n-step transition as SAC sees it; leading axes are the caller's."""

    obs: Float[AnyArray, "*batch O"]
    action: Float[AnyArray, "*batch A"]
    reward: Float[AnyArray, "*batch"]  # discounted sum over the n steps
    discount: Float[AnyArray, "*batch"]  # gamma^n, 0 at a termination: weight of the next value
    next_obs: Float[AnyArray, "*batch O"]
    advice: Float[AnyArray, "*batch A"] | None = None  # what a mentor would have done; None: not asked for


class ValueUnit(NamedTuple):
    """The unit of a critic's values; values of different units cannot be compared or averaged."""

    reward_scale: float  # by which the environment's rewards were multiplied
    gamma: float  # discount a step


class Labels(NamedTuple):
    """A teacher's policy and value at every step of an episode."""

    mean: Float[np.ndarray, "T A"]  # tanh(mu(s)): in action space
    log_std: Float[np.ndarray, "T A"]  # of the Gaussian before tanh
    q: Float[np.ndarray, "T"] | None  # the smaller critic at the stored (s, a); None: no critic
    unit: ValueUnit | None = None  # of `q`; None where that is None


@dataclass(frozen=True)
class Episode:
    """One episode, from its first observation to its true last one."""

    action: Float[np.ndarray, "T A"]  # first, so that run-time checks know T when they come to T+1
    obs: Float[np.ndarray, "T+1 O"]
    reward: Float[np.ndarray, "T"]  # the environment's, unscaled
    success: Bool[np.ndarray, "T"]
    task: str
    phase: str  # one of PHASES: who acted
    seed: int = 0
    goal: int = -1  # which of the task's fixed goals; -1: drawn afresh
    terminated: bool = False  # False: ended by the time limit
    labels: Labels | None = field(default=None)

    def __len__(self) -> int:
        return len(self.action)


class Window(NamedTuple):
    """The last `L` steps of a trajectory, left-padded; leading axes are the caller's.

    A step is a state with the action and reward that led to it. So a policy that has just seen state `t`
    knows all of step `t`. At an episode's first step the action is zero and the reward unknown.
    """

    state: Float[AnyArray, "*batch L S"]
    action: Float[AnyArray, "*batch L A"]
    reward: Float[AnyArray, "*batch L"]  # nan: unknown, as for a policy that is told no rewards
    mask: Bool[AnyArray, "*batch L"]  # False: padding


@runtime_checkable
class Policy(Protocol):
    """Acts in `N` environments at once. A superset of `metaworld.evaluation.Agent`."""

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        """Actions in [-1, 1], one row for each environment."""
        ...

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        """Forget the running episodes of the environments in `env_mask`."""
        ...

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        """Takes in the rewards of the step just taken, unscaled; policies that read no rewards ignore them."""
        ...


@runtime_checkable
class Teacher(Protocol):
    """Labels the steps of an episode, whoever played it."""

    def label(self, obs: Float[np.ndarray, "T O"], action: Float[np.ndarray, "T A"]) -> Labels:
        """Its own action at each observation, and its value of the action that was taken there."""
        ...


@runtime_checkable
class TeachingPolicy(Policy, Teacher, Protocol):
    """A policy that can also label the steps of others."""
