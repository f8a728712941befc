"""`finetune-student`: SAC continued on the collective's own networks, critic included.

With its encoder frozen, observations are `[z, state]`, embedded once as they come. To train the encoder too they
are whole windows, read anew in every update.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from collectiverl.collective.policy import Collective, features
from collectiverl.envs.core import StepResult, VectorEnv
from collectiverl.envs.rollout import Step
from collectiverl.nn.normalizer import Normalizer
from collectiverl.representation.context import Context, reading
from collectiverl.representation.encoder import Encoder, Readout
from collectiverl.sac.agent import Agent
from collectiverl.sac.settings import MentorOutput, Weights
from collectiverl.student.imitation import ImitationConfig
from collectiverl.types import AnyArray, EnvSpec, UserError, Window

WINDOWED = ("cls", "last_state")  # conditionings whose embedding can be trained through


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig:
    """How the collective's networks are trained on."""

    encoder: bool = False  # train the encoder too
    learning_rate: float = 3e-4  # of actor and critics; more, and the first updates undo what they could do
    imitation: ImitationConfig = field(default_factory=ImitationConfig)  # of the collective as it was

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"finetuning.learning-rate={self.learning_rate} must be positive")


# -- an encoder that learns --------------------------------------------------------------------------------


class Eyes(Normalizer):
    """An agent's normaliser that reads windows: `[z, state]`, standardised as ever, with an encoder that learns."""

    encoder: Encoder = eqx.field(kw_only=True)
    readout: Readout = eqx.field(static=True, kw_only=True)
    learns: ClassVar[bool] = True

    @property
    def scale(self) -> Normalizer:
        return Normalizer(self.count, self.mean, self.m2, self.floor)

    def __call__(self, obs: Float[AnyArray, "*batch P"]) -> Float[Array, "*batch F"]:
        window = unpack(obs, self.encoder)
        z = reading(self.encoder, self.readout)(window)
        seen = jnp.concatenate([z, window.state[..., -1, :]], axis=-1)
        return jax.lax.stop_gradient(self.scale)(seen)


def pack(window: Window) -> Float[Array, "N P"]:
    """Windows as flat observations."""
    flat = jnp.concatenate(
        [window.state, window.action, window.reward[..., None], window.mask[..., None]], axis=-1
    )
    return flat.reshape(*flat.shape[:-2], -1)


def unpack(obs: Float[AnyArray, "*batch P"], encoder: Encoder) -> Window:
    steps = jnp.reshape(obs, (*obs.shape[:-1], encoder.window, -1))
    state, action, reward, mask = jnp.split(
        steps, [steps.shape[-1] - encoder.action_dim - 2, steps.shape[-1] - 2, steps.shape[-1] - 1], axis=-1
    )
    return Window(state, action, reward[..., 0], mask[..., 0] > 0.5)


def seeing(collective: Collective) -> Agent:
    """The collective's networks behind an encoder that learns with them.

    Raises:
        UserError: this collective's `z` is not what an encoder gives.
    """
    if collective.encoder is None or collective.conditioning.name not in WINDOWED:
        raise UserError(
            f"a collective conditioned on {collective.conditioning.name} has no encoder to train: leave out "
            "--finetuning.encoder"
        )
    readout: Readout = "last_state" if collective.conditioning.name == "last_state" else "cls"
    scale = collective.agent.normalizer
    eyes = Eyes(scale.count, scale.mean, scale.m2, scale.floor, encoder=collective.encoder, readout=readout)
    return eqx.tree_at(lambda a: a.normalizer, collective.agent, eyes)


def tuned(collective: Collective, agent: Agent) -> Collective:
    """The collective with networks that were trained on, and the encoder, if it was."""
    eyes = agent.normalizer
    if not isinstance(eyes, Eyes):
        return eqx.tree_at(lambda c: c.agent, collective, agent)
    agent = eqx.tree_at(lambda a: a.normalizer, agent, eyes.scale)
    return eqx.tree_at(lambda c: (c.agent, c.conditioning.encoder), collective, (agent, eyes.encoder))


# -- what it is trained in ---------------------------------------------------------------------------------


class Embedded:
    """A vector of environments seen through the collective's eyes: observations are `[z, state]`, or windows."""

    def __init__(self, envs: VectorEnv, collective: Collective, *, windows: bool = False):
        self._envs, self._collective, self._windows = envs, collective, windows
        self._conditioner = collective.follow(envs.num_envs, envs.tasks)
        dim = collective.condition_dim + envs.spec.state_dim
        if windows:
            assert collective.encoder is not None
            dim = collective.encoder.window * (envs.spec.state_dim + envs.spec.action_dim + 2)
        state = tuple(range(dim - envs.spec.state_dim, dim))
        self.spec = EnvSpec(envs.spec.task, dim, envs.spec.action_dim, envs.spec.horizon, state)
        self.num_envs, self.tasks = envs.num_envs, envs.tasks

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._envs.goals()

    def reset(self, seed: int) -> Float[np.ndarray, "N F"]:
        obs = self._envs.reset(seed)
        self._conditioner.reset(np.ones(self.num_envs, bool))
        return self._look(obs)

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        self._conditioner.acted(action)
        result = self._envs.step(action)
        self._conditioner.observe(result.reward)
        if result.began.any():
            self._conditioner.reset(result.began)
        return result._replace(obs=self._look(result.obs))

    def close(self) -> None:
        self._envs.close()

    def _look(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N F"]:
        z = self._conditioner.embed(obs)
        if self._windows:
            assert isinstance(self._conditioner, Context)
            return np.asarray(pack(self._conditioner.windows))
        return np.asarray(features(self._collective.state_index, obs, z))


# -- what keeps it from falling ----------------------------------------------------------------------------


@eqx.filter_jit
def _said(agent: Agent, obs: Float[AnyArray, "N F"]) -> tuple[Array, Array]:
    mode = agent.policy(obs).mode
    return mode, agent.q(obs, mode)


class Anchor:
    """Help by the collective as it was: while its critic learns the new task, the actor stays near (Schmitt 2018)."""

    def __init__(self, agent: Agent, imitation: ImitationConfig, reward_scale: float):
        self.agent, self.imitation, self.reward_scale = agent, imitation, reward_scale

    def look(self, obs: Float[np.ndarray, "N F"]) -> MentorOutput:
        advice, q = map(np.asarray, _said(self.agent, obs))
        return MentorOutput(q / np.float32(self.reward_scale), advice)

    def act(self, own: Float[np.ndarray, "N A"], env_steps: int) -> Float[np.ndarray, "N A"]:
        return own

    def bonus(self, step: Step) -> Float[np.ndarray, "N"]:
        return np.zeros(len(step.action), np.float32)

    def weights(self, env_steps: int) -> Weights:
        return Weights(imitation=self.imitation.at(env_steps))

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        pass
