"""`train-task`: an expert for a task, or for tasks that begin alike."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.metrics import read_metrics
from collectiverl.artifacts.paths import EPISODES, METRICS
from collectiverl.artifacts.validation import MOST_EPISODES
from collectiverl.data.episodes import relabel, write
from collectiverl.data.replay import Replay
from collectiverl.envs.concat import Concatenated, same_shape
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.nn.keys import seeded_key
from collectiverl.sac import agent as sac
from collectiverl.sac.batches import Prior
from collectiverl.sac.help import Demonstrated, Help
from collectiverl.sac.policy import Expert, save_agent
from collectiverl.sac.progress import Result
from collectiverl.sac.settings import ExpertConfig, TrainConfig
from collectiverl.sac.train import Trainer
from collectiverl.stages.base import Stage, Work, available_cores
from collectiverl.stages.flags import Flat, Task
from collectiverl.stages.recording import first_episodes
from collectiverl.types import ConfigError, EnvSpec, Episode, UserError

BEFORE = "played_before"  # environment steps that were played for an agent and that its metrics do not count


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """One SAC expert, for a task and others that begin like it."""

    task: Task  # a name such as push, or your own as package.module:name
    backend: Backend = "auto"  # simulator; auto: EnvPool where it agrees with the suite's own
    # demonstrations, such as scripted:20, which make half of each batch; "": none; None: as in the run's settings
    demos: str | None = None
    # tasks that begin like it, in which the same expert learns and is judged too; the environments are shared out
    also: tuple[str, ...] | None = None
    train: Flat[ExpertConfig] = field(default_factory=ExpertConfig)  # how it is trained

    def __post_init__(self) -> None:
        demo_count(self.demos)
        if len(set(self.tasks)) < len(self.tasks):
            raise ConfigError("also", f"{' '.join(self.tasks[1:])} beside {self.task} names a task twice")
        if len(self.tasks) > self.train.num_envs:
            raise ConfigError(
                "also", f"{len(self.tasks)} tasks cannot share {self.train.num_envs} environments"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks in which it learns, its own first."""
        return (self.task, *(self.also or ()))


def demo_count(demos: str | None) -> int:
    """Episodes asked for by `scripted:20`.

    Raises:
        ConfigError: it asks for something else.
    """
    if not demos:
        return 0
    kind, _, count = demos.partition(":")
    if kind != "scripted" or not count.isdecimal() or not int(count):
        raise ConfigError("demos", f"{demos!r} is not a number of scripted episodes, such as scripted:20")
    if len(count) > len(str(MOST_EPISODES)) or int(count) > MOST_EPISODES:
        raise ConfigError("demos", f"{demos!r} are more than {MOST_EPISODES} episodes")
    return int(count)


def train_task_stage(config: TrainTask, seed: int) -> Stage[TrainTask]:
    return Stage(
        kind="train-task",
        subject=config.task,
        out=paths.expert(config.task, seed),
        function=train_task,
        config=config,
        seed=seed,
    )


def train_task(work: Work[TrainTask]) -> dict[str, Any]:
    [(result, before)] = train_experts(work, [work.config])
    return save_expert(work.folder, work.config, result, before)


def save_expert(folder: Path, config: TrainTask, result: Result, before: int) -> dict[str, Any]:
    """The agent, and the episodes sampled while it learned, labelled by it; returns the summary.

    `before` are the environment steps of its demonstrations.
    """
    save_agent(folder, result.agent, config.train.sac, task=config.task)
    expert = Expert(result.agent, config.train.sac.value_unit)
    labelled = relabel(result.episodes, lambda e: expert.label(e.obs[:-1], e.action))
    count = write(folder / EPISODES, labelled)
    origin = config.demos or "scratch"
    return training_summary(config.task, result, origin=origin, before=before) | {"episodes": count}


def demonstrations(config: TrainTask, seed: int) -> list[Episode]:
    """Episodes in each of the expert's tasks, as long as those of training, all by the scripted policy of its first.

    Those of look-alikes by their own scripts would show different actions for one observation.
    """
    wanted = demo_count(config.demos)
    make = partial(make_envs, backend=config.backend, goals="fresh", horizon=config.train.horizon)
    found: list[Episode] = []
    for task in config.tasks if wanted else ():
        with contextlib.closing(make(task, min(wanted, 5))) as envs:
            script = ScriptedPolicy((config.task,) * envs.num_envs)
            found += first_episodes(envs, script, wanted, phase="scripted", seed=seed)
    return found


