"""The trajectory encoder: a window of trajectory in, the task embedding `z` out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.artifacts.modules import load_module
from collectiverl.artifacts.validation import at_least, one_of
from collectiverl.nn.batch_last import project
from collectiverl.nn.mlp import Linear
from collectiverl.nn.normalizer import STD_FLOOR, Normalizer
from collectiverl.nn.recurrent import Recurrent
from collectiverl.nn.transformer import Transformer
from collectiverl.representation.tokens import (
    CLSTransformer,
    InterleavedTokens,
    JointTokens,
    Parts,
    Standard,
    Tokens,
    parts_of,
)
from collectiverl.types import ConfigError, Window

WEIGHTS = "encoder.safetensors"
ABOUT = "encoder.json"
CHANGE_FLOOR = 0.002  # metres: a step moves the hand by at most 1 cm
Kind = Literal["transformer", "gru", "lstm"]
Layout = Literal["joint", "interleaved"]
Readout = Literal["cls", "last_state"]  # whose output becomes `z`


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The trajectory encoder."""

    kind: Kind = "transformer"  # the network that reads the steps
    layout: Layout = "joint"  # joint: one token a step; interleaved: one each for action, reward and state
    rewards: bool = True  # read the rewards too
    changes: bool = True  # read how each state differs from the one before, in a scale of its own
    window: int = 20  # steps of the trajectory that are read, at most
    dim: int = 32  # entries of a token, or hidden units of a recurrent network
    layers: int = 3
    heads: int = 8  # attention heads of a layer
    feedforward: int = 128  # hidden units of a layer's MLP
    dropout: float = 0.1  # share of entries that training sets to zero
    z_dim: int = 6  # entries of the task embedding z

    def __post_init__(self) -> None:
        at_least(self, 1, "window", "dim", "layers", "heads", "feedforward", "z_dim")
        one_of(self, get_args(Kind), "kind")
        one_of(self, get_args(Layout), "layout")
        if self.kind == "transformer" and self.dim % self.heads:
            raise ConfigError("dim", f"{self.dim} is not a multiple of the {self.heads} heads")
        if not 0 <= self.dropout < 1:
            raise ConfigError("dropout", f"{self.dropout} is not in [0, 1)")


class EncoderOutput(NamedTuple):
    """What windows give."""

    z: Float[Array, "*batch Z"]
    parts: Parts  # the standardised parts of every step, as reconstructed


class Encoder(eqx.Module):
    """Standardises windows, reads them, and embeds them: one window, or a batch in front of its axes.

    `z` has length sqrt(Z), so that its entries have mean square 1 as the standardised state beside it has: a
    policy that consumes it sees a bounded input, and the cosine that InfoNCE compares is all there is of it.
    """

    state_scale: Normalizer
    reward_scale: Normalizer
    change_scale: Normalizer
    tokens: Tokens
    body: CLSTransformer | Recurrent
    head: Linear
    decoders: list[Linear]
    rewards: bool = eqx.field(static=True)
    changes: bool = eqx.field(static=True)
    window: int = eqx.field(static=True)  # steps, at most

    @property
    def action_dim(self) -> int:
        return len(self.decoders[0].bias)

    def __call__(self, window: Window, key: PRNGKeyArray | None = None) -> Float[Array, "*batch Z"]:
        """The embedding of raw windows of any length up to the encoder's; with dropout if there is a key."""
        standard = self.standardize(window)
        if key is None and isinstance(self.body, CLSTransformer):
            return self._embed(self.body.summary(*self._tokens(standard)), standard.mask.shape[1:])
        return self.read(standard, key).z

    def last_state(self, window: Window) -> Float[Array, "*batch Z"]:
        """The last state's own output in place of CLS': what the conditioning `last_state` reads."""
        _, outputs = self.body(*self._tokens(self.standardize(window)), None)
        return self._embed(outputs[:, -1], window.mask.shape[:-1])

    def standardize(self, window: Window) -> Standard:
        """Windows in standard deviations of the training data, padding zero."""
        scales = self.state_scale, self.reward_scale, self.change_scale
        states, rewards, changes = jax.lax.stop_gradient(scales)
        state, action = jnp.moveaxis(window.state, -2, 0), jnp.moveaxis(window.action, -2, 0)
        reward, mask = jnp.moveaxis(window.reward, -1, 0), jnp.moveaxis(window.mask, -1, 0)
        followed = jnp.concatenate([jnp.zeros_like(mask[:1]), mask[1:] & mask[:-1]])
        change = state - jnp.roll(state, 1, axis=0)
        return Standard(
            state=jnp.where(mask[..., None], states(state), 0),
            change=jnp.where(followed[..., None], changes(change), 0),
            action=jnp.where(mask[..., None], action, 0),
            reward=jnp.where(mask, rewards(reward[..., None])[..., 0], 0)[..., None],
            mask=mask,
        )

    def read(self, standard: Standard, key: PRNGKeyArray | None = None) -> EncoderOutput:
        """Embedding and reconstruction of standardised windows, which may be masked in places."""
        summary, outputs = self.body(*self._tokens(standard), key)
        kinds = zip(self.decoders, self.tokens.outputs_of_parts(outputs), strict=True)
        parts = (jnp.moveaxis(project(decoder, output), 0, -1) for decoder, output in kinds)
        shape = standard.mask.shape
        return EncoderOutput(
            self._embed(summary, shape[1:]), tuple(part.reshape(*shape, -1) for part in parts)
        )

    def _tokens(self, standard: Standard) -> tuple[Float[Array, "dim n B"], Bool[Array, "n B"]]:
        action_reward, state = parts_of(standard, self.rewards)[:-1], standard.state
        if self.changes:
            state = jnp.concatenate([state, standard.change], axis=-1)
        mask = jnp.repeat(standard.mask, self.tokens.per_step, axis=0)
        return self.tokens((*action_reward, state)), mask.reshape(len(mask), -1)

    def _embed(self, summary: Float[Array, "dim B"], batch: tuple[int, ...]) -> Float[Array, "*batch Z"]:
        raw = project(self.head, summary)
        return (raw * jax.lax.rsqrt(jnp.mean(raw**2, axis=0) + 1e-8)).T.reshape(*batch, -1)


