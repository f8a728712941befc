"""Trains the trajectory encoder, self-supervised, on the episodes of several buffers.

Update `i` depends on the seed and `i` alone, beside the state: a training that was interrupted goes on from its
checkpoint to the very result it would have had.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from collectiverl import checkpoints, store
from collectiverl.data.episodes import EpisodeTable
from collectiverl.metrics import MetricsLog, Report, silent
from collectiverl.representation import objective
from collectiverl.representation.batches import Draw, Pack, Rows, changes, draw, pack
from collectiverl.representation.encoder import Encoder, EncoderConfig, fit_scales, init_encoder
from collectiverl.representation.objective import Model, ObjectiveConfig

TRAINING, VALIDATION = 0, 1  # streams of random numbers


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """How the trajectory encoder is trained."""

    updates: int = 4_000
    batch_size: int = 128  # windows; half of them are the others' positives
    starts: float = 0.25  # share of windows that are an episode's first steps, the others lie anywhere
    learning_rate: float = 1e-3  # AdamW's peak
    warmup: int = 100  # updates until it is reached; then down a cosine
    weight_decay: float = 0.01  # of matrices
    clip: float = 1.0  # of the gradient's norm
    updates_per_call: int = 10  # in one compiled call
    validation_every: int = 200  # updates
    validation_batches: int = 8  # the same ones each time
    checkpoint_every: int = 1_000  # updates
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def __post_init__(self) -> None:
        counts = ("updates", "updates_per_call", "validation_every", "validation_batches", "checkpoint_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')}={getattr(self, name)} must be at least 1")
        for name in ("updates", "validation_every", "checkpoint_every"):
            if getattr(self, name) % self.updates_per_call:
                raise ValueError(
                    f"--{name.replace('_', '-')}={getattr(self, name)} is not a multiple of "
                    f"--updates-per-call={self.updates_per_call}"
                )
        if self.batch_size < 4 or self.batch_size % 2:
            raise ValueError(
                f"--batch-size={self.batch_size} must be even and at least 4: windows come in pairs"
            )
        if not 0 <= self.starts <= 1:
            raise ValueError(f"--starts={self.starts} is not in [0, 1]")
        if not 0 <= self.warmup < self.updates:
            raise ValueError(f"--warmup={self.warmup} must lie below --updates={self.updates}")
        if self.learning_rate <= 0 or self.clip <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"--learning-rate={self.learning_rate} and --clip={self.clip} must be positive, "
                f"--weight-decay={self.weight_decay} not negative"
            )


class TrainState(eqx.Module):
    """Everything that learning changes."""

    model: Model
    optimizer: optax.OptState


@dataclass
class Progress:
    updates: int = 0
    best: float = float("inf")  # validation loss


def make_optimizer(config: TransformerConfig) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(0, config.learning_rate, config.warmup, config.updates)
    matrices = partial(jax.tree.map, lambda x: x.ndim > 1)
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(rate, weight_decay=config.weight_decay, mask=matrices),
    )


@eqx.filter_jit
def update(
    state: TrainState, rows: Rows, draws: Draw, keys: Key[Array, "updates"], config: TransformerConfig
) -> tuple[TrainState, dict[str, Array]]:
    """As many updates as there are draws, in one compiled call; metrics are averages over them."""
    arrays, static = eqx.partition(state, eqx.is_array)

    def one(carry, inputs):
        chosen, key = inputs
        state = eqx.combine(carry, static)
        batch = objective.load(state.model.encoder, rows, chosen, config.encoder.window)
        value = eqx.filter_grad(objective.loss, has_aux=True)
        grads, metrics = value(state.model, batch, key, config.objective, dropout=True)
        steps, optimizer = make_optimizer(config).update(
            grads, state.optimizer, eqx.filter(state.model, eqx.is_array)
        )
        state = TrainState(eqx.apply_updates(state.model, steps), optimizer)
        return eqx.filter(state, eqx.is_array), metrics

    arrays, metrics = jax.lax.scan(one, arrays, (draws, keys))
    return eqx.combine(arrays, static), jax.tree.map(jnp.mean, metrics)


@eqx.filter_jit
def validate(
    model: Model, rows: Rows, draws: Draw, keys: Key[Array, "updates"], config: TransformerConfig
) -> dict[str, Array]:
    """The objectives without dropout, averaged over the draws."""

    def one(inputs):
        chosen, key = inputs
        batch = objective.load(model.encoder, rows, chosen, config.encoder.window)
        return objective.loss(model, batch, key, config.objective, dropout=False)[1]

    return jax.tree.map(jnp.mean, jax.lax.map(one, (draws, keys)))


class Trainer:
    """The state of one training; `run` takes it from its last checkpoint to its end."""

    def __init__(self, training: Pack, validation: Pack, config: TransformerConfig, seed: int):
        self.training, self.validation, self.config, self.seed = training, validation, config, seed
        self.key = jax.random.key(seed)
        rows = training.rows
        k_encoder, k_model = jax.random.split(jax.random.fold_in(self.key, TRAINING))
        sizes = rows.state.shape[1], rows.action.shape[1]
        once = eqx.filter_jit(init_encoder, compiler_options={"xla_backend_optimization_level": 0})
        encoder = once(config.encoder, *sizes, k_encoder)
        encoder = fit_scales(encoder, np.asarray(rows.state), np.asarray(rows.reward), changes(training))
        model = objective.init_model(encoder, config.objective, sizes[1], len(training.count), k_model)
        self.state = TrainState(model, make_optimizer(config).init(eqx.filter(model, eqx.is_array)))
        self.best = encoder
        self.progress = Progress()

    def run(self, work: Path | None, report: Report) -> Encoder:
        """Trains to the end; with a folder, checkpoints into it and logs metrics there."""
        self._restore(work)
        log = MetricsLog(work, resume_at=self.progress.updates) if work else None
        with contextlib.closing(log) if log else contextlib.nullcontext():
            while self.progress.updates < self.config.updates:
                metrics = self._advance()
                if self._due(self.config.validation_every):
                    self._validate(metrics, log, report)
                if work and self._due(self.config.checkpoint_every):
                    self._save(work)
        return self.best

    def _due(self, every: int) -> bool:
        return self.progress.updates % every == 0 or self.progress.updates == self.config.updates

    def _advance(self) -> dict[str, Array]:
        count = self.config.updates_per_call
        draws, keys = self._draws(self.training, TRAINING, self.progress.updates, count)
        self.state, metrics = update(self.state, self.training.rows, draws, keys, self.config)
        self.progress.updates += count
        return metrics

    def _draws(self, data: Pack, stream: int, begin: int, count: int) -> tuple[Draw, Key[Array, "updates"]]:
        c = self.config
        pairs, places = c.batch_size // 2, (c.encoder.window, c.starts, c.objective.positives)
        numbers = range(begin, begin + count)
        drawn = [draw(data, np.random.default_rng([self.seed, stream, i]), pairs, *places) for i in numbers]
        key = jax.random.fold_in(jax.random.key(self.seed), 1 + stream)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(begin, begin + count))
        return Draw(*(np.stack(column) for column in zip(*drawn, strict=True))), keys

    def _validate(self, metrics: dict[str, Array], log: MetricsLog | None, report: Report) -> None:
        """Keeps the encoder if it is the best so far; of equals the first."""
        draws, keys = self._draws(self.validation, VALIDATION, 0, self.config.validation_batches)
        found = validate(self.state.model, self.validation.rows, draws, keys, self.config)
        value, step = float(found["loss"]), self.progress.updates
        if value < self.progress.best:
            self.progress.best, self.best = value, self.state.model.encoder
        if log:
            training = {f"train/{name}": value for name, value in metrics.items()}
            log.write(step, training | {f"validation/{name}": value for name, value in found.items()})
        report(step, self.config.updates, f"validation loss {value:.3f}")

    def _save(self, work: Path) -> None:
        with checkpoints.checkpoint(work) as folder:
            checkpoints.save_tree(folder / "state.safetensors", self.state)
            checkpoints.save_tree(folder / "best.safetensors", self.best)
            checkpoints.write_json(folder / "progress.json", vars(self.progress))

    def _restore(self, work: Path | None) -> None:
        folder = checkpoints.latest_checkpoint(work) if work else None
        if not folder:
            return
        self.state = checkpoints.load_tree(folder / "state.safetensors", self.state)
        self.best = checkpoints.load_tree(folder / "best.safetensors", self.best)
        self.progress = Progress(**store.read_json(folder / "progress.json"))


def train(
    train: Sequence[EpisodeTable],
    validation: Sequence[EpisodeTable],
    config: TransformerConfig,
    *,
    state_index: Sequence[int],
    seed: int,
    work: Path | None = None,
    report: Report = silent,
) -> Encoder:
    """The encoder of the best validation loss. Each table is one buffer, in both lists in the same order."""
    packs: Any = [pack(tables, state_index) for tables in (train, validation)]
    return Trainer(*packs, config, seed).run(work, report)
