"""`prior-data`: half of each batch, or more, comes from episodes of the collective (Ball et al. 2023, RLPD).

It plays there before the student does, and its steps count as the student's: as long as they are more than half of
all that was seen, they are more than half of each batch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.data.replay import Replay
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import steps
from collectiverl.sac.settings import MentorOutput
from collectiverl.sac.train import PRIOR, Prior, last_row, row_of
from collectiverl.student.strategy import Guidance


@dataclass(frozen=True, kw_only=True)
class PriorDataConfig:
    """How much the collective plays, how much is learned from it at first, and when it is not trusted."""

    num_envs: int = 5  # in which the collective plays, side by side
    rounds: int = 2  # of episodes, as long as they may still earn trust; if all succeed, these are enough
    most_rounds: int = 4  # if some fail
    updates: int = 1_000  # on these alone, before the student acts
    trust_threshold: float = (
        0.8  # success up to which the collective is not trusted; from there trust rises to 1 at 1
    )

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.rounds < 1 or self.updates < 0 or self.most_rounds < self.rounds:
            raise ValueError(
                f"strategy.prior-data: num-envs={self.num_envs} and rounds={self.rounds} must be at least 1, "
                f"most-rounds={self.most_rounds} no fewer than rounds, updates={self.updates} not negative"
            )
        if not 0 <= self.trust_threshold < 1:
            raise ValueError(f"strategy.prior-data.trust-threshold={self.trust_threshold} is not in [0, 1)")

    def most(self, horizon: int) -> int:
        """Environment steps that the collective plays, at most."""
        return self.num_envs * self.most_rounds * horizon


class _Playing:
    """The collective as a policy that remembers what it saw."""

    sight: MentorOutput

    def __init__(self, guidance: Guidance):
        self.guidance = guidance

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        self.sight = self.guidance.look(observations)
        return self.sight.advice

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.guidance.reset(env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        pass  # its guidance tells the collective


class Played(NamedTuple):
    """What the collective did in a task."""

    prior: Prior
    success: float  # share of its episodes
    trust: float  # that it earned


def play(envs: VectorEnv, guidance: Guidance, config: PriorDataConfig, seed: int) -> Played:
    """Rounds of one episode in each of `config.num_envs` environments.

    At least half of each batch is theirs if all succeeded. A collective that fails now and then plays more, since
    few episodes do not tell a good one from a lucky one, and is trusted less; one that fails often is not at all.
    """
    spec, policy = envs.spec, _Playing(guidance)
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
    trust = max(0.0, (success - config.trust_threshold) / (1 - config.trust_threshold))
    prior = Prior(memory, trust / 2, int(memory.data.valid.sum()), round(trust * config.updates))
    return Played(prior, success, trust)


def _play_round(envs: VectorEnv, policy: _Playing, memory: Replay, *, seed: int) -> Bool[np.ndarray, "N"]:
    """One episode in each environment, into the memory; whether it succeeded at any step."""
    over, success = np.zeros((2, envs.num_envs), bool)
    for step in steps(envs, policy, seed):
        row = row_of(step, policy.sight, policy.guidance.bonus(step), 1)
        memory.add(row._replace(valid=row.valid & ~over))
        success = success | (step.result.success & ~over)
        over = over | step.result.done
        if over.all():
            memory.add(last_row(step, policy.guidance.look(step.result.obs), 1))
            break
    return success
