"""A collective as an agent of Meta-World's meta-learning protocol: it adapts in rollouts, then acts without rewards.

The protocol, `metaworld.evaluation.metalearning_evaluation`, plays several rollouts of one goal in each environment and
tells their rewards. Then it plays the same goal again without telling rewards, so nothing more can be inferred, and
what was inferred must be kept: here it is `z` at every step of the environment's best rollout.

A single `z` would not do. An encoder that is trained through the actor's loss puts into `z` what the actor needs at
that step, which is more than the goal: on the `z` of a rollout's end a collective fails where the rollout succeeded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from metaworld.evaluation import Timestep

from collectiverl.collective.policy import Collective, Redirected
from collectiverl.types import UserError

# steps by which a rollout begins the pattern of probing later than the one before, so that it is another rollout
PHASE = 7


class Rollout(NamedTuple):
    """What is kept of a rollout."""

    value: float  # its undiscounted return
    z: Float[np.ndarray, "T Z"]
    phase: int  # of probing, at its first step


@dataclass
class Memory:
    """Of one environment: the running episode, and its best rollout."""

    z: list[Float[np.ndarray, "Z"]] = field(default_factory=list)  # of the running episode
    value: float = 0.0  # its return so far
    rollouts: int = 0  # that have ended
    best: Rollout | None = None  # of these
    fixed: Rollout | None = None  # what `adapt` found; None: not adapted yet

    @property
    def phase(self) -> int:
        """Of probing, where the next rollout begins."""
        return self.rollouts * PHASE

    def end(self) -> None:
        """The running episode was a rollout, and is over."""
        if self.best is None or self.value > self.best.value:
            self.best = Rollout(self.value, np.stack(self.z), self.phase)
        self.rollouts += 1


class MetaLearner(Redirected):
    """Satisfies `metaworld.evaluation.MetaLearningAgent`.

    While it adapts, it infers `z` from the running rollout, as the collective always does. Rollouts of a deterministic
    policy would all be the same; with probing each begins at another phase of the pattern. After `adapt` it acts on
    `z` of the best rollout of each environment, step by step, at the same phase. It still reacts to what it sees.

    Unlike that of other policies, its `reset` does not forget this: only `init` does.

    Args:
        ended: called with the number of rollouts that have just ended.

    Raises:
        UserError: the collective sees goals, or is told its task, which this protocol does not do.
    """

    def __init__(self, collective: Collective, ended: Callable[[int], Any] = lambda count: None):
        if not collective.goals_hidden:
            raise UserError(
                "this collective was trained with goals that it sees, and the meta-learning protocol hides them: "
                "train one with --goals-hidden, as the presets ml10 and ml45 do"
            )
        if collective.conditioning.name == "task_id":
            raise UserError(
                "this collective is conditioned on the task id, which the meta-learning protocol does not tell: "
                "train one with another --conditioning"
            )
        super().__init__(collective)
        self.ended = ended
        self.init()

    def init(self) -> None:
        """Forgets all environments; they are to be adapted to anew."""
        self.forget()
        self.memories, self.adapting = [], False

    @property
    def needs_rewards(self) -> bool:
        """In its rollouts alone: what it then plays is fixed."""
        return self.adapting

    def adapt_action(
        self, observations: Float[np.ndarray, "N O"]
    ) -> tuple[Float[np.ndarray, "N A"], dict[str, np.ndarray]]:
        """Actions of a rollout that `adapt` is to learn from; nothing else is told."""
        self.adapting = True
        return self.eval_action(observations), {}

    def step(self, timestep: Timestep) -> None:
        """What followed from `adapt_action`."""
        self.observe(timestep.reward)
        for memory, reward in zip(self.memories, timestep.reward, strict=True):
            memory.value += float(reward)
        done = np.logical_or(timestep.terminated, timestep.truncated)
        for i in np.flatnonzero(done):
            self.memories[i].end()
        if done.any():
            self.reset(done)
            self.ended(int(done.sum()))

    def adapt(self) -> None:
        """Fixes what each environment is played with: what its own best rollout was."""
        self.adapting = False
        for memory in self.memories:
            memory.fixed = memory.best

    def _reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        super()._reset(env_mask)
        if len(self.memories) != len(env_mask):
            self.memories = [Memory() for _ in env_mask]
        for i in np.flatnonzero(env_mask):
            memory = self.memories[i]
            memory.z, memory.value = [], 0.0
            played = None if self.adapting else memory.fixed
            self.age[i] = played.phase if played else memory.phase

    def redirect(self, z: Float[np.ndarray, "N Z"]) -> Float[np.ndarray, "N Z"]:
        for memory, inferred in zip(self.memories, z, strict=True):
            played = None if self.adapting else memory.fixed
            memory.z.append(played.z[min(len(memory.z), len(played.z) - 1)] if played else inferred)
        return np.stack([memory.z[-1] for memory in self.memories])
