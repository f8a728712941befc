"""`train-task`: single-task experts, each in a process of its own or several in one program."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.metrics import MetricsLog, read_metrics
from collectiverl.artifacts.paths import EPISODES, METRICS
from collectiverl.artifacts.validation import MOST_EPISODES
from collectiverl.data.episodes import relabel, write
from collectiverl.data.replay import Replay
from collectiverl.envs.concat import Concatenated
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.nn.keys import seeded_key
from collectiverl.sac import agent as sac
from collectiverl.sac.batches import Prior
from collectiverl.sac.help import Help
from collectiverl.sac.policy import Expert, save_agent
from collectiverl.sac.progress import Result
from collectiverl.sac.settings import ExpertConfig, TrainConfig
from collectiverl.sac.train import Trainer
from collectiverl.stages.base import Stage, Work, available_cores, summary
from collectiverl.stages.flags import Flat, Task
from collectiverl.stages.recording import first_episodes
from collectiverl.types import ConfigError, Episode, UserError

BEFORE = "played_before"  # environment steps that were played for an agent and that its metrics do not count


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """One SAC expert for one task."""

    task: Task  # a name such as push, or your own as package.module:name
    backend: Backend = "auto"  # simulator; auto: EnvPool where it agrees with the suite's own
    # demonstrations, such as scripted:20, which make half of each batch; "": none; None: as in the run's settings
    demos: str | None = None
    train: Flat[ExpertConfig] = field(default_factory=ExpertConfig)  # how it is trained

    def __post_init__(self) -> None:
        demo_count(self.demos)


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
    [(result, before)] = _train_experts(work, [work.config])
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
    """Episodes of Meta-World's scripted policy, as long as those of training."""
    wanted = demo_count(config.demos)
    if not wanted:
        return []
    num_envs = min(wanted, 5)
    envs = make_envs(
        config.task, num_envs, backend=config.backend, goals="fresh", horizon=config.train.horizon
    )
    with contextlib.closing(envs):
        return list(first_episodes(envs, ScriptedPolicy(envs.tasks), wanted, phase="scripted", seed=seed))


def _train_experts(work: Work, experts: Sequence[TrainTask]) -> list[tuple[Result, int]]:
    """Each expert with the environment steps of its demonstrations; `experts` differ in their tasks alone."""
    first, played = experts[0], [demonstrations(expert, work.seed) for expert in experts]
    prior = Prior(Replay.of(played)) if first.demos else None
    tasks = [expert.task for expert in experts]
    results = train_agents(work, tasks, first.train, first.backend, prior=prior)
    return [(r, sum(map(len, episodes))) for r, episodes in zip(results, played, strict=True)]


def train_agents(
    work: Work,
    tasks: Sequence[str],
    train: TrainConfig,
    backend: Backend,
    *,
    help: Help | None = None,
    prior: Prior | None = None,
) -> list[Result]:
    """SAC from fresh networks, with fresh goals in every episode: one agent per task, all in one program."""
    shapes, *others = [spec(task) for task in tasks]
    if wider := [other.task for other in others if other.obs_dim != shapes.obs_dim]:
        raise UserError(
            f"{shapes.task} and {wider[0]} have observations of different length, and cannot be learned in one "
            "program: leave out --vectorize"
        )
    keys = jax.random.split(seeded_key(work.seed), len(tasks))
    state = sac.init(shapes.obs_dim, shapes.action_dim, train.sac, keys)
    return learned(work, state, train, partial(_side_by_side, tasks, backend), help=help, prior=prior)


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
        make: environments, by their number for each task, and by their time limit (None: their own).
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
    tasks: Sequence[str], backend: Backend, num_envs: int, horizon: int | None = None
) -> VectorEnv:
    """`num_envs` environments of each task."""
    threads = 1 if len(tasks) == 1 else available_cores()
    members = [
        make_envs(task, num_envs, backend=backend, goals="fresh", num_threads=threads, horizon=horizon)
        for task in tasks
    ]
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


# -- several in one program --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainTogether:
    """SAC experts of several tasks in one program, for a GPU, which a single expert does not fill."""

    experts: tuple[TrainTask, ...]  # that differ in their tasks alone

    def __post_init__(self) -> None:
        if len({replace(expert, task="") for expert in self.experts}) > 1:
            raise ConfigError("experts", "experts in one program share all settings but the task")


def train_together_stage(config: TrainTogether, seed: int) -> Stage[TrainTogether]:
    return Stage(
        kind="train-together",
        subject=" ".join(expert.task for expert in config.experts),
        out=paths.trained_together(config.experts[0].demos or "scratch", seed),
        function=train_together,
        config=config,
        seed=seed,
    )


def train_together(work: Work[TrainTogether]) -> dict[str, Any]:
    config = work.config
    results = _train_experts(work, config.experts)
    summaries = {}
    for expert, (result, before) in zip(config.experts, results, strict=True):
        folder = work.folder / expert.task
        folder.mkdir()
        result = replace(result, seconds=result.seconds / len(results))  # its share
        summaries[expert.task] = save_expert(folder, expert, result, before)
    return summaries


def take_expert_stage(config: TrainTask, together: str, seed: int) -> Stage[TrainTask]:
    """Copies one of the experts trained together to the folder that `train-task` would write."""
    return replace(train_task_stage(config, seed), function=take_expert, inputs={together: ""})


def take_expert(work: Work[TrainTask]) -> dict[str, Any]:
    config = work.config
    [together] = work.inputs
    sealed.verify(work.run / together)
    shutil.copytree(work.run / together / config.task, work.folder, dirs_exist_ok=True)
    with contextlib.closing(MetricsLog(work.folder)) as log:
        for line in read_metrics(work.run / together):
            own = {
                k.removeprefix(f"{config.task}/"): v
                for k, v in line.items()
                if k.startswith(f"{config.task}/")
            }
            log.write(int(line["step"]), own | {"seconds": line["seconds"]})
    return summary(work.run / together)[config.task]
