"""The collective's encoder as the preprocessor of its agent, so that SAC trains it together with the critics.

Observations are then whole windows, flattened; every update embeds them anew.
"""

from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from collectiverl.collective.conditioning import CLS
from collectiverl.collective.policy import Collective
from collectiverl.nn.preprocessor import Preprocessor
from collectiverl.representation.context import reading
from collectiverl.representation.encoder import Encoder, Readout
from collectiverl.representation.scales import Scales
from collectiverl.sac.agent import Agent
from collectiverl.types import AnyArray, UserError, Window

WINDOWED = ("cls", "last_state")  # conditionings whose embedding can be trained through


@final
class TrainedEncoder(Preprocessor):
    """Windows to `[z, features]`, standardised as the collective's agent was trained; the encoder alone learns."""

    trainable: ClassVar[bool] = True
    scales: Scales  # of the features; get no gradient
    encoder: Encoder
    readout: Readout = eqx.field(static=True)

    @property
    def feature_dim(self) -> int:
        return self.encoder.z_dim + self.scales.feature_dim

    def __call__(self, obs: Float[AnyArray, "*batch P"]) -> Float[Array, "*batch F"]:
        window = unpack(obs, self.encoder)
        z = reading(self.encoder, self.readout)(window)
        return jnp.concatenate([z, self.scales(window).features[-1]], axis=-1)


def pack(window: Window) -> Float[Array, "N P"]:
    """Windows as flat observations."""
    flat = jnp.concatenate(
        [window.state, window.action, window.reward[..., None], window.mask[..., None]], axis=-1
    )
    return flat.reshape(*flat.shape[:-2], -1)


def unpack(obs: Float[AnyArray, "*batch P"], encoder: Encoder) -> Window:
    """The windows of flat observations."""
    steps = jnp.reshape(obs, (*obs.shape[:-1], encoder.window, -1))
    state, action, reward, mask = jnp.split(
        steps, [steps.shape[-1] - encoder.action_dim - 2, steps.shape[-1] - 2, steps.shape[-1] - 1], axis=-1
    )
    return Window(state, action, reward[..., 0], mask[..., 0] > 0.5)


def packed_dim(encoder: Encoder, state_dim: int) -> int:
    """Entries of a window as a flat observation."""
    return encoder.window * (state_dim + encoder.action_dim + 2)


def with_trained_encoder(collective: Collective) -> Agent:
    """The collective's agent, with its encoder as the preprocessor.

    Raises:
        UserError: this collective's `z` is not an encoder's output.
    """
    conditioning = collective.conditioning
    if not isinstance(conditioning, CLS) or conditioning.name not in WINDOWED:
        raise UserError(
            f"a collective conditioned on {conditioning.name} has no encoder that can be trained so: leave out "
            "--finetuning.encoder"
        )
    preprocessor = TrainedEncoder(collective.scales, conditioning.encoder, conditioning.readout)
    return eqx.tree_at(lambda a: a.normalizer, collective.agent, preprocessor)


def with_agent(collective: Collective, agent: Agent) -> Collective:
    """The collective with a fine-tuned agent, and with its encoder if that was trained."""
    preprocessor = agent.normalizer
    if not isinstance(preprocessor, TrainedEncoder):
        return eqx.tree_at(lambda c: c.agent, collective, agent)
    agent = eqx.tree_at(lambda a: a.normalizer, agent, collective.agent.normalizer)
    parts = agent, preprocessor.encoder
    return eqx.tree_at(lambda c: (c.agent, c.conditioning.encoder), collective, parts)
