"""Evaluations while E experts are trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import first_success, last_success
from collectiverl.sac.agent import Agent, expert_count
from collectiverl.sac.policy import AgentPolicy
from collectiverl.sac.settings import SuccessAt
from collectiverl.types import AnyArray

JUDGES = {"any": first_success, "last": last_success}  # which of an episode's steps decides
EVALUATION, AFTERWARDS = 2, 4  # streams of random numbers: while an agent learns, and when it was chosen


class Evaluation(NamedTuple):
    """What an evaluation found of each expert."""

    success: Float[np.ndarray, "E"]  # share of its episodes
    returns: Float[np.ndarray, "E"]  # mean, until the first success
    episodes: int  # of each


@dataclass(frozen=True)
class Evaluator:
    """Plays episodes of E agents with fresh goals; an equal share of the environments is each agent's."""

    envs: VectorEnv
    episodes: int  # of each agent
    seed: int
    # episodes after which it ends unless an agent's success is `promising`; None: all of them
    first: int | None = None
    promising: float = 0.0
    success_at: SuccessAt = "any"  # step of an episode at which a success counts

    def play(self, agents: Agent, env_steps: int, stream: int = EVALUATION) -> Evaluation:
        """As many rounds as the episodes need; a function of the seed, the stream and `env_steps`."""
        experts, policy = expert_count(agents), AgentPolicy(agents)
        first, judge = self.first or self.episodes, JUDGES[self.success_at]
        rounds = -(-self.episodes * experts // self.envs.num_envs)
        seeds = np.random.SeedSequence([self.seed, stream, env_steps]).generate_state(rounds)
        success, returns = np.zeros((experts, 0)), np.zeros((experts, 0))
        for seed in seeds:
            if success.shape[1] >= first and self._mean(success[:, :first]).max() < self.promising:
                break
            won, gained = judge(self.envs, policy, int(seed % 2**31))
            success = np.append(success, won.reshape(experts, -1), axis=1)
            returns = np.append(returns, gained.reshape(experts, -1), axis=1)
        count = min(self.episodes, success.shape[1])
        return Evaluation(self._mean(success[:, :count]), self._mean(returns[:, :count]), count)

    def _mean(self, values: Float[np.ndarray, "E episodes"]) -> Float[np.ndarray, "E"]:
        """Of each agent; of one with several tasks, each of them counts alike."""
        tasks = np.array(self.envs.tasks).reshape(len(values), -1)
        return np.array([_mean_over(own, row) for own, row in zip(tasks, values, strict=True)])


def _mean_over(tasks: Shaped[np.ndarray, "n"], values: Float[np.ndarray, "episodes"]) -> float:
    """The mean over tasks, where each round of episodes plays these once."""
    played = np.resize(tasks, len(values))
    return float(np.mean([values[played == task].mean() for task in dict.fromkeys(played)]))


def choose(is_new: Bool[np.ndarray, "E"], new: Agent, old: Agent) -> Agent:
    """The new agents where `is_new`, the old ones elsewhere."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(is_new.reshape(-1, *[1] * (a.ndim - 1)), a, b) if eqx.is_array(a) else a

    return jax.tree.map(pick, new, old)


def by_task(tasks: Sequence[str], values: Mapping[str, Float[AnyArray, "E"]]) -> dict[str, float]:
    """Each expert's metrics; those of several experts under the names of their tasks."""
    prefixes = [f"{task}/" for task in tasks] if len(tasks) > 1 else [""]
    columns = {name: np.asarray(value) for name, value in values.items()}
    return {p + name: float(c[i]) for name, c in columns.items() for i, p in enumerate(prefixes)}
