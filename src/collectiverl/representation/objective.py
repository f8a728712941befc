"""The whole objective on one batch of windows, and the model with the heads that only training needs."""

from dataclasses import dataclass
from typing import NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from collectiverl.artifacts.validation import at_least, one_of, positive
from collectiverl.nn.mlp import MLP, Linear
from collectiverl.representation import losses
from collectiverl.representation.batches import Draw, Positives, Rows, gather
from collectiverl.representation.encoder import Encoder
from collectiverl.representation.losses import Negatives
from collectiverl.representation.scales import Standard
from collectiverl.representation.tokens import part_names, parts_of
from collectiverl.types import ConfigError

PREDICTOR_WIDTH = 64


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The weights of the encoder's losses; a weight of 0 leaves a loss out."""

    reconstruction: float = 1.0  # weight of reconstructing the masked parts of the window
    info_nce: float = 0.25  # weight of the InfoNCE loss on z
    temperature: float = 0.15  # of the InfoNCE loss
    # a pair: two masked views of a window, two windows of an episode or of a buffer
    positives: Positives = "buffer"
    negatives: Negatives = "buffers"  # windows of other buffers, or all other windows
    bottleneck: float = 0.0  # weight of predicting next state and reward of other steps from (s, a, z)
    supervised: float = 0.0  # weight of classifying the buffer from z

    def __post_init__(self) -> None:
        weights = ("reconstruction", "info_nce", "bottleneck", "supervised")
        at_least(self, 0, *weights)
        positive(self, "temperature")
        one_of(self, get_args(Positives), "positives")
        one_of(self, get_args(Negatives), "negatives")
        if not any(getattr(self, name) for name in weights):
            raise ConfigError(
                "reconstruction", "all weights of the objective are 0: nothing would be learned"
            )


class Model(eqx.Module):
    """The encoder and the optional heads that only training needs."""

    encoder: Encoder
    predictor: MLP | None  # (s, a, z) -> change of the standardised state, standardised reward
    classifier: Linear | None  # z -> buffer


def init_model(
    encoder: Encoder, config: ObjectiveConfig, action_dim: int, buffers: int, key: PRNGKeyArray
) -> Model:
    k_predictor, k_classifier = jax.random.split(key)
    state_dim, z_dim = encoder.scales.state_dim, encoder.z_dim
    inputs = state_dim + action_dim + z_dim
    return Model(
        encoder,
        MLP(inputs, state_dim + 1, PREDICTOR_WIDTH, 2, key=k_predictor) if config.bottleneck else None,
        Linear(z_dim, buffers, key=k_classifier) if config.supervised else None,
    )


class Batch(NamedTuple):
    """What one update learns from."""

    windows: Standard
    buffer: Int[Array, "2P"]
    positive: Bool[Array, "2P 2P"]  # which windows belong together
    step: Standard  # of two states: a step at another time of the episode


def load(encoder: Encoder, rows: Rows, draw: Draw, size: int) -> Batch:
    """The windows that a draw names."""

    first, end, context, buffer, positive_group, other = map(jnp.asarray, draw)
    positive = (positive_group[:, None] == positive_group[None, :]) & ~jnp.eye(
        len(positive_group), dtype=bool
    )
    windows = gather(rows, first, end, context, size)
    steps = gather(rows, first, other, jnp.full_like(context, 2), 2)
    return Batch(encoder.scales(windows), buffer, positive, encoder.scales(steps))


def loss(
    model: Model, batch: Batch, key: PRNGKeyArray, config: ObjectiveConfig, *, dropout: bool
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The weighted sum of the objectives, and each of them."""
    k_mask, k_dropout = jax.random.split(key)
    others = jax.tree.map(lambda x: jnp.roll(x, 1, axis=1), batch.windows)
    hidden, places = losses.corrupt(batch.windows, others, k_mask)
    reading = model.encoder.read(hidden, k_dropout if dropout else None)

    metrics = reconstruction(model.encoder, batch.windows, reading.parts, places)
    alike = batch.positive, batch.buffer
    metrics["info_nce"] = losses.info_nce(reading.z, *alike, config.temperature, config.negatives)
    if model.predictor is not None:
        metrics["bottleneck"] = jax.vmap(predict, (None, 1, 0))(model.predictor, batch.step, reading.z).mean()
    if model.classifier is not None:
        logits = jax.vmap(model.classifier)(reading.z)
        metrics["supervised"] = jax.vmap(losses.cross_entropy)(logits, batch.buffer).mean()
    names = ("reconstruction", "info_nce", "bottleneck", "supervised")
    total = sum((getattr(config, name) * metrics[name] for name in names if name in metrics), jnp.zeros(()))
    return total, {"loss": total, **metrics, **losses.spread(reading.z)}


def reconstruction(encoder: Encoder, windows: Standard, guess, places) -> dict[str, Array]:
    """Error at the masked places, of each part and on average; parts count alike, however many entries.

    Beside it stands the error of copying the last step that is not masked.
    """
    truth, names = parts_of(windows, encoder.rewards), part_names(encoder.rewards)
    found: dict[str, Array] = {}
    for kind, parts in (("reconstruction", guess), ("copied", losses.copied(truth, windows, places))):
        errors = losses.reconstruction_errors(parts, truth, places)
        found |= {kind: errors.mean(), **{f"{kind}/{n}": e for n, e in zip(names, errors, strict=True)}}
    return found


def predict(predictor: MLP, step: Standard, z: Float[Array, "Z"]) -> Float[Array, ""]:
    """Squared error of the next state's change and the reward at a step, known only through (s, a, z)."""
    guess = predictor(jnp.concatenate([step.state[0], step.action[1], z]))
    return jnp.mean((guess - jnp.append(step.change[1], step.reward[1])) ** 2)
