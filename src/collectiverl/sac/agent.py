"""A batch of E soft actor-critic agents as one immutable state; `update(state, batch, key) -> (state, metrics)`.

Every array of an `Agent` or `SACState` made by `init` has a leading axis of experts; E = 1 is no special case.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from collectiverl.nn.gaussian import Actor, Gaussian
from collectiverl.nn.mlp import Critic
from collectiverl.nn.normalizer import Normalizer
from collectiverl.sac import losses
from collectiverl.types import Transition

M = TypeVar("M")  # a module, or a tuple of them


@dataclass(frozen=True, kw_only=True)
class SACConfig:
    """Networks and hyper-parameters of soft actor-critic."""

    width: int = 256  # units of a hidden layer
    depth: int = 2  # hidden layers
    layer_norm: bool = True  # in the critics
    log_std_min: float = -5.0
    log_std_max: float = 2.0
    normalize_obs: bool = True  # standardise observations by their running mean and deviation
    gamma: float = 0.97  # a horizon of 33 steps: what is worth doing shows sooner than over 100
    n_step: int = 3  # steps of reward before the bootstrap
    tau: float = 0.01  # Polyak rate of the target critics
    batch_size: int = 256
    reward_scale: float = 0.1  # Meta-World's rewards reach 10 a step
    learning_rate: float = 1e-3  # Adam, actor and critics
    temperature_learning_rate: float = 3e-4
    initial_temperature: float = 0.03
    entropy_per_action: float = (
        -1.0
    )  # target entropy per action dimension (Haarnoja et al. 2018b, appendix D)

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"sac.gamma={self.gamma} is not in (0, 1]")
        if not 0 < self.tau <= 1:
            raise ValueError(f"sac.tau={self.tau} is not in (0, 1]")
        if self.log_std_min >= self.log_std_max:
            raise ValueError(
                f"sac.log-std-min={self.log_std_min} must be below sac.log-std-max={self.log_std_max}"
            )
        for name in ("width", "depth", "n_step", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"sac.{name.replace('_', '-')}={getattr(self, name)} must be at least 1")
        for name in ("learning_rate", "temperature_learning_rate", "initial_temperature", "reward_scale"):
            if getattr(self, name) <= 0:
                raise ValueError(f"sac.{name.replace('_', '-')}={getattr(self, name)} must be positive")


class Agent(eqx.Module):
    """What acts and judges: actor, twin critics, and the normaliser of what they see.

    In the normaliser's place may stand one that learns, with the critic's loss alone (Yarats et al. 2021, DrQ): an
    encoder between observations and networks, as when a collective is fine-tuned.
    """

    actor: Actor
    critic: Critic
    normalizer: Normalizer

    def policy(self, obs: Float[Array, "*batch O"]) -> Gaussian:
        return self.actor(self.normalizer(obs))

    def q(self, obs: Float[Array, "*batch O"], action: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        """The smaller of the twin critics, in units of scaled reward."""
        return jnp.min(self.critic(self.normalizer(obs), action), axis=-1)


class SACState(eqx.Module):
    """Everything that learning changes."""

    agent: Agent
    target_critic: Critic
    log_alpha: Float[Array, "*experts"]
    opt_actor: optax.OptState
    opt_critic: optax.OptState
    opt_alpha: optax.OptState
    updates: Int[Array, "*experts"]


def init_agent(obs_dim: int, action_dim: int, config: SACConfig, key: PRNGKeyArray) -> Agent:
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
        opt_critic=optax.adam(config.learning_rate).init(eqx.filter(_judging(agent), eqx.is_inexact_array)),
        opt_alpha=optax.adam(config.temperature_learning_rate).init(jnp.zeros(())),
        updates=jnp.zeros((), jnp.int32),
    )


def _judging(agent: Agent) -> tuple[Critic, Normalizer | None]:
    """What the critic's loss trains."""
    return agent.critic, agent.normalizer if agent.normalizer.learns else None


def batch_of_one(tree: M) -> M:
    """An agent or a learning state as the one expert of a batch: every array with a leading axis of 1."""
    return jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, tree)


@eqx.filter_jit
def _init_one(obs_dim: int, action_dim: int, config: SACConfig, key: PRNGKeyArray) -> SACState:
    return init_state(init_agent(obs_dim, action_dim, config, key), config)


def init(obs_dim: int, action_dim: int, config: SACConfig, keys: Key[Array, "E"]) -> SACState:
    """E fresh learning states, one a key; one by one, since random draws under `vmap` compile for seconds."""
    states = [_init_one(obs_dim, action_dim, config, key) for key in keys]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _descend(module: M, grads: Any, opt: optax.OptState, rate: float) -> tuple[M, optax.OptState]:
    updates, opt = optax.adam(rate).update(grads, opt)
    return eqx.apply_updates(module, updates), opt


