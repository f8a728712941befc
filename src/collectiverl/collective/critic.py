"""The collective's critic: regression on the teachers' Q-values, after the actor and its encoder are trained.

Where a teacher has no critic, or one of another unit, the target is one step of fitted Q evaluation of the collective
itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from collectiverl.artifacts import checkpoints
from collectiverl.artifacts.checkpoints import Checkpoints
from collectiverl.artifacts.files import read_json, write_json
from collectiverl.artifacts.metrics import MetricsLog, Report, silent
from collectiverl.artifacts.validation import MOST_ROWS, at_least, at_most, positive
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
STATE, PROGRESS = "critic.safetensors", "critic.json"  # of a checkpoint


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
        at_most(self, MOST_ROWS, "batch_size")
        positive(self, "learning_rate")


class Rows(NamedTuple):
    """Steps as columns."""

    seen: Float[AnyArray, "*updates B F"]  # [z, features]
    action: Float[AnyArray, "*updates B A"]
    reward: Float[AnyArray, "*updates B"]
    next_seen: Float[AnyArray, "*updates B F"]
    has_next: Float[AnyArray, "*updates B"]  # 0 at an episode's last step
    terminated: Float[AnyArray, "*updates B"]  # 1 where nothing follows, since the task has ended
    teacher_q: Float[AnyArray, "*updates B"]  # nan: the teacher has none


class Steps:
    """All steps of a table as the collective's networks see them; a teacher's values only if they are in this unit."""

    def __init__(self, table: EpisodeTable, collective: Collective, unit: ValueUnit):
        self.seen = seen_by(collective, table)
        last = np.zeros(len(self.seen), bool)
        last[np.cumsum(table.length) - 1] = [row["terminated"] for row in table.about]
        self.terminated = last.astype(np.float32)
        last[np.cumsum(table.length) - 1] = True
        self.has_next, self.following = (~last).astype(np.float32), np.arange(len(last)) + ~last
        self.action, self.reward = table.column("action"), table.column("reward")
        self.teacher_q = table.values(unit)

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, index: np.ndarray) -> Rows:
        return Rows(
            self.seen[index],
            self.action[index],
            self.reward[index],
            self.seen[self.following[index]],
            self.has_next[index],
            self.terminated[index],
            self.teacher_q[index],
        )


def seen_by(collective: Collective, table: EpisodeTable) -> Float[np.ndarray, "steps F"]:
    """`[z, features]` of every step, as actor and critic read them."""
    z = collective.conditioning.embed(table, collective.spec.state_index)
    return np.concatenate([z, _features(table, collective)], axis=1)


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
    fitted = targets.reward_scale * rows.reward + targets.gamma * next_q * rows.has_next
    taught = ~jnp.isnan(rows.teacher_q)
    target = jnp.where(taught, rows.teacher_q, fitted)
    known = rows.has_next + rows.terminated  # where an episode was cut off, what would have followed is not
    weight = jnp.where(taught, 1.0, known)
    q = critic(rows.seen, rows.action)
    errors = jax.vmap(losses.critic_regression)(q, jax.lax.stop_gradient(jnp.nan_to_num(target)))
    return jnp.sum(weight * errors) / jnp.maximum(weight.sum(), 1)


@eqx.filter_jit
def _error(critic: Critic, rows: Rows, targets: CriticTargets) -> Float[Array, ""]:
    return critic_loss(critic, rows, targets)


class State(eqx.Module):
    """Everything that an update changes."""

    critic: Critic
    target: Critic  # the targets of steps without a teacher's value come from it
    optimizer: optax.OptState


@dataclass
class Progress:
    updates: int = 0
    least: float = float("inf")  # error on held-out episodes so far


class Training:
    """The training of one collective's critic; update `i` depends on the seed, `i` and the state."""

    def __init__(
        self, collective: Collective, data: Steps, config: CriticConfig, unit: ValueUnit, *, seed: int
    ):
        self.agent, self.data, self.seed = collective.agent, data, seed
        self.config, self.unit = config, unit
        self.opt = optimizer(config.learning_rate, config.updates)
        critic = collective.agent.critic
        self.state = State(critic, critic, self.opt.init(eqx.filter(critic, eqx.is_inexact_array)))
        self.best, self.progress = critic, Progress()

    @property
    def targets(self) -> CriticTargets:
        return CriticTargets(self.agent, self.state.target, *self.unit)

    def advance(self) -> float:
        """The next updates, as many as one call makes; returns the mean loss."""
        step, config, state = self.progress.updates, self.config, self.state
        if step % config.target_every == 0:
            self.state = state = State(state.critic, state.critic, state.optimizer)
        left = config.target_every - step % config.target_every  # until the target is copied
        updates = min(UPDATES_PER_CALL, config.updates - step, left)
        batches = self.data.take(draw(self.seed, step, (updates, config.batch_size), len(self.data)))
        critic, opt_state, loss = descend(
            state.critic, state.optimizer, batches, critic_loss, self.opt, self.targets
        )
        self.state = State(critic, state.target, opt_state)
        self.progress.updates += updates
        checkpoints.check_finite({"critic/loss": loss}, self._when)
        return float(loss)

    @property
    def _when(self) -> str:
        return f"after {self.progress.updates} updates of the critic"

    def judge(self, held_out: Rows) -> float:
        """The error on held-out steps; the critic of the least error is kept, the latest of equals."""
        error = float(_error(self.state.critic, held_out, self.targets))
        if error <= self.progress.least:
            self.best, self.progress.least = self.state.critic, error
        return error

    def save(self, folder: Path) -> None:
        """What a resumed training needs; raises FloatingPointError if it diverged."""
        checkpoints.check_finite((self.state, self.best), self._when)
        checkpoints.save_tree(folder / STATE, (self.state, self.best))
        write_json(folder / PROGRESS, vars(self.progress))

    def restore(self, folder: Path) -> None:
        self.state, self.best = checkpoints.load_tree(folder / STATE, (self.state, self.best))
        self.progress = Progress(**read_json(folder / PROGRESS))


