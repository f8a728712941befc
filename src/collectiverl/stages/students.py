"""`train-student`: one task, learned with the collective's help."""

import contextlib
import time
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from collectiverl.artifacts import paths
from collectiverl.artifacts.paths import COLLECTIVE
from collectiverl.collective.policy import check_shapes, load_collective, save_collective
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.sac import agent as sac
from collectiverl.sac.agent import AgentConfig
from collectiverl.sac.help import NoHelp
from collectiverl.sac.policy import save_agent
from collectiverl.sac.settings import TrainConfig, student_training
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.experts import learned, train_agents, training_summary
from collectiverl.stages.flags import Flat, OrNone, Task
from collectiverl.student.finetune import EmbeddedEnvs, FinetuningConfig, ReferencePolicy
from collectiverl.student.prior_data import Played, PriorDataConfig, play
from collectiverl.student.strategies import StrategyConfig, guidance
from collectiverl.student.strategy import Guidance
from collectiverl.student.trained_encoder import with_agent, with_trained_encoder
from collectiverl.types import ConfigError

# of SAC's settings: the collective's, or those of fine-tuning, whatever the student's are
DECIDED = (
    *(f.name for f in fields(AgentConfig)),
    *("normalize_obs", "learning_rate", "critic_learning_rate"),
)
MAKES_COLLECTIVE = "distill-collective (or take-collective mt10)"


@dataclass(frozen=True, kw_only=True)
class TrainStudent:
    """A student helped by the collective; without strategies it is plain SAC and needs no collective."""

    task: Task  # a name such as push, or your own as package.module:name
    backend: Backend = "auto"  # simulator; auto: EnvPool where it agrees with the suite's own
    train: Flat[TrainConfig] = field(default_factory=student_training)
    strategy: OrNone[StrategyConfig] = field(default_factory=StrategyConfig)  # None: plain SAC

    def __post_init__(self) -> None:
        if self.strategy and self.strategy.played_first:
            _check_steps(self.task, self.train, self.strategy)

    @property
    def kind(self) -> Literal["student", "sac"]:
        return "student" if self.strategy else "sac"


def _check_steps(task: str, train: TrainConfig, strategy: StrategyConfig) -> None:
    """Raises if the collective's episodes, which count as the student's steps, and holding it leave it none."""
    prior, held = strategy.prior_data, (strategy.finetune.hold or 0) if strategy.finetunes else 0
    own = spec(task).horizon
    played = prior.episodes * min(train.horizon or own, own)
    if played + held >= train.steps:
        and_held = f", and the student is held for {held}" if held else ""
        lower = ", or of --strategy.finetune.hold" if held else ""
        raise ConfigError(
            "train.steps",
            f"{train.steps} leave nothing to learn in: the collective plays {played} of them first{and_held}; "
            f"raise them, or lower --strategy.prior-data.episodes{lower}",
        )


def train_student_stage(
    config: TrainStudent, seed: int, *, collective: str = COLLECTIVE, out: str = ""
) -> Stage[TrainStudent]:
    """`collective` helps the student and `out` is the student's folder, if these are not the run's own."""
    return Stage(
        kind="train-student",
        subject=config.task if config.strategy else f"{config.task}, plain SAC",
        out=out or paths.student(config.kind, config.task, seed),
        function=train_student,
        config=config,
        inputs={collective: MAKES_COLLECTIVE} if config.strategy else {},
        seed=seed,
    )


def train_student(work: Work[TrainStudent]) -> dict[str, Any]:
    """On networks of its own, or on the collective's."""
    config = work.config
    if config.strategy and config.strategy.finetunes:
        return finetuned(work, config.strategy)
    train, help, prior, lessons = config.train, None, None, {}
    began = time.perf_counter()
    if config.strategy:
        help = guidance_of(work, config.task, config.strategy)
        if config.strategy.played_first:
            played = played_first(config, config.strategy.prior_data, help, work.seed)
            train = replace(train, warmup=1)  # its episodes are in the place of the random ones
            help = help if played.success else help.without_following()
            prior, lessons = played.prior, played.lessons
    seconds = time.perf_counter() - began
    [result] = train_agents(work, [(config.task,)], train, config.backend, help=help, prior=prior)
    save_agent(work.folder, result.agent, config.train.sac, task=config.task)
    origin = "collective" if config.strategy else "scratch"
    result = replace(result, seconds=result.seconds + seconds)
    return training_summary(config.task, result, origin=origin) | lessons


def guidance_of(work: Work, task: str, strategy: StrategyConfig) -> Guidance:
    """The help of the collective that the stage reads."""
    [folder] = work.inputs
    collective, networks, _ = load_collective(work.run / folder)
    check_shapes(collective, spec(task))
    return guidance(collective, networks.value_unit, strategy)


def played_first(config: TrainStudent, settings: PriorDataConfig, help: Guidance, seed: int) -> Played:
    """The collective's episodes in the student's task; a resumed training plays the same ones again."""
    n, horizon = settings.episodes, config.train.horizon
    envs = make_envs(config.task, n, backend=config.backend, goals="fresh", horizon=horizon)
    with contextlib.closing(envs):
        return play(envs, help, settings, seed)


def finetuned(work: Work[TrainStudent], strategy: StrategyConfig) -> dict[str, Any]:
    """The result is a collective again, with the tuned networks, and the tuned encoder if it was trained."""
    config, tuning = work.config, strategy.finetune
    [folder] = work.inputs
    collective, networks, encoder = load_collective(work.run / folder)
    check_shapes(collective, spec(config.task))
    learning = _learning_settings(config.train, networks, tuning)
    agent = with_trained_encoder(collective) if tuning.encoder else collective.agent
    state = sac.batch_of_one(sac.init_state(agent, learning.sac))

    def make(num_envs: int, horizon: int | None) -> EmbeddedEnvs:
        envs = make_envs(config.task, num_envs, backend=config.backend, goals="fresh", horizon=horizon)
        return EmbeddedEnvs(envs, collective, windows=tuning.encoder)

    reference = ReferencePolicy(agent, strategy.imitation, networks.value_unit)
    began = time.perf_counter()
    with contextlib.closing(make(strategy.prior_data.episodes, learning.horizon)) as envs:
        played = play(envs, reference, strategy.prior_data, work.seed)
    held = replace(reference, held_until=played.prior.env_steps + (tuning.hold or 0))
    help = held if played.success else NoHelp()
    seconds = time.perf_counter() - began
    [result] = learned(work, state, learning, make, help=help, prior=played.prior)
    save_collective(work.folder, with_agent(collective, result.agent), networks, encoder)
    result = replace(result, seconds=result.seconds + seconds)
    return training_summary(config.task, result, origin="collective") | played.lessons


def _learning_settings(
    train: TrainConfig, networks: sac.AgentConfig, tuning: FinetuningConfig
) -> TrainConfig:
    """The learning rates of `tuning`, the networks of the collective; its normaliser is not updated."""
    rates = {
        "learning_rate": tuning.learning_rate,
        "critic_learning_rate": tuning.critic_learning_rate,
    }
    changes = {"normalize_obs": False, **rates, **asdict(networks)}
    tuned = replace(train.sac, **changes)
    return replace(train, warmup=1, sac=tuned)
