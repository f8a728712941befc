"""The collective as a mentor: its action and value at every step of a student's own trajectories."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from collectiverl.collective.policy import Collective, Running
from collectiverl.envs.rollout import Step
from collectiverl.nn import padding
from collectiverl.sac.agent import Agent
from collectiverl.sac.help import MentorOutput
from collectiverl.types import ValueUnit


@eqx.filter_jit
def _policy_and_value(agent: Agent, obs: Float[Array, "N F"]) -> tuple[Array, Array, Array]:
    gaussian = agent.policy(obs)
    return gaussian.mode, gaussian.log_std, agent.q(obs, gaussian.mode)


def output_of(agent: Agent, obs: Float[np.ndarray, "N F"], unit: ValueUnit) -> MentorOutput:
    """The agent's policy and the smaller Q-value at its mode, in units of reward; `unit` is that of its critics."""
    mean, log_std, q = padding.call(_policy_and_value, agent, obs)
    return MentorOutput(mean, log_std, q / np.float32(unit.reward_scale))


@dataclass(frozen=True)
class MentorContext:
    """N running episodes as a mentor follows them."""

    running: Running
    age: Int[np.ndarray, "N"]  # steps that the episodes have lasted


@dataclass(frozen=True)
class Mentor:
    """Embeds running episodes with the collective's encoder and asks its actor and critic."""

    collective: Collective
    unit: ValueUnit  # of the collective's critic

    def begin(self, tasks: Sequence[str]) -> MentorContext:
        """Only a collective that is conditioned on the task id reads `tasks`."""
        running = self.collective.begin(len(tasks), tasks)
        return MentorContext(running, np.zeros(len(tasks), np.int64))

    def reset(self, context: MentorContext, env_mask: Bool[np.ndarray, "N"]) -> MentorContext:
        running = context.running.reset(env_mask)
        return MentorContext(running, np.where(env_mask, 0, context.age))

    def predict(
        self, context: MentorContext, obs: Float[np.ndarray, "N O"]
    ) -> tuple[MentorContext, MentorOutput]:
        running, seen = self.collective.see(context.running, obs)
        return replace(context, running=running), output_of(self.collective.agent, seen, self.unit)

    def observe(self, context: MentorContext, step: Step) -> MentorContext:
        running = context.running.acted(step.action).rewarded(step.result.reward)
        return MentorContext(running, context.age + 1)
