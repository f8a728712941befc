"""`ScriptedPolicy`: plays tasks with the scripts of their suite, and labels episodes with them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from collectiverl.envs.policy import CheckedPolicy, Given
from collectiverl.envs.registry import suite_of
from collectiverl.envs.suite import Script
from collectiverl.types import Labels, UserError

SIGMA = 0.2  # standard deviation in labels: a script has none; this is about a trained expert's


class ScriptedPolicy(CheckedPolicy):
    """Plays environment `i` with the script of `tasks[i]`; keeps nothing from step to step.

    With a single task it plays any number of environments.

    Raises:
        UserError: a task has no script.
    """

    def __init__(self, tasks: Sequence[str]):
        spec = suite_of(tasks[0]).spec(tasks[0])
        super().__init__(spec.obs_dim, spec.action_dim, len(tasks) if len(set(tasks)) > 1 else None)
        self._scripts = {task: _script(task) for task in tasks}
        self._first = tasks[0]
        self._rows = [np.flatnonzero([task == other for other in tasks]) for task in self._scripts]
        self._back = np.argsort(np.concatenate(self._rows))

    def _act(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        if len(self._scripts) == 1:
            return self._play(self._first, obs)
        parts = [self._play(t, obs[rows]) for t, rows in zip(self._scripts, self._rows, strict=True)]
        return np.concatenate(parts)[self._back]

    def label(self, obs: Given, action: Given) -> Labels:
        """The action of the first task's script at every step, with standard deviation `SIGMA` and no Q."""
        obs, _ = self.check_steps(obs, action)
        mean = self._play(self._first, obs)
        return Labels(mean=mean, log_std=np.full_like(mean, np.log(SIGMA)), q=None)

    def _play(self, task: str, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        return np.clip(self._scripts[task](observations), -1, 1).astype(np.float32)


def has_script(task: str) -> bool:
    """Whether the suite of `task` has a scripted policy for it."""
    return suite_of(task).script(task) is not None


def _script(task: str) -> Script:
    script = suite_of(task).script(task)
    if script is None:
        raise UserError(
            f"{task} has no scripted policy: train an expert with 'collectiverl train-task {task}'"
        )
    return script
