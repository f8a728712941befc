"""The settings of the encoder's training, and its updates: several in one compiled call."""

from dataclasses import dataclass, field
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from collectiverl.artifacts.validation import MOST_ROWS, at_least, at_most, between, positive
from collectiverl.representation import objective
from collectiverl.representation.batches import Draw, Rows
from collectiverl.representation.encoder import EncoderConfig
from collectiverl.representation.objective import Model, ObjectiveConfig
from collectiverl.types import ConfigError


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """How the trajectory encoder is trained."""

    updates: int = 4_000  # gradient steps
    batch_size: int = 128  # windows; they come in pairs of positives
    # share of windows that are an episode's first steps; the others lie anywhere
    prefix_fraction: float = 0.25
    learning_rate: float = 1e-3  # peak, of AdamW
    warmup: int = 100  # updates until the peak; then the rate falls along a cosine
    weight_decay: float = 0.01  # of the weight matrices
    clip: float = 1.0  # largest norm of the gradient
    updates_per_call: int = 20  # in one compiled call
    validation_every: int = 200  # updates
    validation_batches: int = 8  # the same ones at each validation
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def __post_init__(self) -> None:
        at_least(self, 1, "updates_per_call", "updates", "validation_every", "validation_batches")
        at_most(self, MOST_ROWS, "updates_per_call", "batch_size", "validation_batches")
        at_least(self, 0, "weight_decay", "warmup")
        positive(self, "learning_rate", "clip")
        between(self, 0, 1, "prefix_fraction")
        for name in ("updates", "validation_every"):
            if getattr(self, name) % self.updates_per_call:
                raise ConfigError(
                    name,
                    f"{getattr(self, name)} is not a multiple of the {self.updates_per_call} updates per call",
                )
        if self.batch_size < 4 or self.batch_size % 2:
            raise ConfigError(
                "batch_size", f"{self.batch_size} must be even and at least 4: windows come in pairs"
            )
        if self.warmup >= self.updates:
            raise ConfigError("warmup", f"{self.warmup} must be less than the {self.updates} updates")


class TrainState(eqx.Module):
    """Everything that learning changes."""

    model: Model
    optimizer: optax.OptState


def make_optimizer(config: TransformerConfig) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(0, config.learning_rate, config.warmup, config.updates)
    matrices = partial(jax.tree.map, lambda x: x.ndim > 1)
    # one flat vector for Adam: a kernel for each of dozens of small arrays takes long to compile
    return optax.chain(
        optax.flatten(optax.chain(optax.clip_by_global_norm(config.clip), optax.scale_by_adam())),
        optax.add_decayed_weights(config.weight_decay, mask=matrices),
        optax.scale_by_learning_rate(rate),
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
