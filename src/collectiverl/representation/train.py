"""Trains the trajectory encoder, self-supervised, on the episodes of several buffers.

Update `i` depends on the seed and `i` alone, beside the state: a training that was interrupted goes on from its
checkpoint to the very result it would have had.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from collectiverl.artifacts import checkpoints
from collectiverl.artifacts.checkpoints import Checkpoints
from collectiverl.artifacts.files import read_json, write_json
from collectiverl.artifacts.metrics import MetricsLog, Report, silent
from collectiverl.data.episodes import EpisodeTable
from collectiverl.nn.keys import seeded_key
from collectiverl.representation import objective
from collectiverl.representation.batches import Draw, Pack, draw, fit_scales, pack
from collectiverl.representation.encoder import Encoder, init_encoder
from collectiverl.representation.updates import (
    TrainState,
    TransformerConfig,
    make_optimizer,
    update,
    validate,
)

TRAINING, VALIDATION = 0, 1  # streams of random numbers


@dataclass
class Progress:
    updates: int = 0
    best: float = float("inf")  # validation loss


class Trainer:
    """The state of one training; `run` takes it from its last checkpoint to its end."""

    def __init__(
        self,
        training: Pack,
        validation: Pack,
        config: TransformerConfig,
        seed: int,
    ):
        self.training, self.validation, self.config, self.seed = training, validation, config, seed
        self.key = seeded_key(seed)
        rows = training.rows
        k_encoder, k_model = jax.random.split(jax.random.fold_in(self.key, TRAINING))
        sizes = rows.state.shape[1], rows.action.shape[1]
        encoder = eqx.filter_jit(init_encoder)(config.encoder, *sizes, k_encoder)
        encoder = eqx.tree_at(lambda e: e.scales, encoder, fit_scales(training))
        model = objective.init_model(encoder, config.objective, sizes[1], len(training.count), k_model)
        self.state = TrainState(model, make_optimizer(config).init(eqx.filter(model, eqx.is_array)))
        self.best = encoder
        self.progress = Progress()

    def run(self, work: Path | None, report: Report) -> Encoder:
        """Trains to the end; with a folder, checkpoints into it and logs metrics there."""
        kept = Checkpoints(work)
        if kept.latest:
            self._restore(kept.latest)
        log = MetricsLog(work, resume_at=self.progress.updates) if work else None
        with contextlib.closing(log) if log else contextlib.nullcontext():
            while self.progress.updates < self.config.updates:
                metrics = self.advance()
                if self._due(self.config.validation_every):
                    self._validate(metrics, log, report)
                kept.offer(self._save)
        return self.best

    def advance(self) -> dict[str, Array]:
        """The next updates, as many as one call makes."""
        count = self.config.updates_per_call
        draws, keys = self._draws(self.training, TRAINING, self.progress.updates, count)
        self.state, metrics = update(self.state, self.training.rows, draws, keys, self.config)
        self.progress.updates += count
        return metrics

    def _due(self, every: int) -> bool:
        return self.progress.updates % every == 0 or self.progress.updates == self.config.updates

    def _draws(self, data: Pack, stream: int, begin: int, count: int) -> tuple[Draw, Key[Array, "updates"]]:
        c = self.config
        drawn = [
            draw(
                data,
                np.random.default_rng([self.seed, stream, i]),
                c.batch_size // 2,
                c.encoder.window,
                c.prefix_fraction,
                c.objective.positives,
            )
            for i in range(begin, begin + count)
        ]
        key = jax.random.fold_in(self.key, 1 + stream)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(begin, begin + count))
        return Draw(*(np.stack(column) for column in zip(*drawn, strict=True))), keys

    def _validate(self, metrics: dict[str, Array], log: MetricsLog | None, report: Report) -> None:
        """Keeps the encoder if it is the best so far; of equals the first."""
        draws, keys = self._draws(self.validation, VALIDATION, 0, self.config.validation_batches)
        found = validate(self.state.model, self.validation.rows, draws, keys, self.config)
        value, step = float(found["loss"]), self.progress.updates
        checkpoints.check_finite({"train": metrics, "validation": found["loss"]}, self._when)
        if value < self.progress.best:
            self.progress.best, self.best = value, self.state.model.encoder
        if log:
            training = {f"train/{name}": value for name, value in metrics.items()}
            log.write(step, training | {f"validation/{name}": value for name, value in found.items()})
        masked = f"reconstruction {found['reconstruction']:.3f}, by copying {found['copied']:.3f}"
        report(step, self.config.updates, f"validation loss {value:.3f}, {masked}")

    @property
    def _when(self) -> str:
        return f"after {self.progress.updates} updates"

    def _save(self, folder: Path) -> None:
        """What a resumed training needs; raises FloatingPointError if it diverged."""
        checkpoints.check_finite(self.state, self._when)
        checkpoints.save_tree(folder / "state.safetensors", self.state)
        checkpoints.save_tree(folder / "best.safetensors", self.best)
        write_json(folder / "progress.json", vars(self.progress))

    def _restore(self, folder: Path) -> None:
        self.state = checkpoints.load_tree(folder / "state.safetensors", self.state)
        self.best = checkpoints.load_tree(folder / "best.safetensors", self.best)
        self.progress = Progress(**read_json(folder / "progress.json"))


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
    packs = pack(train, state_index), pack(validation, state_index)
    return Trainer(*packs, config, seed).run(work, report)
