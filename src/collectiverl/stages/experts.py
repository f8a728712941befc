"""`train-task` and `record`: single-task experts, trained or shipped, and the episodes they or others leave."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from collectiverl.artifacts import sealed
from collectiverl.artifacts.metrics import METRICS, MetricsLog, read_metrics
from collectiverl.data.episodes import relabel, write
from collectiverl.data.replay import Replay
from collectiverl.envs.concat import Concatenated
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.envs.rollout import NoisyPolicy, RandomPolicy, episodes
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.policies import shipped
from collectiverl.sac import agent as sac
from collectiverl.sac.batches import Prior
from collectiverl.sac.help import Help
from collectiverl.sac.policy import ABOUT, WEIGHTS, Expert, load_expert, save_agent
from collectiverl.sac.progress import Result
from collectiverl.sac.settings import TrainConfig
from collectiverl.sac.train import Trainer
from collectiverl.stages.base import Stage, Work, available_cores, summary
from collectiverl.stages.buffers import BUFFER
from collectiverl.types import Episode, Policy, TeachingPolicy


def model_path(task: str, seed: int) -> str:
    return f"model/{task}/seed_{seed}"


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """One SAC expert for one task."""

    task: str
    backend: Backend = "auto"
    demos: str = ""  # such as scripted:20, episodes from which half of every batch is drawn; "": none
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        demo_count(self.demos)


def demo_count(demos: str) -> int:
    """Episodes asked for by `scripted:20`.

    Raises:
        ValueError: it asks for something else.
    """
    if not demos:
        return 0
    kind, _, count = demos.partition(":")
    if kind != "scripted" or not count.isdecimal() or not int(count):
        raise ValueError(f"--demos={demos}: say how many scripted episodes, such as scripted:20")
    return int(count)


def train_task_stage(config: TrainTask, seed: int) -> Stage:
    return Stage("train-task", config.task, model_path(config.task, seed), train_task, config, seed=seed)


def train_task(work: Work) -> dict[str, Any]:
    [result] = train_agents(work, [work.config])
    return save_expert(work.folder, work.config, result)


def save_expert(folder: Path, config: TrainTask, result: Result) -> dict[str, Any]:
    """The agent, and the episodes sampled while it learned, labelled by it; returns the summary."""
    save_agent(folder, result.agent, config.train.sac, task=config.task)
    expert = Expert(result.agent, config.train.sac.value_unit)
    labelled = relabel(result.episodes, lambda e: expert.label(e.obs[:-1], e.action))
    count = write(folder / BUFFER, labelled)
    return training_summary(config.task, result, origin=config.demos or "scratch") | {"episodes": count}


def demonstrations(config: TrainTask, seed: int) -> list[Episode]:
    """Episodes of Meta-World's scripted policy, as long as those of training."""
    wanted = demo_count(config.demos)
    if not wanted:
        return []
    num_envs = min(wanted, 5)
    envs = make_envs(
        config.task, num_envs, backend=config.backend, goals="fresh", horizon=config.train.horizon
    )
    try:
        return list(_played(envs, ScriptedPolicy(envs.tasks), wanted, phase="scripted", seed=seed))
    finally:
        envs.close()


