"""The collective looking on: what it would do, and how good it finds things, on a student's own trajectories."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl.collective.policy import Collective, features
from collectiverl.sac.agent import Agent


class MentorPrediction(NamedTuple):
    """The collective's policy and value in the states of N environments."""

    mean: Float[np.ndarray, "N A"]  # tanh(mu): in action space
    log_std: Float[np.ndarray, "N A"]  # of the Gaussian before tanh
    value: Float[np.ndarray, "N"]  # min Q(s, mean, z), in units of the environment's reward


@eqx.filter_jit
def _view(agent: Agent, seen: Float[Array, "N F"]) -> tuple[Array, Array, Array]:
    gaussian = agent.policy(seen)
    return gaussian.mode, gaussian.log_std, agent.q(seen, gaussian.mode)


class Mentor:
    """Follows N running trajectories. Call `look`, then `see` what was done and earned; `reset` where one began.

    Args:
        tasks: of the environments, read by a collective that is conditioned on the task id alone.
        reward_scale: by which the collective's critic has its rewards.
    """

    def __init__(self, collective: Collective, tasks: Sequence[str], reward_scale: float):
        self.collective, self.reward_scale = collective, reward_scale
        self.conditioner = collective.follow(len(tasks), tasks)

    def look(self, obs: Float[np.ndarray, "N O"]) -> MentorPrediction:
        z = self.conditioner.embed(obs)
        seen = features(self.collective.state_index, obs, z)
        mean, log_std, q = map(np.asarray, _view(self.collective.agent, jnp.asarray(seen)))
        return MentorPrediction(mean, log_std, q / np.float32(self.reward_scale))

    def see(self, action: Float[np.ndarray, "N A"], reward: Float[np.ndarray, "N"]) -> None:
        self.conditioner.acted(action)
        self.conditioner.observe(reward)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.conditioner.reset(env_mask)
