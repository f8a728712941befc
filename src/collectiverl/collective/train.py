"""Distillation of all experts' labels into one agent: first the actor, with its encoder, then the critic.

The actor's loss is taken at every step of a segment, and its gradient also trains the encoder, if the conditioning
learns. The batch of update `i` depends on the seed and `i` alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from collectiverl.artifacts import checkpoints
from collectiverl.artifacts.checkpoints import Checkpoints
from collectiverl.artifacts.files import read_json, write_json
from collectiverl.artifacts.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.artifacts.validation import MOST_ROWS, at_least, at_most, between, positive
from collectiverl.collective import critic
from collectiverl.collective.conditioning import CONDITIONINGS, ConditioningName, Source
from collectiverl.collective.critic import CriticConfig
from collectiverl.collective.distill import DistillLoss
from collectiverl.collective.imitation import Learner, LearnerState, imitation_error, learn
from collectiverl.collective.policy import Collective
from collectiverl.collective.probing import ProbingConfig
from collectiverl.collective.segments import Batch, Draw, Segments
from collectiverl.data.episodes import EpisodeTable
from collectiverl.nn.keys import seeded_key
from collectiverl.representation.batches import fit_scales, pack
from collectiverl.representation.encoder import Encoder, EncoderConfig
from collectiverl.sac.agent import AgentConfig, init_agent
from collectiverl.types import EnvSpec, ValueUnit

UPDATES_PER_CALL = 10
VALIDATION_BATCHES = 4
TRAINING, VALIDATION = 0, 1  # streams of random numbers


def own_encoder() -> EncoderConfig:
    """The default encoder of the conditioning `own`."""
    return EncoderConfig(dim=128, layers=1, heads=4, feedforward=512, dropout=0.0, z_dim=16)


@dataclass(frozen=True, kw_only=True)
class CollectiveConfig:
    """How the collective is distilled."""

    # source of z; own, tuned: an encoder trained with the actor; cls, last_state, cluster: the frozen transformer
    conditioning: ConditioningName = "own"
    encoder: EncoderConfig = field(default_factory=own_encoder)  # of the conditioning `own`
    differences: bool = False  # read the differences between hand, objects and goal beside the state
    probing: ProbingConfig = field(default_factory=ProbingConfig)
    loss: DistillLoss = "mse"  # mse: squared error of mean and log-std; kl: KL(teacher || collective)
    absolute: float = 0.2  # weight of the mean's absolute error, which is added to the loss
    labels: int = 6_400  # steps of a batch
    segment: int | None = 60  # steps of a segment; None: whole episodes
    unrewarded: float = 0.2  # share of segments whose rewards are left out
    learning_rate: float = 2e-3  # of Adam, at its highest
    warmup: int = 50  # updates until the learning rate is reached
    average: float = 0.985  # decay of the moving average of the weights; the average acts and is saved
    updates: int = 320  # of the actor; the learning rate falls to zero
    validation_every: int = 100  # updates between validations
    critic: CriticConfig = field(default_factory=CriticConfig)
    sac: AgentConfig = field(default_factory=AgentConfig)  # actor and critics

    def __post_init__(self) -> None:
        at_least(self, 1, "labels", "segment", "warmup", "updates", "validation_every")
        at_least(self, 0, "absolute")
        at_most(self, MOST_ROWS, "labels")
        between(self, 0, 1, "unrewarded", "average")
        positive(self, "learning_rate")

    @property
    def reads(self) -> bool:
        """Whether it needs the trajectory transformer."""
        return CONDITIONINGS[self.conditioning].reads

    @property
    def learns(self) -> bool:
        """Whether an encoder is trained with the actor."""
        return CONDITIONINGS[self.conditioning].learns

    @property
    def draw(self) -> Draw:
        """How batches are drawn: alike for all conditionings, since a single step would not show the state's change."""
        return Draw(labels=self.labels, length=self.segment, unrewarded=self.unrewarded)


def fresh_collective(
    table: EpisodeTable,
    config: CollectiveConfig,
    spec: EnvSpec,
    *,
    transformer: Encoder | None = None,
    goals_hidden: bool = False,
    seed: int = 0,
) -> Collective:
    """Fresh networks, and the statistics of these training episodes.

    Raises:
        UserError: the conditioning needs the trajectory transformer, and there is none.
    """
    points = spec.points if config.differences else ()
    scales = fit_scales(pack([table], spec.state_index), points)
    source = Source(table, spec, scales, config.encoder, transformer, seed)
    conditioning = CONDITIONINGS[config.conditioning].make(source)
    reader = conditioning.reader
    z_dim = reader.z_dim if reader else conditioning.embed(table.subset([0]), spec.state_index).shape[1]
    sizes = z_dim + scales.feature_dim, spec.action_dim
    return Collective(
        agent=init_agent(*sizes, config.sac, seeded_key(seed)),
        conditioning=conditioning,
        scales=scales,
        tasks=tuple(dict.fromkeys(table.tasks)),
        spec=spec,
        goals_hidden=goals_hidden,
        probing=config.probing,
    )


@dataclass
class Progress:
    updates: int = 0  # in all
    best: float = float("inf")  # least validation error so far