def init_encoder(config: EncoderConfig, state_dim: int, action_dim: int, key: PRNGKeyArray) -> Encoder:
    """A fresh encoder that does not standardise yet."""
    k_tokens, k_body, k_reader, k_head, k_decoders = jax.random.split(key, 5)
    sizes = (action_dim, 1, state_dim) if config.rewards else (action_dim, state_dim)
    layout = JointTokens if config.layout == "joint" else InterleavedTokens
    inputs = (*sizes[:-1], state_dim * (1 + config.changes))
    tokens = layout(inputs, config.dim, key=k_tokens)
    if config.kind == "transformer":
        c = config
        transformer = Transformer(c.dim, c.layers, c.heads, c.feedforward, c.dropout, key=k_body)
        body = CLSTransformer(transformer, config.window * tokens.per_step, config.dim, key=k_reader)
    else:
        body = Recurrent(config.kind, config.dim, config.layers, config.dropout, key=k_body)
    decoders = zip(sizes, jax.random.split(k_decoders, len(sizes)), strict=True)
    return Encoder(
        state_scale=Normalizer.identity(state_dim),
        reward_scale=Normalizer.identity(1),
        change_scale=Normalizer.identity(state_dim, CHANGE_FLOOR),
        tokens=tokens,
        body=body,
        head=Linear(config.dim, config.z_dim, key=k_head),
        decoders=[Linear(config.dim, size, key=k) for size, k in decoders],
        rewards=config.rewards,
        changes=config.changes,
        window=config.window,
    )


def fit_scales(
    encoder: Encoder,
    states: Float[np.ndarray, "rows S"],
    rewards: Float[np.ndarray, "rows"],
    changes: Float[np.ndarray, "steps S"],
) -> Encoder:
    """The encoder with the statistics of its training data, which no training changes."""
    still = np.zeros((1, states.shape[1]))  # changes are not centred: a state that rests must read as zero
    rows = states, rewards[:, None]
    scales = [_scale(column, column.mean(0, np.float64, keepdims=True)) for column in rows]
    scales.append(_scale(changes, still, CHANGE_FLOOR))
    return eqx.tree_at(lambda e: (e.state_scale, e.reward_scale, e.change_scale), encoder, scales)


def _scale(
    rows: Float[np.ndarray, "rows size"], centre: Float[np.ndarray, "1 size"], floor: float = STD_FLOOR
) -> Normalizer:
    variance = np.mean((rows - centre) ** 2, axis=0)  # in float64: millions of rows would cost float32 digits
    return Normalizer(
        jnp.ones(()), jnp.asarray(centre[0], jnp.float32), jnp.asarray(variance, jnp.float32), floor
    )


def save_encoder(folder: Path, encoder: Encoder, config: EncoderConfig, **about: object) -> None:
    """Weights, statistics, and what is needed to rebuild the modules around them."""
    checkpoints.save_tree(folder / WEIGHTS, encoder)
    sizes = {"state_dim": encoder.state_scale.mean.shape[-1], "action_dim": encoder.action_dim}
    checkpoints.write_json(folder / ABOUT, {"encoder": sealed.to_jsonable(config), **sizes, **about})


def load_encoder(folder: Path) -> tuple[Encoder, EncoderConfig]:
    """The encoder sealed in `folder`, its files verified."""

    def make(about: Mapping[str, Any], key: PRNGKeyArray) -> Encoder:
        return init_encoder(EncoderConfig(**about["encoder"]), about["state_dim"], about["action_dim"], key)

    encoder, about = load_module(folder, about=ABOUT, weights=WEIGHTS, make=make)
    return encoder, EncoderConfig(**about["encoder"])
