"""Behaviour cloning of the collective from its own episodes in a task: imitation without reinforcement learning."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collectiverl.artifacts.validation import at_least, positive
from collectiverl.collective.distill import descend, draw, optimizer
from collectiverl.data.replay import Replay
from collectiverl.nn.gaussian import Actor
from collectiverl.nn.normalizer import Normalizer
from collectiverl.sac import losses
from collectiverl.sac.agent import Agent, SACConfig, init_agent

UPDATES_PER_CALL = 50


@dataclass(frozen=True, kw_only=True)
class CloningConfig:
    """Supervised learning of the student's actor."""

    updates: int = 2_000  # gradient steps
    batch_size: int = 256
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        at_least(self, 1, "updates", "batch_size")
        positive(self, "learning_rate")


def _loss(actor: Actor, batch: tuple[Array, Array], _: None) -> Float[Array, ""]:
    obs, advice = batch
    return jnp.mean(jax.vmap(losses.imitation)(actor(obs).mode, advice))


def clone(memory: Replay, networks: SACConfig, config: CloningConfig, seed: int) -> Agent:
    """An agent whose actor is fitted to the collective's actions in a memory; its critics stay untrained."""
    kept = memory.data.valid
    obs, advice = memory.data.obs[kept], memory.data.advice[kept]
    agent = init_agent(obs.shape[-1], advice.shape[-1], networks, jax.random.key(seed))
    if networks.normalize_obs:
        normalizer = Normalizer.identity(obs.shape[-1]).update(jnp.asarray(obs))
        agent = eqx.tree_at(lambda a: a.normalizer, agent, normalizer)
    features = np.asarray(agent.normalizer(jnp.asarray(obs)))
    opt = optimizer(config.learning_rate, config.updates)
    actor, opt_state = agent.actor, opt.init(eqx.filter(agent.actor, eqx.is_inexact_array))
    for step in range(0, config.updates, UPDATES_PER_CALL):
        count = min(UPDATES_PER_CALL, config.updates - step)
        index = draw(seed, step, (count, config.batch_size), len(features))
        actor, opt_state, _ = descend(actor, opt_state, (features[index], advice[index]), _loss, opt)
    return eqx.tree_at(lambda a: a.actor, agent, actor)
