"""The updates of soft actor-critic: critic, target, actor, temperature. State in, state out.

The functions for one expert stand first; `update` maps them over E experts and scans them over U batches.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from collectiverl.artifacts import provenance
from collectiverl.nn.gaussian import Actor
from collectiverl.nn.mlp import Critic
from collectiverl.nn.normalizer import Normalizer
from collectiverl.nn.preprocessor import Preprocessor
from collectiverl.nn.products import Precision, operands_in
from collectiverl.sac import losses
from collectiverl.sac.agent import SACConfig, SACState, critic_parameters
from collectiverl.types import AnyArray, Transition

P = TypeVar("P")  # parameters: a module, an array, or a tuple of them


def _adam_step(parameters: P, grads: Any, opt: optax.OptState, rate: float) -> tuple[P, optax.OptState]:
    updates, opt = optax.adam(rate).update(grads, opt)
    return eqx.apply_updates(parameters, updates), opt


def update_critic(
    state: SACState,
    batch: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    raw_obs: Float[Array, "batch O"],
) -> tuple[SACState, dict[str, Array]]:
    """One step of both critics on a batch of preprocessed transitions.

    A trainable preprocessor learns with them: it reads `raw_obs`, the batch's observations before preprocessing.
    """
    agent, alpha = state.agent, jnp.exp(state.log_alpha)
    next_action, next_log_prob = agent.actor(batch.next_obs).sample(key)
    next_q = state.target_critic(batch.next_obs, next_action)
    target = jax.vmap(losses.td_target, (0, 0, 0, 0, None))(
        batch.reward, batch.discount, next_q, next_log_prob, alpha
    )

    @partial(eqx.filter_value_and_grad, has_aux=True)
    def loss_fn(parameters: tuple[Critic, Preprocessor | None]):
        critic, preprocess = parameters
        q = critic(batch.obs if preprocess is None else preprocess(raw_obs), batch.action)
        return jnp.mean(jax.vmap(losses.critic_loss)(q, target)), q

    parameters = critic_parameters(agent)
    (loss, q), grads = loss_fn(parameters)
    rate = config.critic_learning_rate or config.learning_rate
    (critic, preprocess), opt = _adam_step(parameters, grads, state.opt_critic, rate)
    agent = replace(agent, critic=critic, normalizer=agent.normalizer if preprocess is None else preprocess)
    state = replace(state, agent=agent, opt_critic=opt)
    return state, {"critic/loss": loss, "critic/q": q.mean(), "critic/target": target.mean()}


def update_target(state: SACState, config: SACConfig) -> SACState:
    """The target critics, moved towards the critics by the fraction `tau`."""
    target = optax.incremental_update(
        eqx.filter(state.agent.critic, eqx.is_array),
        eqx.filter(state.target_critic, eqx.is_array),
        config.tau,
    )
    return replace(state, target_critic=eqx.combine(target, state.target_critic))


def update_average(state: SACState, config: SACConfig) -> SACState:
    """The averaged actor, moved towards the actor by the fraction `1 - actor_average`."""
    if state.average is None or config.actor_average is None:
        return state
    average = optax.incremental_update(
        eqx.filter(state.agent.actor, eqx.is_array),
        eqx.filter(state.average, eqx.is_array),
        1 - config.actor_average,
    )
    return replace(state, average=eqx.combine(average, state.average))


class Imitation(NamedTuple):
    """Weights of the actor's distance from the advice, relative to the mean absolute Q (as Fujimoto & Gu 2021)."""

    filtered: Float[Array, ""]  # in states where the critics prefer the advice to the actor's mode
    everywhere: Float[Array, ""]


