"""`prior-data`: a share of each batch comes from episodes of the collective (Ball et al. 2023, RLPD).

The collective plays in the task before the student does, in place of a random warm-up, whether it succeeds or not.
Its steps count as the student's, and are drawn at least as often as these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.artifacts.validation import MOST_ENVS, at_least, at_most, between
from collectiverl.data.replay import Replay
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import Step, steps
from collectiverl.sac.batches import Prior, last_row, row_of
from collectiverl.sac.help import Help, MentorOutput
from collectiverl.sac.learner import PRIOR


@dataclass(frozen=True, kw_only=True)
class PriorDataConfig:
    """How much the collective plays, and how much is learned from that first."""

    episodes: int = 10  # that the collective plays, side by side
    updates: int = 500  # on these episodes alone, before the student acts
    share: float = 0.0  # of each batch, at least; 0: as often as the student's own steps

    def __post_init__(self) -> None:
        at_least(self, 1, "episodes")
        at_most(self, MOST_ENVS, "episodes")
        at_least(self, 0, "updates")
        between(self, 0, 1, "share")


class _MentorPolicy:
    """Plays the collective's own actions; holds the context of its episodes and its latest output."""

    output: MentorOutput

    def __init__(self, help: Help[Any], tasks: Sequence[str]):
        self.help, self.context = help, help.begin(tasks)

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        self.context, self.output = self.help.predict(self.context, observations)
        return self.output.mean

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.context = self.help.reset(self.context, env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        """Rewards reach the collective with the whole step, in `finish`."""

    def finish(self, step: Step) -> None:
        self.context = self.help.observe(self.context, step)


class Played(NamedTuple):
    """The collective's own episodes in a task."""

    prior: Prior
    success: float  # share of the episodes

    @property
    def lessons(self) -> dict[str, float]:
        """What a student's summary says of them."""
        return {"mentor_success": self.success, "mentor_steps": self.prior.env_steps}


def play(envs: VectorEnv, help: Help[Any], config: PriorDataConfig, seed: int) -> Played:
    """One episode in each environment, by the actions that `help` advises."""
    spec = envs.spec
    memory = Replay((spec.horizon + 2) * envs.num_envs, 1, envs.num_envs, spec.obs_dim, spec.action_dim)
    [round_seed] = np.random.SeedSequence([seed, PRIOR]).generate_state(1)
    succeeded = _play_round(envs, _MentorPolicy(help, envs.tasks), memory, seed=int(round_seed >> 1))
    prior = Prior(memory, config.share, int(memory.data.valid.sum()), config.updates)
    return Played(prior, float(np.mean(succeeded)))


def _play_round(
    envs: VectorEnv, policy: _MentorPolicy, memory: Replay, *, seed: int
) -> Bool[np.ndarray, "N"]:
    """Plays one episode in each environment into the memory; returns which succeeded at any step."""
    help = policy.help
    over, success = np.zeros((2, envs.num_envs), bool)
    for step in steps(envs, policy, seed):
        row = row_of(step, policy.output, help.bonus(step, policy.output), 1)
        memory.add(row._replace(valid=row.valid & ~over))
        policy.finish(step)
        success = success | (step.result.success & ~over)
        over = over | step.result.done
        if over.all():
            _, output = help.predict(policy.context, step.result.obs)
            memory.add(last_row(step, output, 1))
            break
    return success
