"""What a replay stores of a step, and the batches that updates learn from."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from collectiverl.data.replay import Replay, Row
from collectiverl.envs.rollout import Step
from collectiverl.sac.agent import SACConfig
from collectiverl.sac.help import MentorOutput, Weights
from collectiverl.types import AnyArray, Transition

# -- rows --------------------------------------------------------------------------------------------------


def row_of(
    step: Step, output: MentorOutput, bonus: Float[np.ndarray, "N"], experts: int, *, cut: bool = False
) -> Row:
    """The row of a step; with `cut` its episodes end here, since their further steps are not stored."""
    result = step.result
    return _by_expert(
        experts,
        Row(
            obs=step.obs,
            action=step.action,
            reward=result.reward,
            bonus=bonus,
            potential=output.value,
            advice=output.mean,
            terminated=result.terminated,
            ended=result.done | cut,
            valid=~result.began,
        ),
    )


def last_row(step: Step, output: MentorOutput, experts: int) -> Row:
    """The observation that a step led to, in a row that is no transition; `output` is that of this observation."""
    obs = step.result.obs
    zeros, no = np.zeros(len(obs), np.float32), np.zeros(len(obs), bool)
    return _by_expert(
        experts,
        Row(
            obs=obs,
            action=np.zeros_like(step.action),
            reward=zeros,
            bonus=zeros,
            potential=output.value,
            advice=output.mean,
            terminated=no,
            ended=~no,
            valid=no,
        ),
    )


def _by_expert(experts: int, row: Row) -> Row:
    """Columns of axes (N, ...) as (E, N / E, ...)."""
    return Row(*(column.reshape(experts, -1, *column.shape[1:]) for column in row))


# -- batches -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prior:
    """Episodes of others in the task, from which a share of every batch is drawn (Ball et al. 2023, RLPD)."""

    memory: Replay
    share: float = 0.5  # of every batch
    env_steps: int = 0  # played for this student: they count as its own steps
    updates: int = 0  # on the prior alone, before the student acts

    def share_beside(self, replay: Replay) -> float:
        """The prior's share of a batch.

        Steps played for the student are drawn at least as often as its own, so that the share does not fall below
        theirs of all stored steps.
        """
        if not self.env_steps:
            return self.share
        return max(self.share, self.env_steps / (self.env_steps + replay.filled))


def sample_batches(
    replay: Replay,
    prior: Prior | None,
    share: float,
    updates: int,
    rng: np.random.Generator,
    weights: Weights,
    config: SACConfig,
) -> Transition:
    """Transitions of axes (updates, E, batch), rewards scaled; the fraction `share` of each batch is the prior's."""
    from_prior = round(share * config.batch_size)
    sources = [(replay, config.batch_size - from_prior)]
    if prior:
        sources.append((prior.memory, from_prior))
    parts = [
        memory.sample(
            rng,
            (updates, count),
            n_step=config.n_step,
            gamma=config.gamma,
            bonus=weights.bonus,
            potential=weights.potential,
            advised=weights.advised,
        )
        for memory, count in sources
        if count
    ]
    batches = jax.tree.map(_joined, *parts)
    return batches._replace(reward=batches.reward * np.float32(config.reward_scale))


def _joined(*columns: AnyArray) -> AnyArray:
    """The parts of a batch as one; on the device, if one of them is there."""
    if len(columns) == 1:
        return columns[0]
    on_device = any(isinstance(column, jax.Array) for column in columns)
    return (jnp if on_device else np).concatenate(columns, axis=2)
