"""`finetune`: SAC continued on the collective's own actor and critics.

With a frozen encoder, observations are `[z, features]`, embedded once, when they are observed. If the encoder is
trained too, observations are whole windows (`student.trained_encoder`).
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.artifacts.validation import at_least, positive
from collectiverl.collective.policy import Collective
from collectiverl.envs.core import StepResult, VectorEnv, leave
from collectiverl.representation.context import begin_windows, push
from collectiverl.sac.agent import Agent
from collectiverl.sac.help import MentorOutput, NoHelp, Weights
from collectiverl.student.imitation import ImitationConfig
from collectiverl.student.mentor import output_of
from collectiverl.student.trained_encoder import pack, trained_encoder
from collectiverl.types import EnvSpec, ValueUnit, Window


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig:
    """How SAC continues on the collective's networks."""

    encoder: bool = False  # train the encoder too
    # of actor and critics: lower than an expert's, since the actor has a skill to lose
    learning_rate: float = 3e-4
    # of the critics, and of the encoder if it is trained with them; None: the same
    critic_learning_rate: float | None = None
    # environment steps of its own for which the student is held: it is kept near the collective in all states, and in
    # every second environment the collective acts; None: it is let go at once
    hold: int | None = None

    def __post_init__(self) -> None:
        positive(self, "learning_rate", "critic_learning_rate")
        at_least(self, 0, "hold")


class EmbeddedEnvs:
    """Environments whose observations are the networks' input `[z, features]`, or, with `windows`, whole windows."""

    def __init__(self, envs: VectorEnv, collective: Collective, *, windows: bool = False):
        self._envs, self._collective = envs, collective
        self._running = collective.begin(envs.num_envs, envs.tasks)
        state_dim = envs.spec.state_dim
        dim, self._windows = collective.agent.normalizer.feature_dim, None
        if windows:
            reader = trained_encoder(collective)
            dim, self._windows = reader.packed_dim, begin_windows(reader.encoder, envs.num_envs, reader.steps)
        z_dim = collective.condition_dim
        state_index = () if windows else tuple(range(z_dim, z_dim + state_dim))
        self.spec = EnvSpec(envs.spec.task, dim, envs.spec.action_dim, envs.spec.horizon, state_index)
        self.num_envs, self.tasks = envs.num_envs, envs.tasks

    def goals(self) -> Int[np.ndarray, "N"]:
        return self._envs.goals()

    def reset(self, seed: int) -> Float[np.ndarray, "N F"]:
        obs = self._envs.reset(seed)
        self._running = self._running.reset(np.ones(self.num_envs, bool))
        return self._embed(obs)

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        result = self._envs.step(action)
        self._running = self._running.acted(action).rewarded(result.reward).reset(result.began)
        return result._replace(obs=self._embed(result.obs))

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        leave(self._envs, over)

    def close(self) -> None:
        self._envs.close()

    def _embed(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N F"]:
        begins = jnp.asarray(self._running.begins)
        self._running, seen = self._collective.see(self._running, obs)
        if self._windows is None:
            return seen
        latest = Window(*(column[: self.num_envs] for column in self._running.latest))
        self._windows = push(self._windows, latest, begins)
        return np.asarray(pack(self._windows))


@dataclass(frozen=True)
class ReferencePolicy(NoHelp):
    """The collective before fine-tuning, near which the actor is kept.

    In all states while the critics learn the task, from the collective's episodes and, if the student is held, from its
    own first steps; afterwards, as in `student.imitation`, where they prefer the collective's actions.
    """

    agent: Agent
    imitation: ImitationConfig
    unit: ValueUnit  # of the agent's values
    held_until: int = 0  # environment steps of the training

    def predict(self, context: int, obs: Float[np.ndarray, "N F"]) -> tuple[int, MentorOutput]:
        return context, output_of(self.agent, obs, self.unit)

    def act(
        self, own: Float[np.ndarray, "N A"], output: MentorOutput, context: int, env_steps: int
    ) -> Float[np.ndarray, "N A"]:
        """While the student is held, the collective itself acts in every second environment, without noise.

        So the critics see what both ways of acting earn, and the collective's successes go on coming in.
        """
        if env_steps >= self.held_until or not self.imitation.weight:
            return own
        every_second = np.arange(len(own)) % 2 == 1  # a single one is the student's
        return np.where(every_second[:, None], output.mean, own)

    def weights(self, env_steps: int, *, acting: bool) -> Weights:
        weight, held = self.imitation.weight, not acting or env_steps < self.held_until
        return Weights(anchor=weight) if held else Weights(imitation=weight)
