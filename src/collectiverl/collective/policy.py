"""The collective: one agent over `[z, state]`, and what tells it `z`."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.representation.clusters import Clusters
from collectiverl.representation.context import Context
from collectiverl.representation.encoder import Encoder, EncoderConfig, init_encoder
from collectiverl.sac.agent import Agent, SACConfig, batch_of_one, init_agent
from collectiverl.sac.policy import act
from collectiverl.types import EnvSpec, UserError

Conditioning = Literal["cls", "last_state", "cluster", "task_id", "zeros"]
EMBEDDED = ("cls", "last_state", "cluster")  # read the trajectory
UNREWARDED = (
    "this collective reads rewards to tell tasks apart: call policy.observe(rewards) after every step, "
    "or train one with --transformer.encoder.no-rewards"
)
WEIGHTS = "collective.safetensors"
ABOUT = "collective.json"


class Collective(eqx.Module):
    """All that is needed to act: encoder, cluster means, actor, critic, normaliser."""

    agent: Agent  # over [z, state]
    encoder: Encoder | None  # None: the condition does not read the trajectory
    clusters: Clusters | None  # whose means replace `z` under `cluster`
    conditioning: Conditioning = eqx.field(static=True)
    tasks: tuple[str, ...] = eqx.field(static=True)
    state_index: tuple[int, ...] = eqx.field(static=True)

    @property
    def condition_dim(self) -> int:
        return self.agent.normalizer.feature_dim - len(self.state_index)


@runtime_checkable
class Conditioner(Protocol):
    """Says `z` for N running trajectories."""

    def embed(self, obs: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]: ...

    def acted(self, actions: Float[np.ndarray, "N A"]) -> None: ...

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None: ...

    def reset(self, mask: Bool[np.ndarray, "N"]) -> None: ...


class Constant:
    """The same `z` whatever happens: zeros, or the one-hot task of each environment."""

    def __init__(self, z: Float[np.ndarray, "N Z"]):
        self.z = jnp.asarray(z)

    def embed(self, obs: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]:
        return self.z

    def acted(self, actions: Float[np.ndarray, "N A"]) -> None:
        pass

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        pass

    def reset(self, mask: Bool[np.ndarray, "N"]) -> None:
        pass


def one_hot(tasks: Sequence[str], known: Sequence[str]) -> Float[np.ndarray, "N K"]:
    """Each task's place among the known ones; an unknown task is all zeros."""
    return np.asarray([[float(task == k) for k in known] for task in tasks], np.float32)


def features(
    state_index: Sequence[int], obs: Float[np.ndarray, "N O"], z: Float[Array, "N Z"]
) -> Float[Array, "N F"]:
    """What the collective's networks see: `[z, state]`."""
    return jnp.concatenate([z, jnp.asarray(obs[:, list(state_index)], jnp.float32)], axis=-1)


