"""A policy as one pure function, `(observation, reward, context) -> (action, context)`, for formats of others.

The context holds all that the policy remembers of an episode, as one vector. A vector of zeros begins an episode.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from collectiverl.collective.conditioning import TaskId
from collectiverl.collective.policy import Collective, CollectivePolicy, advance
from collectiverl.collective.probing import probe
from collectiverl.sac.agent import Agent
from collectiverl.sac.policy import Expert
from collectiverl.types import Policy, UserError, Window

Stepped = tuple[Float[Array, "N A"], Float[Array, "N C"]]


@dataclass(frozen=True, eq=False)
class Step:
    """A policy as a function of arrays, its weights included.

    Args:
        function: of one environment, `(observation [O], reward [], context [C]) -> (action [A], context [C])`.
            The reward is that of the step before; nan where it is unknown. Context 0 begins an episode, whose
            first reward is not read.
        tasks: entry of the context that is to be 1 in an episode of this task; only of a policy that is told its
            task.
    """

    function: Callable[[Array, Array, Array], tuple[Array, Array]]
    obs_dim: int
    action_dim: int
    context_dim: int
    tasks: dict[str, int] = field(default_factory=dict)

    def __call__(
        self,
        observation: Float[Array, "N O"],
        reward: Float[Array, "N"],
        context: Float[Array, "N C"],
    ) -> Stepped:
        """N environments at once."""
        return jax.vmap(self.function)(observation, reward, context)


class Context(NamedTuple):
    """What one environment's episode has come to."""

    age: Array  # steps that the episode has lasted; 0: it begins
    action: Array  # the last one
    condition: Any  # the state of the conditioning
    latest: Window  # the last step


def step_of(policy: Policy) -> Step:
    """The policy as a pure function.

    Raises:
        UserError: it is no network, such as a scripted policy.
    """
    if isinstance(policy, CollectivePolicy):
        return _of_collective(policy.collective)
    if isinstance(policy, Expert):
        return _of_agent(policy.agent)
    raise UserError(
        f"a {type(policy).__name__} is not a network: experts, students and collectives can be exported"
    )


def _of_agent(agent: Agent) -> Step:
    """An agent remembers nothing; its context counts the steps, so that it is played as any other policy."""

    def function(observation: Array, reward: Array, context: Array) -> tuple[Array, Array]:
        return agent.policy(observation).mode, context + 1

    return Step(function, agent.normalizer.feature_dim, agent.actor.action_dim, context_dim=1)


def _of_collective(collective: Collective) -> Step:
    spec, conditioning = collective.spec, collective.conditioning
    known = conditioning.tasks if isinstance(conditioning, TaskId) else ()
    fresh = Context(
        age=jnp.zeros(()),
        action=jnp.zeros(spec.action_dim),
        condition=conditioning.begin(1, ("",)),
        latest=Window(
            jnp.zeros((1, 1, spec.state_dim)),
            jnp.zeros((1, 1, spec.action_dim)),
            jnp.zeros((1, 1)),
            jnp.zeros((1, 1), bool),
        ),
    )
    flat, unpack = ravel_pytree(fresh)
    hidden = np.isin(spec.state_index, spec.goal_index) & collective.goals_hidden
    shown = jnp.asarray(~hidden, jnp.float32)

    def function(observation: Array, reward: Array, context: Array) -> tuple[Array, Array]:
        before: Context = unpack(context)
        begins = before.age == 0
        state = observation[np.asarray(spec.state_index)] * shown
        action = jnp.where(begins, 0, before.action)
        reward = jnp.where(begins, jnp.nan, reward)
        latest = Window(state[None, None], action[None, None], reward[None, None], jnp.ones((1, 1), bool))
        condition, seen = advance(collective, before.condition, before.latest, latest, begins[None])
        action = collective.agent.policy(seen[0]).mode
        action = probe(action[None], before.age[None], collective.probing, spec.moving_index, jnp)[0]
        return action, ravel_pytree(Context(before.age + 1, action, condition, latest))[0]

    first = 1 + spec.action_dim  # of the context: after age and action
    tasks = {task: first + place for place, task in enumerate(known)}
    return Step(function, spec.obs_dim, spec.action_dim, len(flat), tasks)
