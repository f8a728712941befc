"""How experts are trained: the settings."""

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from collectiverl.artifacts.validation import MOST_ENVS, MOST_EPISODES, MOST_STEPS, at_least, at_most, between
from collectiverl.sac.agent import SACConfig
from collectiverl.types import ConfigError

SuccessAt = Literal["any", "last"]
MOST_TRANSITIONS = 10**9  # in a replay memory, far more than a machine holds
PROMISING = 0.8  # success of the first episodes from which on an evaluation is worth its other ones
# The rate at which SAC's authors let the target critics follow (0.005): an average over 200 updates, which evens out
# the swings of the last iterate and lags by less than the time between two evaluations.
STUDENT_AVERAGE = 0.995
# after each vector step: the best of 4, 8, 16 and 32 for students and for plain SAC alike
STUDENT_UPDATES = 32


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which training episodes are copied into `buffer_distill`."""

    period: int = 10_000  # environment steps from one sampling to the next
    warmup: int = 8_000  # environment steps before the first
    episodes: int = 2  # the last complete ones, at each sampling

    def __post_init__(self) -> None:
        at_least(self, 1, "period")
        at_least(self, 0, "warmup", "episodes")
        at_most(self, MOST_EPISODES, "episodes")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one agent is trained."""

    steps: int = 200_000  # environment steps, at most
    num_envs: int = 32  # environments of the training, stepped together
    updates_per_step: int = 4  # updates after each vector step, which is `num_envs` environment steps
    horizon: int | None = 200  # steps of a training episode, at most; None: the environment's own limit
    noise_hold: int = 8  # vector steps for which exploration keeps its noise; 1: white noise
    warmup: int = 2_000  # random transitions before the first update
    capacity: int = 1_000_000  # transitions in the replay
    eval_every: int = 8_000  # environment steps between evaluations
    eval_episodes: int = 20  # episodes of an evaluation, with fresh goals
    # an evaluation ends after this many episodes if fewer than 0.8 of them succeed; None: all are played
    eval_first: int | None = None
    eval_horizon: int | None = None  # steps of an evaluation's episode; None: the environment's own limit
    eval_envs: int = 5  # environments of an evaluation, at most: each is a simulator in memory
    success_at: SuccessAt = "any"  # step of an evaluation's episode whose success counts: any, or the last
    stop_success: float = 0.95  # success rate of an evaluation at which training may stop
    stop_evaluations: int = 2  # evaluations in a row with this success, then training stops; 0: never
    # environment steps until all environments are reset for a checkpoint; there are others every 30 seconds
    checkpoint_every: int = 50_000
    sac: SACConfig = field(default_factory=SACConfig)  # networks and hyper-parameters

    def __post_init__(self) -> None:
        at_least(
            self, 1, "steps", "num_envs", "updates_per_step", "horizon", "noise_hold", "warmup", "capacity"
        )
        at_least(
            self,
            1,
            "eval_every",
            "eval_episodes",
            "eval_first",
            "eval_envs",
            "checkpoint_every",
            "eval_horizon",
        )
        at_least(self, 0, "stop_evaluations")
        at_most(self, MOST_ENVS, "num_envs", "eval_envs", "updates_per_step")
        at_most(self, MOST_EPISODES, "eval_episodes")
        at_most(self, MOST_STEPS, "horizon", "eval_horizon")
        at_most(self, MOST_TRANSITIONS, "capacity")
        between(self, 0, 1, "stop_success")
        if self.warmup > self.capacity:
            raise ConfigError("warmup", f"{self.warmup} exceeds the capacity of {self.capacity}")
        if self.warmup >= self.steps:
            raise ConfigError(
                "warmup", f"{self.warmup} must be below steps={self.steps}, or nothing is learned"
            )

    def segment(self, horizon: int) -> int:
        """Vector steps from one reset to the next, in whole episodes; the step between two is no transition."""
        episodes = max(1, round(self.checkpoint_every / (horizon * self.num_envs)))
        return episodes * (horizon + 1) - 1

    @property
    def sampled(self) -> SamplingConfig:
        """Which training episodes are kept: none."""
        return SamplingConfig(episodes=0)

    @property
    def eval_at_once(self) -> int:
        """Environments in which one agent is evaluated."""
        return min(self.eval_envs, self.eval_first or self.eval_episodes, self.eval_episodes)

    @property
    def promising(self) -> float:
        """Success of an evaluation's first episodes from which on all are played: no more than solves the task."""
        return min(PROMISING, self.stop_success)

    @property
    def judging(self) -> tuple[int | None, float, SuccessAt]:
        """The last arguments of `sac.evaluation.Evaluator`."""
        return self.eval_first, self.promising, self.success_at


@dataclass(frozen=True, kw_only=True)
class ExpertConfig(TrainConfig):
    """How one expert is trained, and which episodes it leaves."""

    # weight of the demonstrations' actions in the actor's loss, where the critics prefer them; None: not imitated
    demo_imitation: float | None = None
    # the training episodes that are kept for distillation
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "demo_imitation")

    @property
    def sampled(self) -> SamplingConfig:
        return self.sampling

    def without_sampling(self) -> TrainConfig:
        """The same training of an agent whose episodes nobody reads."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})

    def for_student(self) -> TrainConfig:
        """The same for a student, and for plain SAC beside it: with more updates, and the averaged actor is kept."""
        training = replace(self.without_sampling(), updates_per_step=STUDENT_UPDATES)
        return replace(training, sac=replace(training.sac, actor_average=STUDENT_AVERAGE))


def student_training() -> TrainConfig:
    """How a student is trained by default."""
    return ExpertConfig().for_student()
