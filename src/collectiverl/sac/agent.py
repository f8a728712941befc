"""A batch of E soft actor-critic agents as one immutable state; `sac.updates` changes it.

Every array of an `Agent` or `SACState` made by `init` has a leading axis of experts; E = 1 is no special case.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from collectiverl.artifacts.validation import (
    MOST_LAYERS,
    MOST_ROWS,
    MOST_UNITS,
    at_least,
    at_most,
    finite,
    fraction,
    positive,
)
from collectiverl.nn.gaussian import Actor, Gaussian
from collectiverl.nn.mlp import Critic
from collectiverl.nn.normalizer import Normalizer
from collectiverl.nn.preprocessor import Preprocessor
from collectiverl.types import ConfigError, ValueUnit

T = TypeVar("T")  # a pytree


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """The networks of an agent, and the unit of its values."""

    width: int = 256  # units of a hidden layer
    depth: int = 2  # hidden layers
    layer_norm: bool = True  # in the critics
    log_std_min: float = -5.0  # lower bound of log sigma
    log_std_max: float = 2.0  # upper bound of log sigma
    gamma: float = 0.97  # discount; 0.97 looks about 33 steps ahead
    reward_scale: float = 0.1  # rewards are multiplied by it; those of Meta-World reach 10 a step

    def __post_init__(self) -> None:
        at_least(self, 1, "width", "depth")
        at_most(self, MOST_UNITS, "width")
        at_most(self, MOST_LAYERS, "depth")
        positive(self, "reward_scale")
        finite(self, "log_std_min", "log_std_max")
        _rate(self, "gamma")
        if self.log_std_min >= self.log_std_max:
            raise ConfigError(
                "log_std_min", f"{self.log_std_min} must be below log-std-max={self.log_std_max}"
            )

    @property
    def value_unit(self) -> ValueUnit:
        """What the critics' values are measured in."""
        return ValueUnit(self.reward_scale, self.gamma)


def _rate(config: AgentConfig, name: str) -> None:
    if not 0 < getattr(config, name) <= 1:
        raise ConfigError(name, f"{getattr(config, name)} is not in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class SACConfig(AgentConfig):
    """Networks and hyper-parameters of soft actor-critic."""

    normalize_obs: bool = True  # standardise observations by their running mean and deviation
    n_step: int = 3  # steps of reward before the bootstrap
    tau: float = 0.01  # Polyak rate of the target critics
    batch_size: int = 256  # transitions of an update
    learning_rate: float = 1e-3  # of Adam, for actor and critics
    critic_learning_rate: float | None = None  # of Adam, for the critics; None: as for the actor
    temperature_learning_rate: float = 3e-4  # of Adam, for the temperature alpha
    initial_temperature: float = 0.03  # alpha at the start
    # target entropy for each entry of the action (Haarnoja et al. 2018b, appendix D)
    entropy_per_action: float = -1.0
    # decay of a moving average of the actor, which plays in evaluations and is saved; None: no average
    actor_average: float | None = None
    # of the operands of large matrix products in an update; auto: bfloat16 where the processor multiplies it faster
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "n_step", "batch_size")
        at_most(self, MOST_ROWS, "n_step", "batch_size")
        positive(
            self, "learning_rate", "critic_learning_rate", "temperature_learning_rate", "initial_temperature"
        )
        finite(self, "entropy_per_action")
        _rate(self, "tau")
        if self.actor_average is not None:
            fraction(self, "actor_average")


class Agent(eqx.Module):
    """An actor, twin critics, and the preprocessor of what both read.

    The preprocessor is a `Normalizer`, or an encoder that the critic's loss alone trains (Yarats et al. 2021, DrQ),
    as when a collective is fine-tuned. Its field is called `normalizer` because saved weights name it so.
    """

    actor: Actor
    critic: Critic
    normalizer: Preprocessor

    def policy(self, obs: Float[Array, "*batch O"]) -> Gaussian:
        return self.actor(self.normalizer(obs))

    def q(self, obs: Float[Array, "*batch O"], action: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        """The smaller of the twin critics, in units of scaled reward."""
        return jnp.min(self.critic(self.normalizer(obs), action), axis=-1)


class SACState(eqx.Module):
    """All that training changes."""

    agent: Agent
    target_critic: Critic
    log_alpha: Float[Array, "*experts"]
    opt_actor: optax.OptState
    opt_critic: optax.OptState
    opt_alpha: optax.OptState
    updates: Int[Array, "*experts"]
    average: Actor | None = None  # exponential average of the actor, see `SACConfig.actor_average`

    @property
    def playing(self) -> Agent:
        """What is evaluated and kept: the agent, with the average of its actor if there is one."""
        return self.agent if self.average is None else replace(self.agent, actor=self.average)


def init_agent(obs_dim: int, action_dim: int, config: AgentConfig, key: PRNGKeyArray) -> Agent:
    """One freshly initialised agent, without a leading axis."""
    k_actor, k_critic = jax.random.split(key)
    return Agent(
        actor=Actor(
            obs_dim,
            action_dim,
            config.width,
            config.depth,
            log_std_bounds=(config.log_std_min, config.log_std_max),
            key=k_actor,
        ),
        critic=Critic(
            obs_dim, action_dim, config.width, config.depth, layer_norm=config.layer_norm, key=k_critic
        ),
        normalizer=Normalizer.identity(obs_dim),
    )


def init_state(agent: Agent, config: SACConfig) -> SACState:
    """Learning state around one agent: fresh optimisers, targets equal to the critics."""
    return SACState(
        agent=agent,
        target_critic=agent.critic,
        log_alpha=jnp.log(jnp.float32(config.initial_temperature)),
        opt_actor=optax.adam(config.learning_rate).init(eqx.filter(agent.actor, eqx.is_array)),
        opt_critic=optax.adam(config.learning_rate).init(
            eqx.filter(critic_parameters(agent), eqx.is_inexact_array)
        ),
        opt_alpha=optax.adam(config.temperature_learning_rate).init(jnp.zeros(())),
        updates=jnp.zeros((), jnp.int32),
        average=None if config.actor_average is None else agent.actor,
    )


def critic_parameters(agent: Agent) -> tuple[Critic, Preprocessor | None]:
    """What the critic's loss trains: the critics, and the preprocessor if it is trainable."""
    return agent.critic, agent.normalizer if agent.normalizer.trainable else None


def expert_count(batch: Any) -> int:
    """E, of a batch of agents or learning states."""
    return jax.tree.leaves(eqx.filter(batch, eqx.is_array))[0].shape[0]


# One program each, not one for every shape among the leaves, which would take longer to compile.


def expert_of(batch: T, index: int) -> T:
    """One agent or learning state of a batch, without the leading axis."""
    return _taken(batch, jnp.asarray(index))


@eqx.filter_jit
def _taken(batch: T, index: Int[Array, ""]) -> T:
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, batch)


@eqx.filter_jit
def batch_of_one(tree: T) -> T:
    """An agent or a learning state as a batch of one expert: every array gets a leading axis of 1."""
    return jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, tree)


@eqx.filter_jit
def _stacked(states: list[SACState]) -> SACState:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@eqx.filter_jit
def _init_one(obs_dim: int, action_dim: int, config: SACConfig, key: PRNGKeyArray) -> SACState:
    return init_state(init_agent(obs_dim, action_dim, config, key), config)


def init(obs_dim: int, action_dim: int, config: SACConfig, keys: Key[Array, "E"]) -> SACState:
    """E fresh learning states, one a key; one by one, since random draws under `vmap` take longer to compile."""
    states = [_init_one(obs_dim, action_dim, config, key) for key in keys]
    return _stacked(states)
