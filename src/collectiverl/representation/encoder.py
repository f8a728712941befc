"""The trajectory encoder: a window of trajectory in, the task embedding `z` out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.artifacts import checkpoints, configs, sealed
from collectiverl.artifacts.files import write_json
from collectiverl.artifacts.modules import load_module
from collectiverl.artifacts.validation import MOST_LAYERS, MOST_UNITS, at_least, at_most, one_of
from collectiverl.nn.batch_last import project
from collectiverl.nn.mlp import Linear
from collectiverl.nn.recurrent import Recurrent
from collectiverl.nn.sequence import SequenceModel
from collectiverl.nn.transformer import CLSTransformer
from collectiverl.representation.scales import REWARD_INPUTS, Point, Scales, Standard
from collectiverl.representation.tokens import InterleavedTokens, JointTokens, Parts, Tokens, inputs_of
from collectiverl.types import ConfigError, Window

WEIGHTS = "encoder.safetensors"
ABOUT = "encoder.json"
Kind = Literal["transformer", "gru", "lstm"]
Layout = Literal["joint", "interleaved"]
Readout = Literal["cls", "last_state"]  # whose output becomes `z`


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The trajectory encoder."""

    kind: Kind = "transformer"  # the network that reads the steps
    layout: Layout = "joint"  # joint: one token a step; interleaved: one each for action, reward and state
    rewards: bool = True  # read the rewards too
    window: int = 20  # steps of the trajectory that are read, at most
    dim: int = 32  # entries of a token, or hidden units of a recurrent network
    layers: int = 3  # layers of the network
    heads: int = 8  # attention heads of a layer
    feedforward: int = 128  # hidden units of a layer's MLP
    dropout: float = 0.1  # share of entries that training sets to zero
    z_dim: int = 6  # entries of the task embedding z

    def __post_init__(self) -> None:
        at_least(self, 1, "window", "dim", "layers", "heads", "feedforward", "z_dim")
        at_most(self, MOST_UNITS, "window", "dim", "feedforward", "z_dim")
        at_most(self, MOST_LAYERS, "layers", "heads")
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


class EncoderState(NamedTuple):
    """Running trajectories, as an encoder that reads them step by step remembers them."""

    body: Any  # of the network: a recurrent state, or the last tokens' keys and values
    latest: Window  # the last step alone


class Encoder(eqx.Module):
    """Standardises windows, reads them, and embeds them: one window, or a batch in front of its axes.

    `z` has length sqrt(Z), so that its entries have mean square 1 as the standardised state beside it has: a
    policy that consumes it sees a bounded input, and the cosine that InfoNCE compares is all there is of it.
    """

    scales: Scales
    tokens: Tokens
    body: SequenceModel
    head: Linear
    decoders: list[Linear]
    rewards: bool = eqx.field(static=True)
    window: int = eqx.field(static=True)  # steps, at most

    @property
    def action_dim(self) -> int:
        return len(self.decoders[0].bias)

    @property
    def z_dim(self) -> int:
        return len(self.head.bias)

    def __call__(self, window: Window) -> Float[Array, "*batch Z"]:
        """The embedding at the last step of raw windows."""
        standard = self.scales(window)
        return self._embed(self.body.last(*self._tokens(standard)), standard.mask.shape[1:])

    def every(self, window: Window) -> Float[Array, "*batch L Z"]:
        """The embedding at every step of raw windows of any length, each of what lies behind it, in one pass."""
        return self.every_of(self.scales(window))

    def every_of(self, standard: Standard) -> Float[Array, "*batch L Z"]:
        """The same of standardised windows."""
        outputs = self.body.every(*self._tokens(standard))[
            :, self.tokens.per_step - 1 :: self.tokens.per_step
        ]
        z = self._embed(outputs.reshape(len(outputs), -1), standard.mask.shape)
        return jnp.moveaxis(z, 0, -2)

    def last_state(self, window: Window) -> Float[Array, "*batch Z"]:
        """The last state's own output in place of CLS': what the conditioning `last_state` reads."""
        _, outputs = self.body(*self._tokens(self.scales(window)), None)
        return self._embed(outputs[:, -1], window.mask.shape[:-1])

    def read(self, standard: Standard, key: PRNGKeyArray | None = None) -> EncoderOutput:
        """Embedding and reconstruction of standardised windows, which may be masked in places."""
        summary, outputs = self.body(*self._tokens(standard), key)
        kinds = zip(self.decoders, self.tokens.outputs_of_parts(outputs), strict=True)
        parts = (jnp.moveaxis(project(decoder, output), 0, -1) for decoder, output in kinds)
        shape = standard.mask.shape
        return EncoderOutput(
            self._embed(summary, shape[1:]), tuple(part.reshape(*shape, -1) for part in parts)
        )

    # -- step by step --------------------------------------------------------------------------------------

    def begin(self, num: int) -> EncoderState:
        """So many trajectories that have not begun."""
        latest = Window(
            jnp.zeros((num, 1, self.scales.state_dim)),
            jnp.zeros((num, 1, self.action_dim)),
            jnp.zeros((num, 1)),
            jnp.zeros((num, 1), bool),
        )
        return EncoderState(self.body.begin(num), latest)

    def step(
        self, state: EncoderState, latest: Window, begins: Bool[Array, "N"]
    ) -> tuple[EncoderState, Float[Array, "N Z"]]:
        """Takes in one more step (windows of length 1) and embeds it, at the same cost however long it runs."""
        before = state.latest._replace(mask=state.latest.mask & ~begins[:, None])
        pair = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), before, latest)
        tokens, _ = self._tokens(jax.tree.map(lambda x: x[1:], self.scales(pair)))
        body, summary = self.body.step(state.body, tokens[:, 0], begins)
        for i in range(1, self.tokens.per_step):
            body, summary = self.body.step(body, tokens[:, i], jnp.zeros_like(begins))
        return EncoderState(body, latest), self._embed(summary, begins.shape)

    def _tokens(self, standard: Standard) -> tuple[Float[Array, "dim n B"], Bool[Array, "n B"]]:
        mask = jnp.repeat(standard.mask, self.tokens.per_step, axis=0)
        return self.tokens(inputs_of(standard, self.rewards)), mask.reshape(len(mask), -1)

    def _embed(self, summary: Float[Array, "dim B"], batch: tuple[int, ...]) -> Float[Array, "*batch Z"]:
        raw = project(self.head, summary)
        return (raw * jax.lax.rsqrt(jnp.mean(raw**2, axis=0) + 1e-8)).T.reshape(*batch, -1)