def train_experts(work: Work, experts: Sequence[TrainTask]) -> list[tuple[Result, int]]:
    """Each expert with the environment steps of its demonstrations; `experts` differ in their tasks alone."""
    tasks = [expert.tasks for expert in experts]
    common_spec(tasks)
    first, played = experts[0], [demonstrations(expert, work.seed) for expert in experts]
    prior = Prior(Replay.of(played)) if first.demos else None
    weight = first.train.demo_imitation
    help = Demonstrated(weight) if prior and weight else None
    results = train_agents(work, tasks, first.train, first.backend, help=help, prior=prior)
    return [(r, sum(map(len, episodes))) for r, episodes in zip(results, played, strict=True)]


def train_agents(
    work: Work,
    tasks: Sequence[tuple[str, ...]],
    train: TrainConfig,
    backend: Backend,
    *,
    help: Help | None = None,
    prior: Prior | None = None,
) -> list[Result]:
    """SAC from fresh networks, with fresh goals in every episode, all agents in one program.

    Args:
        tasks: of each agent.
    """
    shapes = common_spec(tasks)
    keys = jax.random.split(seeded_key(work.seed), len(tasks))
    state = sac.init(shapes.obs_dim, shapes.action_dim, train.sac, keys)
    return learned(work, state, train, partial(_side_by_side, tasks, backend), help=help, prior=prior)


def common_spec(tasks: Sequence[tuple[str, ...]]) -> EnvSpec:
    """The sizes of the environments of all tasks.

    Raises:
        UserError: they differ.
    """
    shapes, *others = [spec(task) for group in tasks for task in group]
    for other in others:
        if not same_shape(shapes, other):
            raise UserError(
                f"{shapes.task} and {other.task} have observations or actions of different length, and cannot be "
                "learned in one program: leave out --vectorize, or --also"
            )
    return shapes


def learned(
    work: Work,
    state: sac.SACState,
    train: TrainConfig,
    make: Callable[[int, int | None], VectorEnv],
    *,
    help: Help | None = None,
    prior: Prior | None = None,
) -> list[Result]:
    """What SAC makes of `state`; its success is that within the environments' own time limit.

    Args:
        make: environments, by their number for each agent, and by their time limit (None: their own).
    """
    with contextlib.ExitStack() as stack:
        envs, eval_envs = (
            stack.enter_context(contextlib.closing(make(count, horizon)))
            for count, horizon in (
                (train.num_envs, train.horizon),
                (train.eval_at_once, train.eval_horizon),
            )
        )
        trainer = Trainer(
            state,
            train,
            envs,
            eval_envs,
            seed=work.seed,
            help=help,
            prior=prior,
            spent=work.spent,
            report=work.report,
        )
        results = trainer.run(work.folder)
        if train.eval_horizon:
            eval_envs = stack.enter_context(contextlib.closing(make(train.eval_at_once, None)))
        return trainer.measured_anew(results, eval_envs)


def _side_by_side(
    tasks: Sequence[tuple[str, ...]], backend: Backend, num_envs: int, horizon: int | None = None
) -> VectorEnv:
    """`num_envs` environments for each agent, shared out among its tasks: of none more than one more."""
    threads = 1 if len(tasks) == 1 else available_cores()
    make = partial(make_envs, backend=backend, goals="fresh", num_threads=threads, horizon=horizon)
    members = []
    for group in tasks:
        each, more = divmod(max(num_envs, len(group)), len(group))
        members += [make(task, each + (i < more)) for i, task in enumerate(group)]
    return members[0] if len(members) == 1 else Concatenated(members)


def steps_to(folder: Path, success: float, times: int = 2) -> int | None:
    """Environment steps until an expert's evaluations had reached `success` this many times in a row.

    None: they never did, or it was not trained here.
    """
    if not sealed.holds(folder, METRICS):
        return None
    streak = 0
    for line in read_metrics(folder):
        streak = streak + 1 if line["eval/success"] >= success else 0
        if streak == times:
            return int(line["step"])
    return None


def training_summary(
    task: str, result: Result, *, origin: str = "scratch", before: int = 0
) -> dict[str, Any]:
    """What a training found; its steps count those that were played before it.

    Args:
        origin: what the agent learned from besides its own experience.
        before: environment steps of demonstrations or of the collective, which the metrics do not count.
    """
    return {
        "task": task,
        "trained_from": origin,
        "env_steps": result.env_steps + before,
        BEFORE: before,
        "seconds": round(result.seconds, 1),
        "success": result.success,
        "solved_at": None if result.solved_at is None else result.solved_at + before,
    }
