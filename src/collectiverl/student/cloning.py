"""Behaviour cloning of the collective from its own episodes in a task: imitation without reinforcement learning."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from collectiverl.artifacts.checkpoints import Checkpoints, check_finite, load_tree, save_tree
from collectiverl.artifacts.metrics import Report, silent
from collectiverl.artifacts.validation import MOST_ROWS, at_least, at_most, positive
from collectiverl.collective.distill import descend, draw, optimizer
from collectiverl.data.replay import Replay
from collectiverl.nn.gaussian import Actor
from collectiverl.nn.keys import seeded_key
from collectiverl.nn.normalizer import Normalizer
from collectiverl.sac import losses
from collectiverl.sac.agent import Agent, SACConfig, init_agent

UPDATES_PER_CALL = 50
STATE = "cloning.safetensors"  # of a checkpoint


@dataclass(frozen=True, kw_only=True)
class CloningConfig:
    """Supervised learning of the student's actor."""

    updates: int = 2_000  # gradient steps
    batch_size: int = 256
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        at_least(self, 1, "updates", "batch_size")
        at_most(self, MOST_ROWS, "batch_size")
        positive(self, "learning_rate")


class State(NamedTuple):
    """Everything that an update changes."""

    actor: Actor
    optimizer: optax.OptState
    updates: np.ndarray


def _loss(actor: Actor, batch: tuple[Array, Array], _: None) -> Float[Array, ""]:
    obs, advice = batch
    return jnp.mean(jax.vmap(losses.imitation)(actor(obs).mode, advice))


def clone(
    memory: Replay,
    networks: SACConfig,
    config: CloningConfig,
    seed: int,
    *,
    work: Path | None = None,
    report: Report = silent,
) -> Agent:
    """An agent whose actor is fitted to the collective's actions in a memory; its critics stay untrained.

    Args:
        work: checkpoints go there.
    """
    kept = memory.data.valid
    obs, advice = memory.data.obs[kept], memory.data.advice[kept]
    agent = init_agent(obs.shape[-1], advice.shape[-1], networks, seeded_key(seed))
    if networks.normalize_obs:
        normalizer = Normalizer.identity(obs.shape[-1]).update(jnp.asarray(obs))
        agent = eqx.tree_at(lambda a: a.normalizer, agent, normalizer)
    features = np.asarray(agent.normalizer(jnp.asarray(obs)))
    opt = optimizer(config.learning_rate, config.updates)
    state = State(
        agent.actor, opt.init(eqx.filter(agent.actor, eqx.is_inexact_array)), np.zeros((), np.int64)
    )
    kept = Checkpoints(work)
    if kept.latest:
        state = load_tree(kept.latest / STATE, state)
    while (step := int(state.updates)) < config.updates:
        count = min(UPDATES_PER_CALL, config.updates - step)
        index = draw(seed, step, (count, config.batch_size), len(features))
        batches = features[index], advice[index]
        actor, opt_state, loss = descend(state.actor, state.optimizer, batches, _loss, opt)
        state = State(actor, opt_state, np.asarray(step + count))
        check_finite({"loss": loss}, f"after {step + count} updates")
        report(step + count, config.updates, f"cloning {float(loss):.4f}")
        kept.offer(partial(_save, state))
    return eqx.tree_at(lambda a: a.actor, agent, state.actor)


def _save(state: State, folder: Path) -> None:
    check_finite(state, f"after {int(state.updates)} updates")
    save_tree(folder / STATE, state)
