"""`online-distill`, `split-buffer`, `split-online-buffer`: what the transformer and the collective learn from."""

from dataclasses import dataclass, field
from typing import Any, Literal

from collectiverl.collective.online import OnlineConfig, OnlineDistillation
from collectiverl.data.episodes import EpisodeTable, write
from collectiverl.data.split import split
from collectiverl.envs.concat import Concatenated
from collectiverl.envs.make import Backend, make_envs
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.experts import BUFFER, expert_at, model_path
from collectiverl.store import verify
from collectiverl.types import UserError

TeacherKind = Literal["sac", "scripted"]
BufferKind = Literal["buffer_distill", "online_buffer"]


# -- online-distill ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OnlineDistill:
    """Stage 2 for one task or several at once."""

    tasks: tuple[str, ...]
    teacher: TeacherKind = "sac"
    backend: Backend = "auto"
    num_envs: int = 16  # a task
    online: OnlineConfig = field(default_factory=OnlineConfig)

    def __post_init__(self) -> None:
        if self.num_envs < 1:
            raise ValueError(f"--num-envs={self.num_envs} must be at least 1")


def online_path(tasks: tuple[str, ...], seed: int) -> str:
    return f"online_distill/{'+'.join(tasks)}/seed_{seed}"


def online_distill_stage(config: OnlineDistill, seed: int) -> Stage:
    sac = config.teacher == "sac"
    inputs = tuple(model_path(task, seed) for task in config.tasks) if sac else ()
    makes = {
        model_path(task, seed): f"train-task {task} (or pass --teacher scripted)" for task in config.tasks
    }
    return Stage(
        "online-distill",
        " ".join(config.tasks),
        online_path(config.tasks, seed),
        online_distill,
        config,
        inputs,
        seed,
        makes,
    )


def online_distill(work: Work) -> dict[str, Any]:
    config: OnlineDistill = work.config
    envs = Concatenated(
        [make_envs(task, config.num_envs, backend=config.backend, goals="fresh") for task in config.tasks]
    )
    teachers = {
        task: ScriptedPolicy((task,))
        if config.teacher == "scripted"
        else expert_at(work.run, task, work.seed)
        for task in config.tasks
    }
    try:
        distillation = OnlineDistillation(envs, teachers, config.online, seed=work.seed, report=work.report)
        collected = distillation.run(work.folder)
    finally:
        envs.close()
    for task in config.tasks:
        write(work.folder / task / BUFFER, (e for e in collected if e.task == task))
    success = {
        phase: sum(bool(e.success.any()) for e in collected if e.phase == phase)
        / max(1, sum(e.phase == phase for e in collected))
        for phase in ("random", "learner", "expert")
    }
    steps = sum(len(e) for e in collected)
    return {"tasks": list(config.tasks), "episodes": len(collected), "env_steps": steps, "success": success}


# -- splits ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Split:
    """Training and validation episodes of one task."""

    task: str
    source: str  # the stage folder the episodes come from
    fraction: float = 0.2  # of the episodes, for validation

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ValueError(f"--fraction={self.fraction} is not between 0 and 1")


def split_path(kind: BufferKind, task: str, seed: int) -> str:
    return f"{kind}/{task}/seed_{seed}"


def split_buffer_stage(task: str, fraction: float, seed: int) -> Stage:
    source = model_path(task, seed)
    config = Split(task=task, source=f"{source}/{BUFFER}", fraction=fraction)
    out = split_path("buffer_distill", task, seed)
    return Stage(
        "split-buffer", task, out, split_episodes, config, (source,), seed, {source: f"train-task {task}"}
    )


def split_online_buffer_stage(task: str, tasks: tuple[str, ...], fraction: float, seed: int) -> Stage:
    """`tasks` are all that were distilled together with `task`."""
    source = online_path(tasks, seed)
    config = Split(task=task, source=f"{source}/{task}/{BUFFER}", fraction=fraction)
    out = split_path("online_buffer", task, seed)
    command = f"online-distill {' '.join(tasks)}"
    return Stage("split-online-buffer", task, out, split_episodes, config, (source,), seed, {source: command})


def split_episodes(work: Work) -> dict[str, Any]:
    config: Split = work.config
    source = work.run / config.source
    verify(next(p for p in source.parents if (p / "manifest.json").is_file()))
    table = EpisodeTable.open(source)
    train, validation = split(table.about, fraction=config.fraction, seed=work.seed)
    if not train or not validation:
        raise UserError(
            f"{len(table)} episodes of {config.task} are too few to split: train longer, "
            "or sample more often with --sampling.period"
        )
    write(work.folder / "train", table.subset(train))
    write(work.folder / "validation", table.subset(validation))
    return {"task": config.task, "train": len(train), "validation": len(validation)}
