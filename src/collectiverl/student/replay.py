"""`replay`: half of each batch, or more, from what the collective did in the student's task (Ball et al. 2023, RLPD).

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
from collectiverl.sac.settings import Sight
from collectiverl.sac.train import PRIOR, Prior, last_row, row_of
from collectiverl.student.strategy import Guidance


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How much the collective plays, how much is learned from it at first, and when it is not trusted."""

    num_envs: int = 5  # in which the collective plays, side by side
    rounds: int = 2  # of episodes, as long as they may still earn trust
    updates: int = 1_000  # on these alone, before the student acts
    doubt: float = 0.8  # success up to which the collective is not trusted; from there trust rises to 1 at 1

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.rounds < 1 or self.updates < 0:
            raise ValueError(
                f"strategy.replay: num-envs={self.num_envs} and rounds={self.rounds} must be at least 1, "
                f"updates={self.updates} not negative"
            )
        if not 0 <= self.doubt < 1:
            raise ValueError(f"strategy.replay.doubt={self.doubt} is not in [0, 1)")

    def most(self, horizon: int) -> int:
        """Environment steps that the collective plays, at most."""
        return self.num_envs * self.rounds * horizon


class _Playing:
    """The collective as a policy that remembers what it saw."""

    sight: Sight

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


def play(envs: VectorEnv, guidance: Guidance, config: ReplayConfig, seed: int) -> Played:
    """Rounds of one episode in each of `config.num_envs` environments.

    At least half of each batch is theirs if all succeeded. A collective that fails now and then is trusted less,
    and one that fails often not at all.
    """
    spec, policy = envs.spec, _Playing(guidance)
    capacity = config.rounds * (spec.horizon + 2) * envs.num_envs
    memory = Replay(capacity, 1, envs.num_envs, spec.obs_dim, spec.action_dim)
    succeeded: list[np.ndarray] = []
    for round_seed in np.random.SeedSequence([seed, PRIOR]).generate_state(config.rounds):
        succeeded.append(_play_round(envs, policy, memory, seed=int(round_seed >> 1)))
        failed = int(np.sum(~np.stack(succeeded)))
        if 1 - failed / (config.rounds * envs.num_envs) <= config.doubt:  # whatever comes, it earns no trust
            break
    success = float(np.mean(succeeded))
    trust = max(0.0, (success - config.doubt) / (1 - config.doubt))
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
