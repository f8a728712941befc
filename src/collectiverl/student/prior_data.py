"""`prior-data`: half of each batch, or more, comes from episodes of the collective (Ball et al. 2023, RLPD).

The collective plays in the task before the student does, and its steps count as the student's. While they are more
than half of all steps, they are more than half of each batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.artifacts.validation import MOST_ENVS, at_least, at_most
from collectiverl.data.replay import Replay
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import Step, steps
from collectiverl.sac.batches import Prior, last_row, row_of
from collectiverl.sac.help import MentorOutput
from collectiverl.sac.train import PRIOR
from collectiverl.student.strategy import Guidance
from collectiverl.types import ConfigError


@dataclass(frozen=True, kw_only=True)
class PriorDataConfig:
    """How much the collective plays, how much is learned from it first, and how much success earns trust."""

    num_envs: int = 5  # environments in which the collective plays, side by side
    rounds: int = 2  # of one episode per environment, enough if all succeed; fewer if trust is lost
    most_rounds: int = 4  # rounds at most, if some episodes fail
    updates: int = 1_000  # on these episodes alone, before the student acts; multiplied by trust
    trust_threshold: float = 0.8  # success rate up to which trust is 0; above, it rises to 1 at success 1

    def __post_init__(self) -> None:
        at_least(self, 1, "num_envs", "rounds")
        at_most(self, MOST_ENVS, "num_envs", "most_rounds")
        at_least(self, 0, "updates")
        if self.most_rounds < self.rounds:
            raise ConfigError("most_rounds", f"{self.most_rounds} must be at least rounds={self.rounds}")
        if not 0 <= self.trust_threshold < 1:
            raise ConfigError("trust_threshold", f"{self.trust_threshold} is not in [0, 1)")

    def most(self, horizon: int) -> int:
        """Environment steps that the collective plays, at most."""
        return self.num_envs * self.most_rounds * horizon

    def trust(self, success: float) -> float:
        """The trust, 0 to 1, in a collective with this success rate."""
        return max(0.0, (success - self.trust_threshold) / (1 - self.trust_threshold))


class _MentorPolicy:
    """Plays the collective's own actions; holds the context of its episodes and its latest output."""

    output: MentorOutput

    def __init__(self, guidance: Guidance, tasks: Sequence[str]):
        self.guidance, self.context = guidance, guidance.begin(tasks)

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        self.context, self.output = self.guidance.predict(self.context, observations)
        return self.output.mean

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.context = self.guidance.reset(self.context, env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        """Rewards reach the collective with the whole step, in `finish`."""

    def finish(self, step: Step) -> None:
        self.context = self.guidance.observe(self.context, step)


class Played(NamedTuple):
    """The collective's own episodes in a task."""

    prior: Prior
    success: float  # share of the episodes
    trust: float  # 0 to 1, by `PriorDataConfig.trust`


def play(envs: VectorEnv, guidance: Guidance, config: PriorDataConfig, seed: int) -> Played:
    """Rounds of one episode in each of `config.num_envs` environments.

    If all episodes succeed, `config.rounds` are enough. If some fail, more are played, since few episodes do not
    tell a good collective from a lucky one. Playing ends when success can no longer exceed the trust threshold.
    """
    spec, policy = envs.spec, _MentorPolicy(guidance, envs.tasks)
    capacity = config.most_rounds * (spec.horizon + 2) * envs.num_envs
    memory = Replay(capacity, 1, envs.num_envs, spec.obs_dim, spec.action_dim)
    succeeded: list[np.ndarray] = []
    for round_seed in np.random.SeedSequence([seed, PRIOR]).generate_state(config.most_rounds):
        succeeded.append(_play_round(envs, policy, memory, seed=int(round_seed >> 1)))
        failed = int(np.sum(~np.stack(succeeded)))
        enough = len(succeeded) >= config.rounds
        counted = max(len(succeeded), config.rounds) * envs.num_envs
        if 1 - failed / counted <= config.trust_threshold or (enough and not failed):
            break
    success = float(np.mean(succeeded))
    trust = config.trust(success)
    prior = Prior(memory, trust / 2, int(memory.data.valid.sum()), round(trust * config.updates))
    return Played(prior, success, trust)


def _play_round(
    envs: VectorEnv, policy: _MentorPolicy, memory: Replay, *, seed: int
) -> Bool[np.ndarray, "N"]:
    """Plays one episode in each environment into the memory; returns which succeeded at any step."""
    guidance = policy.guidance
    over, success = np.zeros((2, envs.num_envs), bool)
    for step in steps(envs, policy, seed):
        row = row_of(step, policy.output, guidance.bonus(step, policy.output), 1)
        memory.add(row._replace(valid=row.valid & ~over))
        policy.finish(step)
        success = success | (step.result.success & ~over)
        over = over | step.result.done
        if over.all():
            _, output = guidance.predict(policy.context, step.result.obs)
            memory.add(last_row(step, output, 1))
            break
    return success