def train_agents(
    work: Work, experts: Sequence[TrainTask], *, help: Help | None = None, prior: Prior | None = None
) -> list[Result]:
    """SAC from fresh networks, with fresh goals in every episode: one expert a task, all in one program.

    `experts` differ in their tasks alone.
    """
    first = experts[0]
    shapes, train = spec(first.task), first.train
    keys = jax.random.split(jax.random.key(work.seed), len(experts))
    state = sac.init(shapes.obs_dim, shapes.action_dim, train.sac, keys)
    if first.demos:
        prior = Prior(Replay.of([demonstrations(expert, work.seed) for expert in experts]))
    with contextlib.ExitStack() as stack:
        envs, eval_envs = (
            stack.enter_context(contextlib.closing(_side_by_side(experts, n, horizon)))
            for n, horizon in (
                (train.num_envs, train.horizon),
                (min(train.eval_envs, train.eval_episodes), None),
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
            report=work.report,
        )
        return trainer.run(work.folder)


def _side_by_side(experts: Sequence[TrainTask], num_envs: int, horizon: int | None = None) -> VectorEnv:
    """`num_envs` environments of each expert's task."""
    threads = 1 if len(experts) == 1 else available_cores()
    members = [
        make_envs(e.task, num_envs, backend=e.backend, goals="fresh", num_threads=threads, horizon=horizon)
        for e in experts
    ]
    return members[0] if len(members) == 1 else Concatenated(members)


def steps_to(folder: Path, success: float, times: int = 2) -> int | None:
    """Environment steps until an expert's evaluations had reached `success` this many times in a row.

    None: they never did, or it was not trained here.
    """
    if not (folder / METRICS).is_file():
        return None
    streak = 0
    for line in read_metrics(folder):
        streak = streak + 1 if line["eval/success"] >= success else 0
        if streak == times:
            return int(line["step"])
    return None


def training_summary(task: str, result: Result, *, origin: str = "scratch") -> dict[str, Any]:
    """`origin`: what the agent learned from besides its own experience."""
    return {
        "task": task,
        "trained_from": origin,
        "env_steps": result.env_steps,
        "seconds": round(result.seconds, 1),
        "success": result.success,
        "solved_at": result.solved_at,
    }


# -- several in one program --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainTogether:
    """SAC experts of several tasks in one program: for a GPU, which one expert leaves idle."""

    experts: tuple[TrainTask, ...]  # that differ in their tasks alone

    def __post_init__(self) -> None:
        if len({replace(expert, task="") for expert in self.experts}) > 1:
            raise ValueError("experts in one program share all settings but the task")


def train_together_stage(config: TrainTogether, seed: int, out: str) -> Stage:
    tasks = " ".join(expert.task for expert in config.experts)
    return Stage("train-together", tasks, out, train_together, config, seed=seed)


def train_together(work: Work) -> dict[str, Any]:
    config: TrainTogether = work.config
    results = train_agents(work, config.experts)
    summaries = {}
    for expert, result in zip(config.experts, results, strict=True):
        folder = work.folder / expert.task
        folder.mkdir()
        result = replace(result, seconds=result.seconds / len(results))  # its share
        summaries[expert.task] = save_expert(folder, expert, result)
    return summaries


def take_expert_stage(config: TrainTask, together: str, seed: int) -> Stage:
    """The stage that makes one of the experts trained together what `train-task` would have left."""
    out = model_path(config.task, seed)
    return Stage("train-task", config.task, out, take_expert, config, (together,), seed)


def take_expert(work: Work) -> dict[str, Any]:
    config: TrainTask = work.config
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


# -- record ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """Episodes of a random, scripted or mixed policy, or of one from clumsy to skilled, labelled by the scripted.

    `mixed` plays half of the episodes by each of the two, `mixed-skill` all by the scripted one, some of whose
    actions are random: all of them in the first environment, none in the last.
    """

    task: str
    policy: Literal["random", "scripted", "mixed", "mixed-skill"] = "scripted"
    episodes: int = 20
    num_envs: int = 5
    horizon: int | None = None  # steps of an episode, at most; None: the environment's own limit
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.num_envs < 1:
            raise ValueError(f"--episodes={self.episodes} and --num-envs={self.num_envs} must be at least 1")


def record_path(config: Record, seed: int) -> str:
    return f"recorded/{config.policy}/{config.task}/seed_{seed}"


def record_stage(config: Record, seed: int) -> Stage:
    return Stage("record", config.task, record_path(config, seed), record, config, seed=seed)


def record(work: Work) -> dict[str, Any]:
    played = recorded(work, work.config, ScriptedPolicy((work.config.task,)))
    write(work.folder / BUFFER, played)
    success = [bool(e.success.any()) for e in played]
    return {"task": work.config.task, "episodes": len(played), "success": sum(success) / len(success)}


def recorded(work: Work, config: Record, teacher: TeachingPolicy) -> list[Episode]:
    """Episodes of `teacher`, or of chance, or of both; labelled by it."""
    num_envs = min(config.num_envs, config.episodes)
    random = RandomPolicy(spec(config.task).action_dim, work.seed)
    half = config.episodes // 2
    plays: dict[str, list[tuple[str, Policy, int]]] = {
        "random": [("random", random, config.episodes)],
        "scripted": [("scripted", teacher, config.episodes)],
        "mixed": [("random", random, half), ("scripted", teacher, config.episodes - half)],
        "mixed-skill": [
            ("mixed", NoisyPolicy(teacher, np.linspace(1, 0, num_envs), work.seed), config.episodes)
        ],
    }
    envs = make_envs(config.task, num_envs, backend=config.backend, goals="fresh", horizon=config.horizon)
    played = []
    try:
        for phase, policy, wanted in plays[config.policy]:
            for episode in _played(envs, policy, wanted, phase=phase, seed=work.seed):
                played.append(replace(episode, labels=teacher.label(episode.obs[:-1], episode.action)))
                work.report(len(played), config.episodes, phase)
    finally:
        envs.close()
    return played


# -- experts that come with the package ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TakeShipped:
    """An expert that comes with the package, in the place of one trained here."""

    task: str
    collection: str = "mt10"
    record: Record

    def __post_init__(self) -> None:
        if self.record.task != self.task or self.record.policy != "mixed-skill":
            raise ValueError("what is recorded is this task's, from clumsy to skilled")


def take_shipped_stage(config: TakeShipped, seed: int) -> Stage:
    return Stage("take-expert", config.task, model_path(config.task, seed), take_shipped, config, seed=seed)


def take_shipped(work: Work) -> dict[str, Any]:
    """Its files, and episodes in place of those that it left while it learned, which are not shipped."""
    config: TakeShipped = work.config
    folder = shipped(f"{config.collection}/{config.task}")
    assert folder is not None
    expert = load_expert(folder)
    for name in (ABOUT, WEIGHTS):
        shutil.copy(folder / name, work.folder / name)
    count = write(work.folder / BUFFER, recorded(work, config.record, expert))
    return summary(folder) | {"episodes": count, "shipped": f"{config.collection}/{config.task}"}


def _played(envs: VectorEnv, policy: Policy, wanted: int, *, phase: str, seed: int) -> Iterator[Episode]:
    """The first `wanted` episodes, as they end."""
    stream = episodes(envs, policy, per_env=-(-wanted // envs.num_envs), phase=phase, seed=seed)
    return islice(stream, wanted)