def init_encoder(
    config: EncoderConfig, state_dim: int, action_dim: int, key: PRNGKeyArray, points: Sequence[Point] = ()
) -> Encoder:
    """A fresh encoder that does not standardise yet."""
    k_tokens, k_body, k_head, k_decoders = jax.random.split(key, 4)
    scales = Scales.identity(state_dim, points)
    sizes = (action_dim, 1, state_dim) if config.rewards else (action_dim, state_dim)
    read = (action_dim, REWARD_INPUTS, scales.feature_dim)
    inputs = read if config.rewards else (action_dim, scales.feature_dim)
    tokens = (JointTokens if config.layout == "joint" else InterleavedTokens)(
        inputs, config.dim, key=k_tokens
    )
    c, reach = config, config.window * tokens.per_step
    if c.kind == "transformer":
        body = CLSTransformer(c.dim, c.layers, c.heads, c.feedforward, c.dropout, reach, key=k_body)
    else:
        body = Recurrent(c.kind, c.dim, c.layers, c.dropout, key=k_body)
    decoders = zip(sizes, jax.random.split(k_decoders, len(sizes)), strict=True)
    return Encoder(
        scales=scales,
        tokens=tokens,
        body=body,
        head=Linear(c.dim, c.z_dim, key=k_head),
        decoders=[Linear(c.dim, size, key=k) for size, k in decoders],
        rewards=c.rewards,
        window=c.window,
    )


def save_encoder(folder: Path, encoder: Encoder, config: EncoderConfig, **about: object) -> None:
    """Weights, statistics, and what is needed to rebuild the modules around them."""
    checkpoints.save_tree(folder / WEIGHTS, encoder)
    scales = encoder.scales
    sizes = {"state_dim": scales.state_dim, "action_dim": encoder.action_dim, "points": list(scales.points)}
    write_json(folder / ABOUT, {"encoder": sealed.to_jsonable(config), **sizes, **about})


def load_encoder(folder: Path) -> tuple[Encoder, EncoderConfig]:
    """The encoder sealed in `folder`, its files verified."""

    def make(about: Mapping[str, Any], key: PRNGKeyArray) -> Encoder:
        said = configs.reader(about, ABOUT)
        sizes = said("state_dim", int), said("action_dim", int)
        return init_encoder(_config(about), *sizes, key, said("points", tuple[tuple[int, ...], ...]))

    encoder, about = load_module(folder, about=ABOUT, weights=WEIGHTS, make=make)
    return encoder, _config(about)


def _config(about: Mapping[str, Any]) -> EncoderConfig:
    return configs.build(EncoderConfig, about["encoder"], f"{ABOUT}: encoder")
