"""Scripted policies: Meta-World's, one a task, and the optimal ones of the toy tasks."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.envs.tasks import is_toy
from collectiverl.envs.toy import optimal_action
from collectiverl.types import Labels

SIGMA = 0.2  # a scripted policy has no spread of its own; about that of a trained expert


class ScriptedPolicy:
    """Plays environment `i` with the script of `tasks[i]`; keeps nothing from step to step.

    With a single task it plays any number of environments.
    """

    def __init__(self, tasks: Sequence[str]):
        scripts = {task: _script(task) for task in tasks}
        self._scripts = [scripts[task] for task in tasks]

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        shared = len(self._scripts) == 1
        return _play(self._scripts * len(observations) if shared else self._scripts, observations)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        """Nothing to forget."""

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        """Reads no rewards."""

    def label(self, obs: Float[np.ndarray, "T O"], action: Float[np.ndarray, "T A"]) -> Labels:
        """What the first task's script does at every step, with `SIGMA` as spread and no Q."""
        mean = _play([self._scripts[0]] * len(obs), obs)
        return Labels(mean=mean, log_std=np.full_like(mean, np.log(SIGMA)), q=None)


Script = Callable[[np.ndarray], np.ndarray]


def _script(task: str) -> Script:
    if is_toy(task):
        return partial(optimal_action, task)
    from metaworld.policies import ENV_POLICY_MAP  # here: the toy tasks do without Meta-World

    return ENV_POLICY_MAP[task]().get_action


def _play(scripts: Sequence[Script], observations: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():  # the scripts aim beyond the action space, and are clipped to it here
        warnings.filterwarnings("ignore", message="Constant", module="metaworld")
        actions = [script(obs) for script, obs in zip(scripts, observations, strict=True)]
    return np.clip(actions, -1, 1).astype(np.float32)
