"""`replay`: half of each batch from what the collective did in the student's task (Ball et al. 2023, RLPD).

It plays there before the student does. Its steps count as the student's.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from collectiverl.data.replay import Replay
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import steps
from collectiverl.sac.settings import Sight
from collectiverl.sac.train import Prior, last_row, row_of
from collectiverl.student.strategy import Guidance


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How much the collective plays, and how much is learned from it at first."""

    episodes: int = 10  # side by side
    updates: int = 1_000  # on these alone, before the student acts
    doubt: float = 0.8  # success below which the collective is not trusted; from here trust rises to 1 at 1

    def __post_init__(self) -> None:
        if not 0 <= self.doubt < 1:
            raise ValueError(f"doubt={self.doubt} is not in [0, 1)")
        if self.episodes < 1 or self.updates < 0:
            raise ValueError(
                f"episodes={self.episodes} must be at least 1, updates={self.updates} not negative"
            )


class _Playing:
    """The collective as a policy that remembers what it saw."""

    def __init__(self, guidance: Guidance):
        self.guidance, self.sight = guidance, None

    def eval_action(self, observations):
        self.sight = self.guidance.look(observations)
        return self.sight.advice

    def reset(self, env_mask):
        self.guidance.reset(env_mask)

    def observe(self, rewards):
        pass  # `bonus` tells the mentor


class Played(NamedTuple):
    """What the collective did in a task."""

    prior: Prior
    success: float  # share of its episodes
    trust: float  # that it earned


def play(envs: VectorEnv, guidance: Guidance, config: ReplayConfig, seed: int) -> Played:
    """One episode in each of the environments.

    Half of each batch is theirs if all succeeded. A collective that fails now and then is trusted less, and one
    that fails often not at all: its episodes are then worth no more than the student's own.
    """
    spec = envs.spec
    capacity = (spec.horizon + 2) * envs.num_envs
    memory = Replay(capacity, 1, envs.num_envs, spec.obs_dim, spec.action_dim)
    policy = _Playing(guidance)
    over = success = np.zeros(envs.num_envs, bool)
    count = 0
    for step in steps(envs, policy, seed):
        sight = policy.sight
        assert isinstance(sight, Sight)
        row = row_of(step, sight, guidance.bonus(step), 1)
        memory.add(row._replace(valid=row.valid & ~over))
        count += int((~over).sum())
        success = success | (step.result.success & ~over)
        over = over | step.result.done
        if over.all():
            memory.add(last_row(step, guidance.look(step.result.obs), 1))
            break
    rate = float(success.mean())
    trust = max(0.0, (rate - config.doubt) / (1 - config.doubt))
    return Played(Prior(memory, trust / 2, count, round(trust * config.updates)), rate, trust)
