"""The collective's critic: regression on the teachers' Q-values, after the actor and its encoder are trained.

Where a teacher has no critic, the target is one step of fitted Q evaluation of the collective itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collectiverl.artifacts.metrics import MetricsLog, Report
from collectiverl.artifacts.validation import at_least, positive
from collectiverl.collective import losses
from collectiverl.collective.distill import descend, draw, optimizer
from collectiverl.collective.policy import Collective
from collectiverl.collective.segments import Segments
from collectiverl.data.episodes import EpisodeTable
from collectiverl.nn.mlp import Critic
from collectiverl.sac.agent import Agent
from collectiverl.types import AnyArray, ValueUnit

UPDATES_PER_CALL = 50
VALIDATION_ROWS = 4_096
AT_ONCE = 64  # episodes whose features are made in one call


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """How the critic is distilled."""

    updates: int = 1_000  # gradient steps; 0: the critic stays as it was initialised
    batch_size: int = 512  # steps of a batch
    learning_rate: float = 1e-3  # of Adam; it falls to zero along a cosine
    target_every: int = 100  # updates after which the critic is copied into its target network
    validation_every: int = 500  # updates between validations

    def __post_init__(self) -> None:
        at_least(self, 0, "updates")
        at_least(self, 1, "batch_size", "target_every", "validation_every")
        positive(self, "learning_rate")


class Rows(NamedTuple):
    """Steps as columns."""

    seen: Float[AnyArray, "*updates B F"]  # [z, features]
    action: Float[AnyArray, "*updates B A"]
    reward: Float[AnyArray, "*updates B"]
    next_seen: Float[AnyArray, "*updates B F"]
    has_next: Float[AnyArray, "*updates B"]  # 0 at an episode's last step
    teacher_q: Float[AnyArray, "*updates B"]  # nan: the teacher has none


class Steps:
    """All steps of a table as the collective's networks see them."""

    def __init__(self, table: EpisodeTable, collective: Collective):
        index = collective.spec.state_index
        z = collective.conditioning.embed(table, index)
        self.seen = np.concatenate([z, _features(table, collective)], axis=1)
        last = np.zeros(len(z), bool)
        last[np.cumsum(table.length) - 1] = True
        self.has_next, self.following = (~last).astype(np.float32), np.arange(len(z)) + ~last
        self.action, self.reward = table.column("action"), table.column("reward")
        self.teacher_q = table.column("teacher_q", missing=np.nan)

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, index: np.ndarray) -> Rows:
        return Rows(
            self.seen[index],
            self.action[index],
            self.reward[index],
            self.seen[self.following[index]],
            self.has_next[index],
            self.teacher_q[index],
        )


def _features(table: EpisodeTable, collective: Collective) -> Float[np.ndarray, "steps F"]:
    """The standardised features of every step, made for a few episodes at a time."""
    segments = Segments(table, collective.spec.state_index)
    longest = int(table.length.max())
    found = []
    for i in range(0, len(table), AT_ONCE):
        episode = np.arange(i, i + AT_ONCE).clip(max=len(table) - 1)
        batch = segments.gather(episode, np.zeros(AT_ONCE, int), longest)
        features = np.moveaxis(np.asarray(_standard_features(collective, batch.window)), 0, 1)
        found += [f[:n] for f, n in zip(features, table.length[i : i + AT_ONCE], strict=False)]
    return np.concatenate(found)


@eqx.filter_jit
def _standard_features(collective: Collective, window) -> Float[Array, "L B F"]:
    return collective.scales(window).features


class CriticTargets(NamedTuple):
    """What the critic's targets are made from."""

    agent: Agent  # its actor is evaluated
    target: Critic
    reward_scale: float
    gamma: float


def critic_loss(critic: Critic, rows: Rows, targets: CriticTargets) -> Float[Array, ""]:
    """Regression on the teacher's Q; where it has none, one step of fitted Q evaluation."""
    next_action = targets.agent.actor(rows.next_seen).mode
    next_q = jnp.min(targets.target(rows.next_seen, next_action), axis=-1)
    fitted = targets.reward_scale * rows.reward + targets.gamma * next_q
    taught = ~jnp.isnan(rows.teacher_q)
    target = jnp.where(taught, rows.teacher_q, fitted)
    weight = jnp.where(taught, 1.0, rows.has_next)  # without a teacher, a last step has no target
    q = critic(rows.seen, rows.action)
    errors = jax.vmap(losses.critic_regression)(q, jax.lax.stop_gradient(jnp.nan_to_num(target)))
    return jnp.sum(weight * errors) / jnp.maximum(weight.sum(), 1)


@eqx.filter_jit
def _error(critic: Critic, rows: Rows, targets: CriticTargets) -> Float[Array, ""]:
    return critic_loss(critic, rows, targets)


def distil(
    collective: Collective,
    training: EpisodeTable,
    validation: EpisodeTable,
    config: CriticConfig,
    unit: ValueUnit,
    *,
    seed: int,
    log: MetricsLog | None,
    report: Report,
    before: int = 0,
) -> Collective:
    """The collective with the critic of the least error on held-out episodes; `z` stays as it is.

    Args:
        before: updates that were made before these, as the log counts.
    """
    if not config.updates:
        return collective
    data, held_out = Steps(training, collective), Steps(validation, collective)
    rng = np.random.default_rng(seed)
    count = min(VALIDATION_ROWS, len(held_out))
    rows = held_out.take(rng.choice(len(held_out), count, replace=False))
    best, least = collective.agent.critic, float("inf")
    for done, critic, targets, loss in _updates(collective, data, config, unit, seed):
        due = done % config.validation_every < UPDATES_PER_CALL or done == config.updates
        if not due:
            continue
        error = float(_error(critic, rows, targets))
        if error <= least:
            best, least = critic, error
        if log:
            log.write(before + done, {"critic/loss": loss, "critic/validation": error})
        report(done, config.updates, f"critic {error:.3f}")
    return eqx.tree_at(lambda c: c.agent.critic, collective, best)


def _updates(
    collective: Collective, data: Steps, config: CriticConfig, unit: ValueUnit, seed: int
) -> Iterator[tuple[int, Critic, CriticTargets, Array]]:
    """Yields after each compiled call: the number of updates, the critic, what its targets come from, the loss."""
    critic = collective.agent.critic
    opt = optimizer(config.learning_rate, config.updates)
    state = opt.init(eqx.filter(critic, eqx.is_inexact_array))
    targets = CriticTargets(collective.agent, critic, *unit)
    for step in range(0, config.updates, UPDATES_PER_CALL):
        if step % config.target_every == 0:
            targets = targets._replace(target=critic)
        updates = min(UPDATES_PER_CALL, config.updates - step)
        batches = data.take(draw(seed, step, (updates, config.batch_size), len(data)))
        critic, state, loss = descend(critic, state, batches, critic_loss, opt, targets)
        yield step + updates, critic, targets, loss
