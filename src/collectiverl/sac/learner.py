"""What learns in a training: the networks of E experts, and the experience that their updates draw from."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collectiverl.artifacts import checkpoints
from collectiverl.artifacts.tensors import load_arrays
from collectiverl.data.replay import Replay
from collectiverl.nn.keys import seeded_key
from collectiverl.sac.agent import Agent, SACConfig, SACState, expert_count
from collectiverl.sac.batches import Prior, sample_batches
from collectiverl.sac.help import Weights
from collectiverl.sac.policy import explore
from collectiverl.sac.updates import Imitation, update, update_statistics

OWN, PRIOR = 1, 3  # streams of random numbers
UPDATES_PER_CALL = 20  # of those on a prior alone


class Learner:
    """The state of E agents. What a call draws at random is a function of the seed, the stream and the step alone."""

    def __init__(self, state: SACState, config: SACConfig, replay: Replay, prior: Prior | None, *, seed: int):
        self.state, self.config, self.replay, self.prior = state, config, replay, prior
        self.experts, self.seed, self.key = expert_count(state), seed, seeded_key(seed)

    @property
    def playing(self) -> Agent:
        """The agents that are evaluated and kept."""
        return self.state.playing

    def explore(self, observations: Float[np.ndarray, "N O"], step: int) -> Float[np.ndarray, "N A"]:
        """Actions drawn from the policies; equal steps have equal noise."""
        action = explore(
            self.state.agent, self._by_expert(observations), jax.random.fold_in(self.key, 2 * step)
        )
        return np.asarray(action).reshape(len(observations), -1)

    def update_statistics(self, observations: Float[np.ndarray, "N O"]) -> None:
        """The mean and deviation of observations, if they are standardised."""
        if self.config.normalize_obs:
            self.state = update_statistics(self.state, self._by_expert(observations))

    def _by_expert(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "E n O"]:
        return observations.reshape(self.experts, -1, observations.shape[-1])

    def learn_from(self, prior: Prior, weights: Weights) -> Iterator[None]:
        """The statistics of a prior's observations, then the updates on it alone, of which each item is some."""
        self.update_statistics(_observations(prior.memory))
        for call, first in enumerate(range(0, prior.updates, UPDATES_PER_CALL)):
            self._update(1.0, min(UPDATES_PER_CALL, prior.updates - first), weights, PRIOR, call)
            yield

    def update(self, updates: int, weights: Weights, step: int) -> dict[str, Array]:
        """Updates on the agents' own experience, and on the prior's share of it."""
        share = self.prior.share_beside(self.replay) if self.prior else 0.0
        return self._update(share, updates, weights, OWN, step)

    def _update(
        self, share: float, updates: int, weights: Weights, stream: int, step: int
    ) -> dict[str, Array]:
        rng = np.random.default_rng([self.seed, stream, step])
        batches = sample_batches(self.replay, self.prior, share, updates, rng, weights, self.config)
        key = jax.random.fold_in(self.key, 2 * step + 1)
        if stream == PRIOR:
            key = jax.random.fold_in(key, PRIOR)
        imitation = None
        if weights.advised:
            imitation = Imitation(jnp.float32(weights.imitation), jnp.float32(weights.anchor))
        self.state, metrics = update(self.state, batches, key, self.config, imitation)
        return metrics

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        checkpoints.save_tree(folder / "state.safetensors", self.state)
        checkpoints.save_tree(folder / "replay.safetensors", self.replay.state())

    def restore(self, folder: Path) -> None:
        self.state = checkpoints.load_tree(folder / "state.safetensors", self.state)
        self.replay.restore(load_arrays(folder / "replay.safetensors"))


def _observations(memory: Replay) -> Float[np.ndarray, "N O"]:
    """Those of all transitions, expert by expert; of none more than the one with the fewest has."""
    obs, valid = memory.data.obs, memory.data.valid
    count = int(valid.sum((0, 2)).min())
    return np.concatenate([obs[:, e][valid[:, e]][:count] for e in range(valid.shape[1])])
