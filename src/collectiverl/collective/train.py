"""Stage 4b: one agent from all experts' labels, conditioned on `z`. The actor is distilled first, then the critic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from collectiverl.artifacts.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.collective import distill, losses
from collectiverl.collective.conditioning import CONDITIONINGS, Conditioning, ConditioningName
from collectiverl.collective.dataset import Dataset, Rows
from collectiverl.collective.policy import Collective
from collectiverl.data.episodes import EpisodeTable
from collectiverl.nn.gaussian import Actor
from collectiverl.nn.mlp import Critic
from collectiverl.nn.normalizer import Normalizer
from collectiverl.representation.encoder import Encoder
from collectiverl.sac.agent import Agent, SACConfig, init_agent
from collectiverl.types import EnvSpec, Window

UPDATES_PER_CALL = 50
VALIDATION_ROWS = 4_096


@dataclass(frozen=True, kw_only=True)
class CollectiveConfig:
    """How the collective is distilled."""

    conditioning: ConditioningName = "cls"
    loss: distill.DistillLoss = "mse"
    finetune_encoder: bool = False  # let the actor's loss reach the encoder
    actor_updates: int = 6_000
    critic_updates: int = 2_000
    batch_size: int = 512
    learning_rate: float = 1e-3
    validation_every: int = 500  # updates
    target_every: int = 100  # updates between copies of the critic as its own target (fitted evaluation)
    sac: SACConfig = field(default_factory=lambda: SACConfig(width=400, depth=3))

    @property
    def reads(self) -> bool:
        """Whether a collective of these settings is conditioned on its trajectory."""
        return CONDITIONINGS[self.conditioning].reads

    def __post_init__(self) -> None:
        for name in ("actor_updates", "critic_updates", "batch_size", "target_every", "validation_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')}={getattr(self, name)} must be at least 1")
        if self.finetune_encoder and self.conditioning not in ("cls", "last_state"):
            raise ValueError(
                f"--finetune-encoder needs --conditioning cls or last_state, not {self.conditioning}"
            )


class Emphasis(NamedTuple):
    """Tasks whose steps are drawn more often than they are stored."""

    tasks: Sequence[str]
    share: float  # of every batch, at least; about, since a step is drawn a whole number of times as often


# -- losses ------------------------------------------------------------------------------------------------


def _imitation(kind: Callable, actor: Actor, normalizer: Normalizer, rows: Rows) -> Array:
    gaussian = jax.vmap(lambda f: actor(normalizer(f)))(rows.features)
    return jnp.mean(jax.vmap(kind)(gaussian, rows.mean, rows.log_std))


def _frozen_loss(kind: Callable, actor: Actor, rows: Rows, normalizer: Normalizer) -> Array:
    return _imitation(kind, actor, normalizer, rows)


def _joint_loss(
    kind: Callable, both: tuple[Encoder, Actor], batch: tuple[Rows, Window], normalizer: Normalizer
) -> Array:
    (encoder, actor), (rows, windows) = both, batch
    return _imitation(kind, actor, normalizer, rows._replace(z=encoder(windows)))


FROZEN_LOSSES = {name: partial(_frozen_loss, kind) for name, kind in distill.LOSSES.items()}
JOINT_LOSSES = {name: partial(_joint_loss, kind) for name, kind in distill.LOSSES.items()}


class CriticTargets(NamedTuple):
    """What the critic's targets are made from."""

    agent: Agent  # its actor is evaluated
    target: Critic
    gamma: float
    reward_scale: float


def critic_loss(critic: Critic, rows: Rows, targets: CriticTargets) -> Array:
    """Regression on the teacher's Q; where it has none, one step of fitted evaluation of the collective."""
    normalize = jax.vmap(targets.agent.normalizer)
    following = normalize(rows.next_features)
    next_action = jax.vmap(lambda f: targets.agent.actor(f).mode)(following)
    next_q = jnp.min(jax.vmap(targets.target)(following, next_action), axis=-1)
    fitted = targets.reward_scale * rows.reward + targets.gamma * next_q
    taught = ~jnp.isnan(rows.teacher_q)
    target = jnp.where(taught, rows.teacher_q, fitted)
    weight = jnp.where(taught, 1.0, rows.has_next)  # without a teacher, a last step has no target
    q = jax.vmap(critic)(normalize(rows.features), rows.action)
    errors = jax.vmap(losses.critic_regression)(q, jax.lax.stop_gradient(jnp.nan_to_num(target)))
    return jnp.sum(weight * errors) / jnp.maximum(weight.sum(), 1)