def update_critic(
    state: SACState,
    batch: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    obs: Float[Array, "batch O"],
) -> tuple[SACState, dict[str, Array]]:
    """One step of both critics on a batch of normalised transitions, whose first observations are `obs`, raw."""
    agent, alpha = state.agent, jnp.exp(state.log_alpha)
    next_action, next_log_prob = agent.actor(batch.next_obs).sample(key)
    next_q = state.target_critic(batch.next_obs, next_action)
    target = jax.vmap(losses.td_target, (0, 0, 0, 0, None))(
        batch.reward, batch.discount, next_q, next_log_prob, alpha
    )

    @partial(eqx.filter_value_and_grad, has_aux=True)
    def loss_fn(judging: tuple[Critic, Normalizer | None]):
        critic, look = judging
        q = critic(batch.obs if look is None else look(obs), batch.action)
        return jnp.mean(jax.vmap(losses.critic_loss)(q, target)), q

    judging = _judging(agent)
    (loss, q), grads = loss_fn(judging)
    (critic, look), opt = _descend(judging, grads, state.opt_critic, config.learning_rate)
    target_critic = optax.incremental_update(
        eqx.filter(critic, eqx.is_array), eqx.filter(state.target_critic, eqx.is_array), config.tau
    )
    target_critic = eqx.combine(target_critic, state.target_critic)
    agent = replace(agent, critic=critic, normalizer=agent.normalizer if look is None else look)
    state = replace(state, agent=agent, target_critic=target_critic, opt_critic=opt)
    return state, {"critic/loss": loss, "critic/q": q.mean(), "critic/target": target.mean()}


def update_actor(
    state: SACState,
    batch: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    imitation: Float[Array, ""] | None = None,
) -> tuple[SACState, dict[str, Array]]:
    """One step of the actor, then of the temperature; with `imitation`, drawn to the batch's advice."""
    agent, alpha = state.agent, jnp.exp(state.log_alpha)

    @partial(eqx.filter_value_and_grad, has_aux=True)
    def loss_fn(actor: Actor):
        gaussian = actor(batch.obs)
        action, log_prob = gaussian.sample(key)
        q = agent.critic(batch.obs, action)
        loss = jnp.mean(jax.vmap(losses.actor_loss, (0, 0, None))(q, log_prob, alpha))
        if imitation is not None:
            scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))  # one weight for all sizes of reward
            loss += (
                imitation
                * scale
                * jnp.mean(jax.vmap(losses.imitation)(gaussian.mode, cast(Array, batch.advice)))
            )
        return loss, (log_prob, gaussian.log_std)

    (loss, (log_prob, log_std)), grads = loss_fn(agent.actor)
    actor, opt = _descend(agent.actor, grads, state.opt_actor, config.learning_rate)

    target_entropy = config.entropy_per_action * batch.action.shape[-1]
    grad_alpha = jax.grad(
        lambda a: jnp.mean(jax.vmap(losses.temperature_loss, (None, 0, None))(a, log_prob, target_entropy))
    )(state.log_alpha)
    step, opt_alpha = optax.adam(config.temperature_learning_rate).update(grad_alpha, state.opt_alpha)
    state = eqx.tree_at(
        lambda s: (s.agent.actor, s.opt_actor, s.log_alpha, s.opt_alpha),
        state,
        (actor, opt, state.log_alpha + cast(Array, step), opt_alpha),
    )
    return state, {
        "actor/loss": loss,
        "actor/entropy": -log_prob.mean(),
        "actor/log_std": log_std.mean(),
        "temperature": alpha,
    }


def update_one(
    state: SACState,
    batch: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    imitation: Float[Array, ""] | None = None,
) -> tuple[SACState, dict[str, Array]]:
    """One update of one expert on a raw batch: critics, targets, actor, temperature."""
    normalize, obs = state.agent.normalizer, batch.obs
    batch = batch._replace(obs=normalize(obs), next_obs=normalize(batch.next_obs))
    k_critic, k_actor = jax.random.split(key)
    state, critic_metrics = update_critic(state, batch, k_critic, config, obs)
    state, actor_metrics = update_actor(state, batch, k_actor, config, imitation)
    state = eqx.tree_at(lambda s: s.updates, state, state.updates + 1)
    return state, critic_metrics | actor_metrics


@eqx.filter_jit
def update(
    state: SACState,
    batches: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    imitation: Float[Array, ""] | None = None,
) -> tuple[SACState, dict[str, Array]]:
    """U updates of E experts in one compiled call; `batches` has axes (U, E, batch).

    `imitation` weighs the actor's distance from the advice that the batches then hold (TD3+BC's form, Fujimoto
    & Gu 2021). Metrics are those of the last update, with axis (E,).
    """
    arrays, static = eqx.partition(state, eqx.is_array)
    experts = state.log_alpha.shape[0]

    def body(carry, inputs):
        batch, k = inputs
        one = partial(_split_update, static=static, config=config, imitation=imitation)
        return jax.vmap(one)(carry, batch, jax.random.split(k, experts))

    keys = jax.random.split(key, batches.reward.shape[0])
    arrays, metrics = jax.lax.scan(body, arrays, (batches, keys))
    return eqx.combine(arrays, static), jax.tree.map(lambda m: m[-1], metrics)


def _split_update(arrays, batch, key, *, static, config, imitation):
    state, metrics = update_one(eqx.combine(arrays, static), batch, key, config, imitation)
    return eqx.filter(state, eqx.is_array), metrics