class CollectivePolicy:
    """Plays any of its tasks, told only what it has seen.

    One whose encoder reads rewards has to be told them: Meta-World's own evaluation calls no `observe`, and a
    policy that acts on without it warns, once. `tasks` is read by `task_id` conditioning alone: that of each
    environment, or one that all of them play.
    """

    def __init__(self, collective: Collective, tasks: Sequence[str] = ()):
        self.collective, self.tasks = collective, tuple(tasks)
        self.agents = batch_of_one(collective.agent)
        self.conditioner: Conditioner | None = None
        self.num_envs = 0
        self._reads_rewards = collective.encoder is not None and collective.encoder.rewards
        self._unrewarded = False  # acted, and not told the reward since

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        if self.conditioner is None:
            self.reset(np.ones(len(observations), bool))
        assert self.conditioner is not None
        if self._unrewarded and self._reads_rewards:
            self._reads_rewards = False  # said once
            warnings.warn(UNREWARDED, stacklevel=2)
        z = self._embedding(observations)
        action = np.asarray(act(self.agents, features(self.collective.state_index, observations, z)[None])[0])
        self.conditioner.acted(action)
        self._unrewarded = True
        return action

    def _embedding(self, observations: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]:
        assert self.conditioner is not None
        return self.conditioner.embed(observations)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        if self.conditioner is None or len(env_mask) != self.num_envs:
            self.num_envs = len(env_mask)
            tasks = self.tasks * self.num_envs if len(self.tasks) == 1 else self.tasks
            self.conditioner = conditioner(self.collective, self.num_envs, tasks)
        self.conditioner.reset(env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self._unrewarded = False
        if self.conditioner is not None:
            self.conditioner.observe(rewards)


class Shuffled(CollectivePolicy):
    """Acts on the embedding that belongs to the environment `shift` places on: is the token used at all?"""

    def __init__(self, collective: Collective, tasks: Sequence[str], shift: int):
        super().__init__(collective, tasks)
        self.shift = shift

    def _embedding(self, observations: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]:
        return jnp.roll(super()._embedding(observations), self.shift, axis=0)


def conditioner(collective: Collective, num_envs: int, tasks: Sequence[str] = ()) -> Conditioner:
    """What says `z` to a collective playing `num_envs` environments."""
    c = collective
    if c.encoder is not None:
        readout = "last_state" if c.conditioning == "last_state" else "cls"
        context = Context(c.encoder, c.state_index, num_envs, readout=readout)
        return context if c.clusters is None else _Clustered(context, c.clusters)
    if c.conditioning == "task_id":
        if len(tasks) != num_envs:
            raise UserError(
                "this collective is conditioned on the task id: say which task each environment plays"
            )
        return Constant(one_hot(tasks, c.tasks))
    return Constant(np.zeros((num_envs, c.condition_dim), np.float32))


class _Clustered:
    """A context whose embedding is replaced by its cluster's mean."""

    def __init__(self, context: Context, clusters: Clusters):
        self.context, self.clusters = context, clusters
        self.acted, self.observe, self.reset = context.acted, context.observe, context.reset

    def embed(self, obs: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]:
        return jax.vmap(self.clusters)(self.context.embed(obs))


# -- on disk -----------------------------------------------------------------------------------------------


def save_collective(
    folder: Path, collective: Collective, sac: SACConfig, encoder: EncoderConfig | None
) -> None:
    checkpoints.save_tree(folder / WEIGHTS, collective)
    normalizer = collective.agent.normalizer
    about = {
        "sac": sealed.to_jsonable(sac),
        "encoder": sealed.to_jsonable(encoder) if encoder else None,
        "feature_dim": normalizer.feature_dim,
        "action_dim": collective.agent.actor.action_dim,
        "clusters": None if collective.clusters is None else list(collective.clusters.mean.shape),
        "conditioning": collective.conditioning,
        "tasks": list(collective.tasks),
        "state_index": list(collective.state_index),
    }
    checkpoints.write_json(folder / ABOUT, about)


def load_collective(folder: Path) -> tuple[Collective, SACConfig, EncoderConfig | None]:
    """The collective sealed in `folder`, its files verified, and the settings of its networks."""
    sealed.verify(folder)
    about = sealed.read_json(folder / ABOUT)
    try:
        sac = SACConfig(**about["sac"])
        encoder = EncoderConfig(**about["encoder"]) if about["encoder"] else None
        like = eqx.filter_eval_shape(_blank, about, sac, encoder, jax.random.key(0))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / ABOUT} does not describe a collective ({error})") from error
    return checkpoints.load_tree(folder / WEIGHTS, like), sac, encoder


def _blank(about: dict, sac: SACConfig, encoder: EncoderConfig | None, key: Array) -> Collective:
    k_agent, k_encoder = jax.random.split(key)
    state_dim, action_dim = len(about["state_index"]), about["action_dim"]
    return Collective(
        agent=init_agent(about["feature_dim"], action_dim, sac, k_agent),
        encoder=init_encoder(encoder, state_dim, action_dim, k_encoder) if encoder else None,
        clusters=None if about["clusters"] is None else Clusters.blank(*about["clusters"]),
        conditioning=about["conditioning"],
        tasks=tuple(about["tasks"]),
        state_index=tuple(about["state_index"]),
    )


def check_shapes(collective: Collective, spec: EnvSpec) -> None:
    """Raises if the collective cannot play in environments of these shapes."""
    fits = collective.state_index == spec.state_index and collective.agent.actor.action_dim == spec.action_dim
    if not fits:
        raise UserError(
            f"this collective was trained on states of {len(collective.state_index)} entries and "
            f"{collective.agent.actor.action_dim} actions, {spec.task} has {spec.state_dim} and {spec.action_dim}"
        )