# -- training ----------------------------------------------------------------------------------------------


def distillation(
    training: EpisodeTable,
    validation: EpisodeTable,
    encoder: Encoder | None,
    config: "CollectiveConfig",
    spec: EnvSpec,
    *,
    seed: int,
    actor: Actor | None = None,
    critic: Critic | None = None,
    emphasis: Emphasis | None = None,
    report: Report = silent,
) -> "Distillation":
    """The distillation of these labelled episodes, ready to run: fresh networks, and every step embedded once.

    Args:
        encoder: what the conditioning reads with; ignored by one that does not.
        actor, critic: to go on from, in place of fresh ones.
        emphasis: what batches are to hold more of; None: every step is drawn as often.
    """
    conditioning = CONDITIONINGS[config.conditioning].fit(training, encoder, spec.state_index, seed)
    z, held_out_z = (conditioning.embed(table, spec.state_index) for table in (training, validation))
    collective = _fresh(conditioning, training, z, config.sac, spec, seed)
    if actor is not None:
        collective = eqx.tree_at(lambda c: c.agent.actor, collective, actor)
    if critic is not None:
        collective = eqx.tree_at(lambda c: c.agent.critic, collective, critic)
    window = collective.encoder.window if collective.encoder else 1
    train_set = Dataset(training, z, spec.state_index, window)
    held_out = Dataset(validation, held_out_z, spec.state_index, window)
    return Distillation(collective, train_set, held_out, config, seed=seed, emphasis=emphasis, report=report)


def _fresh(
    conditioning: Conditioning,
    training: EpisodeTable,
    z: Float[np.ndarray, "M Z"],
    sac: SACConfig,
    spec: EnvSpec,
    seed: int,
) -> Collective:
    """A collective with fresh networks and the statistics of its training steps."""
    states = np.concatenate([e.obs[:-1][:, list(spec.state_index)] for e in training])
    seen = np.concatenate([z, states], axis=1)
    agent = init_agent(seen.shape[1], spec.action_dim, sac, jax.random.key(seed))
    if sac.normalize_obs:
        normalizer = Normalizer.identity(seen.shape[1]).update(seen)
        agent = eqx.tree_at(lambda a: a.normalizer, agent, normalizer)
    tasks = tuple(dict.fromkeys(training.tasks))
    return Collective(agent=agent, conditioning=conditioning, tasks=tasks, state_index=spec.state_index)


def pool(data: Dataset, emphasis: Emphasis | None) -> Int[np.ndarray, "M"]:
    """The steps that batches are drawn from; those of emphasised tasks as often as gives them their share."""
    every = np.arange(len(data))
    if emphasis is None:
        return every
    chosen = every[np.isin(data.table.tasks, emphasis.tasks)[data.episode]]
    others = len(every) - len(chosen)
    times = round(emphasis.share / (1 - emphasis.share) * others / len(chosen))
    return np.concatenate([every, *[chosen] * (times - 1)])


