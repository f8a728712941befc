"""The door of every policy: what callers give is checked before anything is computed or kept.

A loop that is not ours may hand over anything. What cannot be meant is refused in one sentence, and a refused call
changes nothing: the caller can mend it and go on.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.nn import forks
from collectiverl.types import EnvSpec, UserError

Given = Any  # what `numpy.asarray` makes an array of; other things are refused


class CheckedPolicy(ABC):
    """A `types.Policy` that checks all that it is given; what it does stands in `_act`, `_reset` and `_observe`.

    These get arrays of their own, which they may keep. The caller gets actions of its own, which it may change.

    Args:
        obs_dim: entries of an observation; None: any number.
        action_dim: entries of an action; None: any number.
        places: environments that it is made for; None: any number.
    """

    remembers: ClassVar[bool] = False  # something of each environment, from step to step
    uses_jax: ClassVar[bool] = False

    def __init__(self, obs_dim: int | None, action_dim: int | None, places: int | None = None):
        self.obs_dim, self.action_dim, self.places = obs_dim, action_dim, places
        self.num_envs: int | None = None  # that it plays; None: it has not begun

    # -- what a policy does -----------------------------------------------------------------------------------

    @abstractmethod
    def _act(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        """Deterministic actions. Where it raises, the policy is as it was."""

    def _reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:  # noqa: B027  # most have nothing to forget
        """Forgets the running episodes of the environments in `env_mask`; all, where their number is another."""

    def _observe(self, rewards: Float[np.ndarray, "N"]) -> None:  # noqa: B027
        """Takes in the rewards of the step just taken; nan: unknown."""

    # -- what callers call ------------------------------------------------------------------------------------

    def eval_action(self, observations: Given) -> Float[np.ndarray, "N A"]:
        """Actions `[N, A]` in [-1, 1] for observations `[N, O]`.

        Raises:
            UserError: the observations do not suit the policy, or are not finite.
        """
        self._enter()
        obs = _numbers(observations, "observations")
        self._check_rows(obs, "observations", self.obs_dim)
        _check_finite(obs, "the observation of environment")
        if self.remembers and self.num_envs not in (None, len(obs)):
            raise UserError(
                f"there are {len(obs)} observations, but the policy is playing {self.num_envs} environments: "
                f"call reset(numpy.ones({len(obs)}, bool)) before another number of them"
            )
        if self.remembers and self.num_envs is None:
            self.reset(np.ones(len(obs), bool))
        self.num_envs = len(obs)
        action = np.array(self._act(obs), np.float32)
        if action.ndim != 2 or action.shape != (len(obs), self.action_dim or action.shape[1]):
            raise UserError(
                f"this policy gave actions of shape {list(action.shape)}, not "
                f"[{len(obs)}, {self.action_dim or 'A'}]"
            )
        check_computed(action)
        return action

    def reset(self, env_mask: Given) -> None:
        """The environments in `env_mask` `[N]` begin a new episode. All of them may be of another number.

        Raises:
            UserError: the mask does not suit the environments that the policy plays.
        """
        self._enter()
        mask = np.array(env_mask)
        if mask.dtype != bool or mask.ndim != 1 or not mask.size:
            raise UserError(
                f"env_mask is of shape {mask.shape} and type {mask.dtype}, not Booleans of shape [N]: "
                "say of each environment whether it begins a new episode"
            )
        self._check_places(len(mask))
        if self.remembers and self.num_envs not in (None, len(mask)) and not mask.all():
            raise UserError(
                f"env_mask is for {len(mask)} environments, but the policy is playing {self.num_envs}: "
                "another number can only begin all together"
            )
        self._reset(mask)
        self.num_envs = len(mask)

    def observe(self, rewards: Given) -> None:
        """The rewards `[N]` of the step just taken; nan: unknown. Told twice, the last counts.

        Raises:
            UserError: there are not as many as environments, or one is infinite.
        """
        self._enter()
        told = _numbers(rewards, "rewards")
        if told.ndim != 1 or (self.num_envs is not None and len(told) != self.num_envs):
            raise UserError(
                f"rewards are of shape {list(told.shape)}, not [{self.num_envs or 'N'}]: "
                "give one number for each environment"
            )
        _check_finite(np.where(np.isnan(told), 0, told), "the reward of environment")
        if self.num_envs is not None:
            self._observe(told)

    def check(self, spec: EnvSpec) -> None:
        """Whether it can play the task of `spec`, by the shapes.

        Raises:
            UserError: it cannot.
        """
        made_for = self.obs_dim or spec.obs_dim, self.action_dim or spec.action_dim
        if made_for != (spec.obs_dim, spec.action_dim):
            raise UserError(
                f"this policy was made for observations of {made_for[0]} entries and actions of "
                f"{made_for[1]} entries, {spec.task} has {spec.obs_dim} and {spec.action_dim}"
            )

    def check_steps(
        self, obs: Given, action: Given
    ) -> tuple[Float[np.ndarray, "T O"], Float[np.ndarray, "T A"]]:
        """The steps of an episode that is to be labelled, as arrays.

        Raises:
            UserError: they do not suit the policy, or are not finite.
        """
        self._enter()
        found = _numbers(obs, "observations"), _numbers(action, "actions")
        for array, what, entries in zip(
            found, ("observations", "actions"), (self.obs_dim, self.action_dim), strict=True
        ):
            self._check_rows(array, what, entries, each="step")
            _check_finite(array, f"in {what}, that of step")
        if len(found[0]) != len(found[1]):
            raise UserError(
                f"there are {len(found[0])} observations and {len(found[1])} actions: give as many"
            )
        return found

    # -- checks -----------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self.uses_jax:
            forks.use()

    def _check_rows(
        self, array: np.ndarray, what: str, entries: int | None, each: str = "environment"
    ) -> None:
        if array.ndim != 2 or not len(array) or (entries is not None and array.shape[1] != entries):
            raise UserError(
                f"{what} are of shape {list(array.shape)}, not [N, {entries or 'O'}]: give one row for each {each}"
                + (", such as observation[None] for one" if array.ndim == 1 else "")
            )
        if each == "environment":
            self._check_places(len(array))

    def _check_places(self, count: int) -> None:
        if self.places not in (None, count):
            raise UserError(f"this policy was made for {self.places} environments, not for {count}")


def check_computed(values: np.ndarray) -> None:
    """Raises if something that a policy computed is not finite."""
    if not np.isfinite(values).all():
        env = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise UserError(
            f"what this policy computes is not finite in environment {env}: the observations or rewards are too "
            "large for it, or its weights are broken"
        )


def _numbers(given: Given, what: str) -> np.ndarray:
    """An array of floats of its own."""
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} are no array: {error}") from error
    if array.dtype.kind not in "fiu":
        raise UserError(f"{what} are of type {array.dtype}: give an array of numbers")
    return np.array(array, array.dtype if array.dtype.kind == "f" else np.float32)


def _check_finite(array: np.ndarray, where: str) -> None:
    """Whether all is finite in the float32 of the networks."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32))
    if not finite.all():
        row, *entry = np.argwhere(~finite)[0].tolist()
        at = f" at entry {entry[0]}" if entry else ""
        raise UserError(
            f"{where} {row} is {array[(row, *entry)]}{at}, which is not finite in float32: nothing was taken in, so "
            "mend it and call again"
        )
