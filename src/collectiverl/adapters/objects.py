"""Anything that acts, as a policy that also teaches: a user's own object, or a model of another library.

An object acts by `eval_action(observations)`, as Meta-World's `Agent` does; or by `predict(observations,
deterministic=True)`, as models of Stable-Baselines3 do; or by being called with observations. `reset(env_mask)` and
`observe(rewards)` are called if it has them.

If it has `label(observations, actions)`, that gives its mean action, log-deviation and value of every step, see
`_labels`. If not, its label is its action with the deviation of a scripted policy, and without a value; then it has to
act on the latest observation alone, since the steps of an episode are labelled side by side.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.envs.policy import CheckedPolicy
from collectiverl.envs.scripted import SIGMA
from collectiverl.imports import calling, load_object
from collectiverl.types import EnvSpec, Labels, UserError, ValueUnit

ACTS = ("eval_action", "predict")
LEAST_LOG_STD, LARGEST_LOG_STD = -20.0, 2.0


class ObjectPolicy(CheckedPolicy):
    """A user's object as a `types.TeachingPolicy`. What it gives is checked, too.

    Args:
        name: for messages.
        spec: of the task that it plays, if that is known.

    Raises:
        UserError: it does not act.
    """

    def __init__(self, acting: Any, name: str, spec: EnvSpec | None = None):
        super().__init__(spec.obs_dim if spec else None, spec.action_dim if spec else None)
        self.acting, self.name, self.spec = acting, name, spec
        self.act = _how(acting, name)

    def _act(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        with calling(self.name, "act"):
            found = self.act(obs)
        return np.clip(self._checked(found, "action", len(obs)), -1, 1)

    def _reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self._tell("reset", env_mask)

    def _observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self._tell("observe", rewards)

    def label(self, obs: Float[np.ndarray, "T O"], action: Float[np.ndarray, "T A"]) -> Labels:
        obs, action = self.check_steps(obs, action)
        if not hasattr(self.acting, "label"):
            self.reset(np.ones(len(obs), bool))
            mean = self.eval_action(obs)
            return Labels(mean, np.full_like(mean, np.log(SIGMA)), None)
        with calling(self.name, "label steps"):
            found = self.acting.label(obs, action)
        return self._labels(found, len(obs))

    def _tell(self, what: str, value: np.ndarray) -> None:
        if hasattr(self.acting, what):
            with calling(self.name, what):
                getattr(self.acting, what)(value)

    def _labels(self, found: Any, steps: int) -> Labels:
        """From `(mean, log_std, q, unit)` of T steps.

        `mean` [T, A] is the action in [-1, 1]; `log_std` [T, A] the log-deviation of the Gaussian before tanh, or None;
        `q` [T] the value of the given actions, or None; `unit` the reward scale and the discount of `q`.
        """
        if not isinstance(found, tuple) or not 1 <= len(found) <= len(Labels._fields):
            raise UserError(
                f"label of {self.name} gave {_shown(found)}: give a tuple (mean, log_std, q, unit), in which "
                "log_std may be None, and q and unit too"
            )
        mean, log_std, q, unit = (*found, *(None,) * (4 - len(found)))
        mean = np.clip(self._checked(mean, "mean", steps), -1, 1)
        spread = self._spread(np.log(SIGMA) if log_std is None else log_std, mean)
        if q is None:
            return Labels(mean, spread, None)
        if unit is None:
            raise UserError(
                f"label of {self.name} gave values without their unit: give (mean, log_std, q, (reward_scale, gamma)), "
                "with (1.0, 0.99) for the environment's own rewards and a discount of 0.99"
            )
        return Labels(mean, spread, self._checked(q, "q", steps), self._unit(unit))

    def _spread(self, found: Any, mean: np.ndarray) -> np.ndarray:
        """The log-deviations of all steps, also from one for each entry of the actions, or one for all."""
        with contextlib.suppress(TypeError, ValueError):  # what fits nothing is named by the check
            found = np.broadcast_to(np.asarray(found, np.float32), mean.shape)
        return np.clip(self._checked(found, "log_std", len(mean)), LEAST_LOG_STD, LARGEST_LOG_STD)

    def _unit(self, found: Any) -> ValueUnit:
        try:
            reward_scale, gamma = map(float, found)
        except (TypeError, ValueError):
            reward_scale, gamma = np.nan, np.nan
        if not (0 < reward_scale < np.inf and 0 <= gamma <= 1):
            raise UserError(
                f"label of {self.name} gave {_shown(found)} as the unit of its values: give (reward_scale, gamma), a "
                "number above 0 and one from 0 to 1, with (1.0, 0.99) for the environment's own rewards"
            )
        return ValueUnit(reward_scale, gamma)

    def _checked(self, found: Any, what: str, count: int) -> np.ndarray:
        """What the object gave for each of `count` observations, as finite floats of the right shape."""
        try:
            array = np.asarray(found, np.float32)
        except (TypeError, ValueError):
            raise UserError(f"{self.name} gave no array as {what}, but {_shown(found)}") from None
        wanted = (count,)
        if what != "q":
            wanted += (self.spec.action_dim,) if self.spec else array.shape[1:2]
        if array.shape != wanted:
            task = f" of {self.spec.task}" if self.spec else ""
            raise UserError(
                f"{self.name} gave {what} of shape {array.shape} for {count} observations{task}: it should be {wanted}"
            )
        if not np.isfinite(array).all():
            raise UserError(f"{self.name} gave {what} with entries that are not finite")
        return array


def object_policy(path: str, spec: EnvSpec | None = None) -> ObjectPolicy:
    """The policy that a user names as `package.module:name`: an object that acts, or what makes one.

    A function or class is called with the name of the task, if it takes an argument.

    Raises:
        UserError: there is no such object, it fails, or it does not act.
    """
    return ObjectPolicy(made(path, spec.task if spec else None), path, spec)


def made(path: str, task: str | None) -> Any:
    """The object itself, or what it makes for this task.

    Raises:
        UserError: there is no such object, or it fails.
    """
    found = load_object(path)
    if _acts(found) and not isinstance(found, type):
        return found
    if not callable(found):
        raise UserError(f"{path} is {_shown(found)}: name a function that makes a policy, or a policy")
    if not _takes_argument(found):
        with calling(path, "make a policy"):
            return found()
    if task is None:
        raise UserError(
            f"{path} makes a policy for a task: say which one, as load_policy({path!r}, task=…) does"
        )
    with calling(path, f"make a policy for {task}"):
        return found(task)


def _acts(found: Any) -> bool:
    return any(hasattr(found, name) for name in ACTS)


def _takes_argument(function: Callable[..., Any]) -> bool:
    """Whether it must or can be called with one argument."""
    try:
        inspect.signature(function).bind("task")
    except TypeError:
        return False
    except ValueError:  # a builtin does not say
        return True
    return True


def _how(acting: Any, name: str) -> Callable[[np.ndarray], Any]:
    """The function from observations to actions."""
    if hasattr(acting, "eval_action"):
        return acting.eval_action
    if hasattr(acting, "predict"):
        return lambda observations: acting.predict(observations, deterministic=True)[0]
    if callable(acting) and not isinstance(acting, type):
        return acting
    raise UserError(
        f"{name} gives {_shown(acting)}, which does not act: it needs eval_action(observations), as Meta-World's Agent "
        "has it, or predict(observations, deterministic=True), as Stable-Baselines3 has it"
    )


def _shown(found: Any, most: int = 60) -> str:
    text = repr(found)
    return f"{type(found).__name__} {text[:most]}{'…' * (len(text) > most)}"