class Distillation:
    """The state of one stage-4b run: actor, encoder if it is tuned, then critic."""

    def __init__(
        self,
        collective: Collective,
        train: Dataset,
        validation: Dataset,
        config: CollectiveConfig,
        *,
        seed: int,
        emphasis: Emphasis | None = None,
        report: Report = silent,
    ):
        self.collective, self.train, self.validation = collective, train, validation
        self.pool = pool(train, emphasis)
        self.config, self.seed, self.report = config, seed, report
        self.done, self.best = 0, np.inf
        self.total = config.actor_updates + config.critic_updates
        rng = np.random.default_rng(seed)
        count = min(VALIDATION_ROWS, len(validation))
        self.validation_index = rng.choice(len(validation), count, replace=False)

    def run(self, work: Path | None = None) -> Collective:
        with metrics_log(work) as log:
            self.train_actor(log)
            self.train_critic(log)
        return self.collective

    def train_actor(self, log: MetricsLog | None = None) -> None:
        config, agent = self.config, self.collective.agent
        joint = config.finetune_encoder
        loss = (JOINT_LOSSES if joint else FROZEN_LOSSES)[config.loss]
        learned: Any = (self.collective.encoder, agent.actor) if joint else agent.actor
        best = learned
        opt = distill.optimizer(config.learning_rate, config.actor_updates)
        opt_state = opt.init(eqx.filter(learned, eqx.is_inexact_array))
        held_out = self._batch(self.validation, self.validation_index[None], joint)
        for step in range(0, config.actor_updates, UPDATES_PER_CALL):
            batches = self._batch(self.train, self._draw(step, config.actor_updates), joint)
            learned, opt_state, value = distill.descend(
                learned, opt_state, batches, loss, opt, agent.normalizer
            )
            self.done += len(jax.tree.leaves(batches)[0])
            if self._is_due(self.done, config.actor_updates):
                error = float(_evaluate(loss, learned, held_out, agent.normalizer))
                if error <= self.best:
                    best, self.best = learned, error
                self._log(log, {"actor/loss": value, "actor/validation": error}, f"actor {error:.4f}")
        encoder, actor = best if joint else (self.collective.encoder, best)
        self.collective = replace_parts(self.collective, encoder, actor, agent.critic)

    def train_critic(self, log: MetricsLog | None = None) -> None:
        config, agent = self.config, self.collective.agent
        critic = agent.critic
        opt = distill.optimizer(config.learning_rate, config.critic_updates)
        opt_state = opt.init(eqx.filter(critic, eqx.is_inexact_array))
        held_out = self._batch(self.validation, self.validation_index[None], joint=False)
        targets = CriticTargets(agent, critic, config.sac.gamma, config.sac.reward_scale)
        for step in range(0, config.critic_updates, UPDATES_PER_CALL):
            if step % config.target_every == 0:
                targets = targets._replace(target=critic)
            index = self._draw(config.actor_updates + step, self.total)
            batches = self._batch(self.train, index, joint=False)
            critic, opt_state, value = distill.descend(critic, opt_state, batches, critic_loss, opt, targets)
            self.done += len(index)
            if self._is_due(self.done, self.total):
                error = float(_evaluate(critic_loss, critic, held_out, targets))
                self._log(log, {"critic/loss": value, "critic/validation": error}, f"critic {error:.3f}")
        self.collective = replace_parts(self.collective, self.collective.encoder, agent.actor, critic)

    def _draw(self, step: int, end: int) -> np.ndarray:
        updates = min(UPDATES_PER_CALL, end - step)
        return self.pool[distill.draw(self.seed, step, (updates, self.config.batch_size), len(self.pool))]

    def _is_due(self, done: int, end: int) -> bool:
        return done % self.config.validation_every < UPDATES_PER_CALL or done == end

    @staticmethod
    def _batch(data: Dataset, index: np.ndarray, joint: bool):
        return (data.take(index), data.windows(index)) if joint else data.take(index)

    def _log(self, log: MetricsLog | None, values: dict, note: str) -> None:
        if log:
            log.write(self.done, values)
        self.report(self.done, self.total, note)


@eqx.filter_jit
def _evaluate(loss, learned, batches, constants) -> Array:
    return loss(learned, jax.tree.map(lambda x: x[0], batches), constants)


def replace_parts(
    collective: Collective, encoder: Encoder | None, actor: Actor, critic: Critic
) -> Collective:
    agent = replace(collective.agent, actor=actor, critic=critic)
    conditioning = collective.conditioning
    if encoder is not conditioning.reader:
        conditioning = eqx.tree_at(lambda c: c.encoder, conditioning, encoder)
    return replace(collective, conditioning=conditioning, agent=agent)
