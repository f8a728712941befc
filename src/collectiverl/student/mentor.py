"""The collective as a mentor: its action and value at every step of a student's own trajectories."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from collectiverl.collective.policy import Collective, Conditioner, conditioner, features
from collectiverl.envs.rollout import Step
from collectiverl.sac.agent import Agent
from collectiverl.sac.help import MentorOutput
from collectiverl.types import ValueUnit


@eqx.filter_jit
def _policy_and_value(agent: Agent, obs: Float[Array, "N F"]) -> tuple[Array, Array, Array]:
    gaussian = agent.policy(obs)
    return gaussian.mode, gaussian.log_std, agent.q(obs, gaussian.mode)


def output_of(agent: Agent, obs: Float[Array, "N F"], unit: ValueUnit) -> MentorOutput:
    """The agent's policy, and the smaller critic at its mode; `unit` is that of its values."""
    mean, log_std, q = map(np.asarray, _policy_and_value(agent, obs))
    return MentorOutput(mean, log_std, q / np.float32(unit.reward_scale))


@dataclass(frozen=True)
class MentorContext:
    """N running episodes as a mentor follows them.

    The conditioner advances in place. After `predict` and `observe` only the context that they return is valid.
    """

    conditioner: Conditioner
    age: Int[np.ndarray, "N"]  # steps that the episodes have lasted


@dataclass(frozen=True)
class Mentor:
    """Embeds running episodes with the collective's encoder and asks its actor and critic."""

    collective: Collective
    unit: ValueUnit  # of the collective's critic

    def begin(self, tasks: Sequence[str]) -> MentorContext:
        """`tasks` are read by a collective that is conditioned on the task id alone."""
        return MentorContext(conditioner(self.collective, len(tasks), tasks), np.zeros(len(tasks), np.int64))

    def reset(self, context: MentorContext, env_mask: Bool[np.ndarray, "N"]) -> MentorContext:
        context.conditioner.reset(env_mask)
        return replace(context, age=np.where(env_mask, 0, context.age))

    def predict(
        self, context: MentorContext, obs: Float[np.ndarray, "N O"]
    ) -> tuple[MentorContext, MentorOutput]:
        z = context.conditioner.embed(obs)
        agent_obs = jnp.asarray(features(self.collective.state_index, obs, z))
        return context, output_of(self.collective.agent, agent_obs, self.unit)

    def observe(self, context: MentorContext, step: Step) -> MentorContext:
        context.conditioner.acted(step.action)
        context.conditioner.observe(step.result.reward)
        return replace(context, age=context.age + 1)
