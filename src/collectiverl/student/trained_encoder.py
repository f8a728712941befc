"""The collective's encoder as the preprocessor of its agent, so that SAC trains it together with the critics.

Observations are then whole windows, flattened; every update embeds them anew.
"""

from dataclasses import replace
from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from collectiverl.collective.conditioning import CLS, Own
from collectiverl.collective.policy import Collective
from collectiverl.collective.probing import ProbingConfig
from collectiverl.nn.preprocessor import Preprocessor
from collectiverl.nn.transformer import CLSTransformer
from collectiverl.representation.context import reading
from collectiverl.representation.encoder import Encoder, Readout
from collectiverl.representation.scales import Scales
from collectiverl.sac.agent import Agent
from collectiverl.types import AnyArray, UserError, Window

WINDOWED = ("cls", "last_state")  # of the frozen encoders, those whose output is `z` as it is


@final
class TrainedEncoder(Preprocessor):
    """Windows to `[z, features]`, standardised as the collective's agent was trained; the encoder alone learns."""

    trainable: ClassVar[bool] = True
    scales: Scales  # of the features; get no gradient
    encoder: Encoder
    readout: Readout | None = eqx.field(static=True)  # None: the encoder was trained with the actor

    @property
    def feature_dim(self) -> int:
        return self.encoder.z_dim + self.scales.feature_dim

    @property
    def steps(self) -> int:
        """Steps of a window. An encoder trained with the actor needs one more, for its oldest reward's change."""
        return self.encoder.window + (self.readout is None)

    @property
    def packed_dim(self) -> int:
        """Entries of a window as a flat observation."""
        return self.steps * (self.scales.state_dim + self.encoder.action_dim + 2)

    def __call__(self, obs: Float[AnyArray, "*batch P"]) -> Float[Array, "*batch F"]:
        window = unpack(obs, self.steps, self.encoder.action_dim)
        if self.readout is None:
            z = self.encoder.every(window)[..., -1, :]
        else:
            z = reading(self.encoder, self.readout)(window)
        return jnp.concatenate([z, self.scales(window).features[-1]], axis=-1)


def pack(window: Window) -> Float[Array, "N P"]:
    """Windows as flat observations."""
    flat = jnp.concatenate(
        [window.state, window.action, window.reward[..., None], window.mask[..., None]], axis=-1
    )
    return flat.reshape(*flat.shape[:-2], -1)


def unpack(obs: Float[AnyArray, "*batch P"], steps: int, action_dim: int) -> Window:
    """The windows of flat observations."""
    columns = jnp.reshape(obs, (*obs.shape[:-1], steps, -1))
    width = columns.shape[-1]
    state, action, reward, mask = jnp.split(columns, [width - action_dim - 2, width - 2, width - 1], axis=-1)
    return Window(state, action, reward[..., 0], mask[..., 0] > 0.5)


def trained_encoder(collective: Collective) -> TrainedEncoder:
    """The collective's encoder, as a preprocessor that is trained.

    Raises:
        UserError: this collective's `z` is not the output of an encoder that reads windows.
    """
    conditioning = collective.conditioning
    if isinstance(conditioning, CLS) and conditioning.name in WINDOWED:
        return TrainedEncoder(collective.scales, conditioning.encoder, conditioning.readout)
    if isinstance(conditioning, Own) and _reads_windows(conditioning.encoder):
        return TrainedEncoder(collective.scales, conditioning.encoder, None)
    raise UserError(
        f"a collective conditioned on {conditioning.name} has no encoder that can be trained so, which takes a "
        "transformer of one layer: leave out --strategy.finetune.encoder"
    )


def _reads_windows(encoder: Encoder) -> bool:
    """Whether the last window alone gives `z`: further layers, or a recurrent state, look back further."""
    return isinstance(encoder.body, CLSTransformer) and len(encoder.body.blocks) == 1


def with_trained_encoder(collective: Collective) -> Agent:
    """The collective's agent, with its encoder as the preprocessor.

    Raises:
        UserError: this collective's `z` is not the output of an encoder that reads windows.
    """
    return eqx.tree_at(lambda a: a.normalizer, collective.agent, trained_encoder(collective))


def with_agent(collective: Collective, agent: Agent) -> Collective:
    """The collective with a fine-tuned agent, and with its encoder if that was trained.

    It does not probe: the agent was trained without, and its actions are what was judged.
    """
    collective = replace(collective, probing=ProbingConfig())
    preprocessor = agent.normalizer
    if not isinstance(preprocessor, TrainedEncoder):
        return eqx.tree_at(lambda c: c.agent, collective, agent)
    agent = eqx.tree_at(lambda a: a.normalizer, agent, collective.agent.normalizer)
    parts = agent, preprocessor.encoder
    return eqx.tree_at(lambda c: (c.agent, c.conditioning.encoder), collective, parts)