def updates_in(folder: Path | None) -> int:
    """Updates of the critic that a checkpoint holds; 0 if its training had not begun."""
    began = folder is not None and (folder / PROGRESS).is_file()
    return read_json(folder / PROGRESS)["updates"] if folder and began else 0


def distil(
    collective: Collective,
    training: EpisodeTable,
    validation: EpisodeTable,
    config: CriticConfig,
    unit: ValueUnit,
    *,
    seed: int,
    log: MetricsLog | None = None,
    report: Report = silent,
    before: int = 0,
    kept: Checkpoints | None = None,
    save: Callable[[Path], None] | None = None,
) -> Collective:
    """The collective with the critic of the least error on held-out episodes; `z` stays as it is.

    Args:
        before: updates that were made before these, as the log counts.
        kept: checkpoints are written there.
        save: writes what was trained before the critic into a checkpoint.
    """
    if not config.updates:
        return collective
    kept = kept or Checkpoints(None)
    data, held_out = (Steps(table, collective, unit) for table in (training, validation))
    one = Training(collective, data, config, unit, seed=seed)
    rng = np.random.default_rng(seed)
    count = min(VALIDATION_ROWS, len(held_out))
    rows = held_out.take(rng.choice(len(held_out), count, replace=False))
    if kept.latest and updates_in(kept.latest):
        one.restore(kept.latest)

    def save_all(folder: Path) -> None:
        if save:
            save(folder)
        one.save(folder)

    while one.progress.updates < config.updates:
        before_call = one.progress.updates
        loss = one.advance()
        done = one.progress.updates
        due = done // config.validation_every > before_call // config.validation_every
        if due or done == config.updates:
            error = one.judge(rows)
            if log:
                log.write(before + done, {"critic/loss": loss, "critic/validation": error})
            report(done, config.updates, f"critic {error:.3f}")
        kept.offer(save_all)
    return eqx.tree_at(lambda c: c.agent.critic, collective, one.best)
