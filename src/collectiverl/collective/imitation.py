"""Imitation of the teachers' labels: gradient updates of the actor, and of the encoder trained with it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from collectiverl.collective.conditioning import Own
from collectiverl.collective.distill import LOSSES, DistillLoss
from collectiverl.collective.losses import absolute_error
from collectiverl.collective.policy import Collective
from collectiverl.collective.segments import Batch
from collectiverl.nn.gaussian import Actor
from collectiverl.representation.scales import Scales

CLIP = 1.0  # of the gradient's norm
How = tuple[DistillLoss, float, float]  # the loss, the weight of the absolute error, the average's decay


class Learner(eqx.Module):
    """What imitation trains: the actor, and the encoder if the conditioning learns."""

    actor: Actor
    conditioning: Own | None  # None: it does not learn

    @classmethod
    def of(cls, collective: Collective) -> "Learner":
        own = collective.conditioning
        return cls(collective.agent.actor, own if isinstance(own, Own) else None)

    def put_into(self, collective: Collective) -> Collective:
        changed = eqx.tree_at(lambda c: c.agent.actor, collective, self.actor)
        if self.conditioning is None:
            return changed
        return eqx.tree_at(lambda c: c.conditioning, changed, self.conditioning)


class LearnerState(eqx.Module):
    """Everything that an update changes."""

    learner: Learner
    average: Learner  # of the weights, exponentially: steadier than the last of them (Polyak & Juditsky 1992)
    optimizer: optax.OptState
    updates: Int[Array, ""]

    @classmethod
    def of(cls, learner: Learner) -> "LearnerState":
        state = _optimizer().init(eqx.filter(learner, eqx.is_inexact_array))
        return cls(learner, learner, state, jnp.zeros((), jnp.int32))


def _optimizer() -> optax.GradientTransformation:
    """Adam without its learning rate; on one flat vector, since one kernel per array takes long to compile."""
    return optax.flatten(optax.chain(optax.clip_by_global_norm(CLIP), optax.scale_by_adam()))


def imitation_loss(learner: Learner, batch: Batch, scales: Scales, how: How) -> Float[Array, ""]:
    """The weighted mean of the loss over the steps of the segments."""
    loss, absolute, _ = how
    standard = scales(batch.window)
    z = batch.z if learner.conditioning is None else learner.conditioning.every(batch.window)
    seen = jnp.concatenate([z, jnp.moveaxis(standard.features, 0, 1)], axis=-1)
    gaussian = learner.actor(seen)
    errors = jax.vmap(jax.vmap(LOSSES[loss]))(gaussian, batch.mean, batch.log_std)
    errors += absolute * jax.vmap(jax.vmap(absolute_error))(gaussian, batch.mean)
    return jnp.sum(batch.weight * errors) / jnp.maximum(batch.weight.sum(), 1)


@eqx.filter_jit
def imitation_error(learner: Learner, batch: Batch, scales: Scales, how: How) -> Float[Array, ""]:
    """The loss, without learning."""
    return imitation_loss(learner, batch, scales, how)


@eqx.filter_jit
def learn(
    state: LearnerState, batches: Batch, rates: Float[Array, "U"], scales: Scales, how: How
) -> tuple[LearnerState, Float[Array, ""]]:
    """One update per learning rate and batch, all in one compiled call; returns the mean loss."""
    arrays, static = eqx.partition(state, eqx.is_array)

    def one(carry, inputs):
        batch, rate = inputs
        state = eqx.combine(carry, static)
        loss, grads = eqx.filter_value_and_grad(imitation_loss)(state.learner, batch, scales, how)
        steps, optimizer = _optimizer().update(grads, state.optimizer)
        learner = eqx.apply_updates(state.learner, jax.tree.map(lambda s: -rate * s, steps))
        updates = state.updates + 1
        average = _blended(state.average, learner, jnp.minimum(how[2], 1 - 1 / updates))
        return eqx.filter(LearnerState(learner, average, optimizer, updates), eqx.is_array), loss

    arrays, losses = jax.lax.scan(one, arrays, (batches, rates))
    return eqx.combine(arrays, static), losses.mean()


def _blended(average: Learner, learner: Learner, decay: Array) -> Learner:
    old, static = eqx.partition(average, eqx.is_inexact_array)
    new = eqx.filter(learner, eqx.is_inexact_array)
    # written so that what is equal in both stays as it is, to the last bit
    return eqx.combine(jax.tree.map(lambda o, n: o + (1 - decay) * (n - o), old, new), static)