class Training:
    """The training of one collective's actor, which can go on as new data come.

    Args:
        collective: the one to begin from.
    """

    def __init__(self, collective: Collective, config: CollectiveConfig, *, seed: int):
        self.base, self.config, self.seed = collective, config, seed
        learner = Learner.of(collective)
        self.state = LearnerState.of(learner)
        self.best = learner
        self.progress = Progress()

    @property
    def collective(self) -> Collective:
        """The collective with the averaged weights."""
        return self.state.average.put_into(self.base)

    @property
    def best_collective(self) -> Collective:
        """The collective with the weights of the least error on held-out episodes."""
        return self.best.put_into(self.base)

    def segments(self, table: EpisodeTable, **emphasis) -> Segments:
        """These episodes, ready to draw batches from."""
        conditioning, index = self.base.conditioning, self.base.spec.state_index
        z = None if self.config.learns else conditioning.embed(table, index)
        return Segments(table, index, z, **emphasis)

    def advance(self, segments: Segments, rates: np.ndarray) -> float:
        """One update per learning rate; returns the mean loss."""
        batches = [self._batch(segments, TRAINING, self.progress.updates + i) for i in range(len(rates))]
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *batches) if _alike(batches) else None
        losses = []
        for batch, rate in [(stacked, rates)] if stacked else zip(batches, rates[:, None], strict=True):
            one = batch if stacked else jax.tree.map(lambda x: x[None], batch)
            self.state, loss = learn(
                self.state, one, jnp.asarray(rate, jnp.float32), self.base.scales, self._how
            )
            losses.append(loss)
        self.progress.updates += len(rates)
        loss = float(np.mean(losses))
        checkpoints.check_finite({"actor/loss": loss}, self._when)
        return loss

    @property
    def _when(self) -> str:
        return f"after {self.progress.updates} updates"

    def error(self, segments: Segments) -> float:
        """The error of the averaged weights, on batches that are always the same."""
        batches = [self._batch(segments, VALIDATION, i) for i in range(VALIDATION_BATCHES)]
        errors = [imitation_error(self.state.average, b, self.base.scales, self._how) for b in batches]
        return float(np.mean(errors))

    def _batch(self, segments: Segments, stream: int, number: int) -> Batch:
        return segments.sample(np.random.default_rng([self.seed, stream, number]), self.config.draw)

    @property
    def _how(self) -> tuple[DistillLoss, float, float]:
        return self.config.loss, self.config.absolute, self.config.average

    def constant(self, updates: int) -> np.ndarray:
        """Learning rates of the next `updates`: constant after a warm-up."""
        number = self.progress.updates + np.arange(updates)
        return self.config.learning_rate * np.minimum(1, (number + 1) / self.config.warmup)

    def falling(self, updates: int, begin: int = 0) -> np.ndarray:
        """Learning rates that fall to zero along a cosine over `updates`, from update `begin` on."""
        number = np.arange(begin, updates)
        warm = np.minimum(1, (self.progress.updates + 1 + number - begin) / self.config.warmup)
        return self.config.learning_rate * warm * 0.5 * (1 + np.cos(np.pi * number / updates))

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """What a resumed training needs; raises FloatingPointError if it diverged."""
        checkpoints.check_finite((self.state, self.best), self._when)
        checkpoints.save_tree(folder / "learner.safetensors", self.state)
        checkpoints.save_tree(folder / "best.safetensors", self.best)
        write_json(folder / "training.json", vars(self.progress))

    def restore(self, folder: Path) -> None:
        self.state = checkpoints.load_tree(folder / "learner.safetensors", self.state)
        self.best = checkpoints.load_tree(folder / "best.safetensors", self.best)
        self.progress = Progress(**read_json(folder / "training.json"))


def _alike(batches: list[Batch]) -> bool:
    return len({batch.weight.shape for batch in batches}) == 1


def unit_of(training: EpisodeTable, config: CollectiveConfig) -> ValueUnit:
    """What the critic measures values in: the unit of the teachers, or its own if none of them says values."""
    return training.value_unit() or config.sac.value_unit


def distil(
    collective: Collective,
    training: EpisodeTable,
    validation: EpisodeTable,
    config: CollectiveConfig,
    *,
    seed: int,
    emphasis: Mapping | None = None,
    work: Path | None = None,
    report: Report = silent,
) -> tuple[Collective, float]:
    """Trains the actor, then the critic; returns the collective and its actor's error on held-out episodes.

    Args:
        emphasis: the arguments `emphasized` and `share` of `Segments`.
        work: checkpoints and metrics go there.
    """
    actor = Training(collective, config, seed=seed)
    data, held_out = actor.segments(training, **(emphasis or {})), actor.segments(validation)
    kept = Checkpoints(work)
    if kept.latest:
        actor.restore(kept.latest)
    total, done = (
        config.updates + config.critic.updates,
        actor.progress.updates + critic.updates_in(kept.latest),
    )
    with metrics_log(work, resume_at=done) as log:
        _train_actor(actor, data, held_out, log, kept, partial_report(report, total))
        learned = actor.best_collective
        last = critic.distil(
            learned,
            training,
            validation,
            config.critic,
            unit_of(training, config),
            seed=seed,
            log=log,
            report=partial_report(report, total, config.updates),
            before=config.updates,
            kept=kept,
            save=actor.save,
        )
    return last, actor.progress.best


def _train_actor(
    actor: Training,
    data: Segments,
    held_out: Segments,
    log: MetricsLog | None,
    kept: Checkpoints,
    report: Report,
) -> None:
    config = actor.config
    while actor.progress.updates < config.updates:
        done = actor.progress.updates
        loss = actor.advance(data, actor.falling(config.updates, done)[:UPDATES_PER_CALL])
        done = actor.progress.updates
        if done % config.validation_every < UPDATES_PER_CALL or done == config.updates:
            error = actor.error(held_out)
            if error <= actor.progress.best:
                actor.progress.best, actor.best = error, actor.state.average
            if log:
                log.write(done, {"actor/loss": loss, "actor/validation": error})
            report(done, config.updates, f"actor {error:.4f}")
        kept.offer(actor.save)


def partial_report(report: Report, total: int, before: int = 0) -> Report:
    """A report of one part of the work, counted within the whole."""
    return lambda done, _, note="": report(before + done, total, note)
