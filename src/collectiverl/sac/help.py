"""The help that a student gets beyond its environment's reward."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.envs.rollout import Step

C = TypeVar("C")  # the context of running episodes


class MentorOutput(NamedTuple):
    """A helper's policy and value at the observations of N environments."""

    mean: Float[np.ndarray, "N A"]  # the action it advises, tanh(mu): in action space; nan: none
    log_std: Float[np.ndarray, "N A"]  # of its Gaussian before tanh
    value: Float[np.ndarray, "N"]  # of the observations, in units of the environment's reward


class Weights(NamedTuple):
    """The weights of a helper's parts in an update; with zeros it is plain SAC."""

    bonus: float = 0.0  # of the reward for the action
    potential: float = 0.0  # of the difference of potentials that is added to the reward
    imitation: float = 0.0  # of the actor's distance from the advice, where the critics prefer the advice
    anchor: float = 0.0  # of the same distance in all states

    @property
    def advised(self) -> bool:
        """Whether an update reads the advice."""
        return bool(self.imitation or self.anchor)


@runtime_checkable
class Help(Protocol[C]):
    """What a student has beyond its environment's reward.

    The running episodes are a value, the context, which the caller holds. `begin`, `reset` and `observe` return the
    next context, `predict` the next context and an output; `act`, `bonus` and `weights` change nothing.
    Each step is: `predict`, `act`, `bonus`, `observe`.
    """

    def begin(self, tasks: Sequence[str]) -> C:
        """The context of environments that play these tasks, before their first observation."""
        ...

    def reset(self, context: C, env_mask: Bool[np.ndarray, "N"]) -> C:
        """New episodes begin in the environments of the mask."""
        ...

    def predict(self, context: C, obs: Float[np.ndarray, "N O"]) -> tuple[C, MentorOutput]:
        """The output at the latest observations, before they are acted on."""
        ...

    def act(
        self, own: Float[np.ndarray, "N A"], output: MentorOutput, context: C, env_steps: int
    ) -> Float[np.ndarray, "N A"]:
        """The actions that are taken: the student's own, or the helper's in some environments."""
        ...

    def bonus(self, step: Step, output: MentorOutput) -> Float[np.ndarray, "N"]:
        """The reward, before it is weighted, for the actions of a step; `output` is that of its observations."""
        ...

    def observe(self, context: C, step: Step) -> C:
        """The step was taken and rewarded."""
        ...

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        """The weights of an update that is made after so many environment steps.

        Args:
            acting: False before the student acts, while it learns from a prior alone.
        """
        ...


class NoHelp:
    """Plain SAC. Its context is the number of environments."""

    def begin(self, tasks: Sequence[str]) -> int:
        return len(tasks)

    def reset(self, context: int, env_mask: Bool[np.ndarray, "N"]) -> int:
        return context

    def predict(self, context: int, obs: Float[np.ndarray, "N O"]) -> tuple[int, MentorOutput]:
        zeros = np.zeros((context, 1), np.float32)
        return context, MentorOutput(zeros, zeros, zeros[:, 0])

    def act(
        self, own: Float[np.ndarray, "N A"], output: MentorOutput, context: int, env_steps: int
    ) -> Float[np.ndarray, "N A"]:
        return own

    def bonus(self, step: Step, output: MentorOutput) -> Float[np.ndarray, "N"]:
        return np.zeros(len(step.obs), np.float32)

    def observe(self, context: int, step: Step) -> int:
        return context

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        return Weights()


@dataclass(frozen=True)
class Demonstrated(NoHelp):
    """SAC beside demonstrations that its actor imitates; of its own steps nobody says what to do."""

    imitation: float  # weight of the demonstrations' actions, where the critics prefer them

    def predict(self, context: int, obs: Float[np.ndarray, "N O"]) -> tuple[int, MentorOutput]:
        context, nothing = super().predict(context, obs)
        return context, nothing._replace(mean=np.full((context, 1), np.nan, np.float32))

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        return Weights(imitation=self.imitation)