def _imitation_loss(
    critic: Critic, batch: Transition, mode: Float[Array, "batch A"], weights: Imitation
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The weighted mean distance of the modes from the advice; and the share of states that the filter keeps."""
    told, own = cast(Array, batch.advice), jax.lax.stop_gradient(mode)
    is_told = ~jnp.isnan(told).any(-1)
    advice = jnp.where(is_told[:, None], told, own)
    kept = is_told * jax.vmap(losses.advice_is_better)(critic(batch.obs, advice), critic(batch.obs, own))
    weight = is_told * (weights.filtered * kept + weights.everywhere)
    return jnp.mean(weight * jax.vmap(losses.imitation)(mode, advice)), kept.mean()


def update_actor(
    state: SACState,
    batch: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    imitation: Imitation | None = None,
) -> tuple[SACState, Float[Array, "batch"], dict[str, Array]]:
    """One step of the actor, which `imitation` keeps near the batch's advice.

    Also returns the log-probabilities of the actions that it drew, which the temperature needs.
    """
    agent, alpha = state.agent, jnp.exp(state.log_alpha)

    @partial(eqx.filter_value_and_grad, has_aux=True)
    def loss_fn(actor: Actor):
        gaussian = actor(batch.obs)
        action, log_prob = gaussian.sample(key)
        q = agent.critic(batch.obs, action)
        loss = jnp.mean(jax.vmap(losses.actor_loss, (0, 0, None))(q, log_prob, alpha))
        more = {}
        if imitation is not None:
            scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))  # one weight for all sizes of reward
            distance, kept = _imitation_loss(agent.critic, batch, gaussian.mode, imitation)
            loss += scale * distance
            more = {"actor/advice_kept": kept}
        return loss, (log_prob, gaussian.log_std, more)

    (loss, (log_prob, log_std, more)), grads = loss_fn(agent.actor)
    actor, opt = _adam_step(agent.actor, grads, state.opt_actor, config.learning_rate)
    state = replace(state, agent=replace(agent, actor=actor), opt_actor=opt)
    metrics = {"actor/loss": loss, "actor/entropy": -log_prob.mean(), "actor/log_std": log_std.mean()}
    return state, log_prob, metrics | more


def update_temperature(
    state: SACState, log_prob: Float[Array, "batch"], config: SACConfig
) -> tuple[SACState, dict[str, Array]]:
    """One step of the temperature towards the target entropy; the metric is the temperature before the step."""
    target_entropy = config.entropy_per_action * state.agent.actor.action_dim

    @jax.grad
    def gradient(log_alpha: Array) -> Array:
        loss = jax.vmap(losses.temperature_loss, (None, 0, None))
        return jnp.mean(loss(log_alpha, log_prob, target_entropy))

    log_alpha, opt = _adam_step(
        state.log_alpha, gradient(state.log_alpha), state.opt_alpha, config.temperature_learning_rate
    )
    metrics = {"temperature": jnp.exp(state.log_alpha)}
    return replace(state, log_alpha=log_alpha, opt_alpha=opt), metrics


def update_one(
    state: SACState,
    batch: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    imitation: Imitation | None = None,
) -> tuple[SACState, dict[str, Array]]:
    """One update of one expert on a raw batch."""
    preprocess, raw_obs = state.agent.normalizer, batch.obs
    batch = batch._replace(obs=preprocess(raw_obs), next_obs=preprocess(batch.next_obs))
    k_critic, k_actor = jax.random.split(key)
    state, of_critic = update_critic(state, batch, k_critic, config, raw_obs)
    state = update_target(state, config)
    state, log_prob, of_actor = update_actor(state, batch, k_actor, config, imitation)
    state = update_average(state, config)
    state, of_temperature = update_temperature(state, log_prob, config)
    return replace(state, updates=state.updates + 1), of_critic | of_actor | of_temperature


def update(
    state: SACState,
    batches: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    imitation: Imitation | None = None,
) -> tuple[SACState, dict[str, Array]]:
    """U updates of E experts in one compiled call; `batches` has axes (U, E, batch).

    Metrics are those of the last update, with axis (E,).
    """
    precision = provenance.operands() if config.precision == "auto" else config.precision
    return _updates(state, batches, key, config, imitation, cast(Precision, precision))


@eqx.filter_jit
def _updates(
    state: SACState,
    batches: Transition,
    key: PRNGKeyArray,
    config: SACConfig,
    imitation: Imitation | None,
    precision: Precision,
) -> tuple[SACState, dict[str, Array]]:
    arrays, static = eqx.partition(state, eqx.is_array)
    experts = state.log_alpha.shape[0]

    def body(carry, inputs):
        batch, k = inputs
        one = partial(_update_arrays, static=static, config=config, imitation=imitation)
        return jax.vmap(one)(carry, batch, jax.random.split(k, experts))

    keys = jax.random.split(key, batches.reward.shape[0])
    with operands_in(precision):
        arrays, metrics = jax.lax.scan(body, arrays, (batches, keys))
    return eqx.combine(arrays, static), jax.tree.map(lambda m: m[-1], metrics)


def _update_arrays(arrays, batch, key, *, static, config, imitation):
    """`update_one` of the arrays of a state, which alone can be mapped and scanned."""
    state, metrics = update_one(eqx.combine(arrays, static), batch, key, config, imitation)
    return eqx.filter(state, eqx.is_array), metrics


def update_statistics(state: SACState, obs: Float[AnyArray, "E N O"]) -> SACState:
    """The state with observations added to the running mean and deviation of its experts."""
    normalizer = state.agent.normalizer
    assert isinstance(normalizer, Normalizer)
    return eqx.tree_at(lambda s: s.agent.normalizer, state, _add_observations(normalizer, obs))


@jax.jit
def _add_observations(normalizers: Normalizer, obs: Float[AnyArray, "E N O"]) -> Normalizer:
    return jax.vmap(Normalizer.update)(normalizers, obs)
