"""The progress of a training of E experts, and its result."""

from dataclasses import dataclass

from collectiverl.sac.agent import Agent
from collectiverl.sac.settings import TrainConfig
from collectiverl.types import Episode


@dataclass(frozen=True)
class ExpertProgress:
    """The outcome of one expert's evaluations so far."""

    streak: int = 0  # evaluations in a row at the stopping level
    solved_at: int | None = None  # environment steps at the first of the streak
    best: float = 0.0  # success of the best evaluation

    def is_solved(self, config: TrainConfig) -> bool:
        """Whether the streak is long enough to stop."""
        return bool(config.stop_evaluations) and self.streak >= config.stop_evaluations

    def after(self, success: float, env_steps: int, config: TrainConfig) -> "tuple[ExpertProgress, bool]":
        """The progress after one more evaluation, and whether the agent is the best so far.

        Of equally good agents the latest is the best. A solved expert stays as it was.
        """
        if self.is_solved(config):
            return self, False
        streak = self.streak + 1 if success >= config.stop_success else 0
        solved_at = self.solved_at if streak > 1 else env_steps if streak else None
        is_best = success >= self.best
        return ExpertProgress(streak, solved_at, float(success) if is_best else self.best), is_best


@dataclass
class Progress:
    """The counters of a checkpoint."""

    experts: list[ExpertProgress]
    segment: int = 0
    vector_step: int = 0
    env_steps: int = 0  # of each expert
    next_evaluation: int = 0  # environment steps
    seconds: float = 0.0

    @property
    def when(self) -> str:
        """For messages."""
        return f"after {self.env_steps} environment steps"


@dataclass
class Result:
    """The result of training one expert."""

    agent: Agent  # of the best evaluation
    episodes: list[Episode]  # sampled during training
    env_steps: int
    seconds: float
    success: float  # of the evaluation that chose the agent; see `Trainer.measured_anew`
    solved_at: int | None  # environment steps at the first of the evaluations that ended training
