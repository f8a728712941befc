"""`train-task` and `record`: single-task experts, and the episodes they or others leave."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax

from collectiverl.data.episodes import relabel, write
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.envs.rollout import RandomPolicy, episodes
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.sac import agent as sac
from collectiverl.sac.policy import Expert, load_expert, save_agent
from collectiverl.sac.settings import Shaping, TrainConfig
from collectiverl.sac.train import Result, Trainer
from collectiverl.stages.base import Stage, Work

BUFFER = "episodes"  # a stage's folder of episodes


def model_path(task: str, seed: int) -> str:
    return f"model/{task}/seed_{seed}"


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """One SAC expert for one task."""

    task: str
    backend: Backend = "auto"
    train: TrainConfig = field(default_factory=TrainConfig)


def train_task_stage(config: TrainTask, seed: int) -> Stage:
    return Stage("train-task", config.task, model_path(config.task, seed), train_task, config, seed=seed)


def train_task(work: Work) -> dict[str, Any]:
    config: TrainTask = work.config
    result = train_agent(work, config.task, config.backend, config.train)
    agent = first(result.agents)
    save_agent(work.folder, agent, config.train.sac, task=config.task)
    expert = Expert(agent)
    labelled = relabel(result.episodes, lambda e: expert.label(e.obs[:-1], e.action))
    count = write(work.folder / BUFFER, labelled)
    return training_summary(config.task, result) | {"episodes": count}


def train_agent(
    work: Work,
    task: str,
    backend: Backend,
    train: TrainConfig,
    *,
    shaping: Shaping | None = None,
) -> Result:
    """SAC from fresh networks on one task, with fresh goals in every episode."""
    shapes = spec(task)
    key = jax.random.key(work.seed)
    state = sac.init(shapes.obs_dim, shapes.action_dim, train.sac, jax.random.split(key, 1))
    envs = make_envs(task, train.num_envs, backend=backend, goals="fresh", horizon=train.horizon)
    eval_envs = make_envs(task, train.eval_episodes, backend=backend, goals="fresh")
    try:
        trainer = Trainer(state, train, envs, eval_envs, seed=work.seed, shaping=shaping, report=work.report)
        return trainer.run(work.folder)
    finally:
        envs.close()
        eval_envs.close()


def first(agents: sac.Agent) -> sac.Agent:
    """The only agent of a batch of one."""
    return jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, agents)


def training_summary(task: str, result: Result) -> dict[str, Any]:
    return {
        "task": task,
        "env_steps": result.env_steps,
        "seconds": round(result.seconds, 1),
        "success": result.success,
        "solved_at": result.solved_at,
    }


# -- record ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """Episodes of a random, scripted or mixed policy, labelled by the scripted one."""

    task: str
    policy: Literal["random", "scripted", "mixed"] = "scripted"
    episodes: int = 20
    num_envs: int = 5
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.num_envs < 1:
            raise ValueError(f"--episodes={self.episodes} and --num-envs={self.num_envs} must be at least 1")


def record_stage(config: Record, seed: int) -> Stage:
    out = f"recorded/{config.policy}/{config.task}/seed_{seed}"
    return Stage("record", config.task, out, record, config, seed=seed)


def record(work: Work) -> dict[str, Any]:
    """`mixed` plays half of its episodes by each of the two."""
    config: Record = work.config
    num_envs = min(config.num_envs, config.episodes)
    envs = make_envs(config.task, num_envs, backend=config.backend, goals="fresh")
    scripted = ScriptedPolicy(envs.tasks)
    teacher = ScriptedPolicy((config.task,))
    random_share = {"random": 1.0, "mixed": 0.5, "scripted": 0.0}[config.policy]
    counts = {"random": round(config.episodes * random_share)}
    counts["scripted"] = config.episodes - counts["random"]
    played = []
    for phase, wanted in counts.items():
        policy = scripted if phase == "scripted" else RandomPolicy(envs.spec.action_dim, work.seed)
        stream = episodes(envs, policy, per_env=-(-wanted // num_envs), phase=phase, seed=work.seed)
        for episode in (e for _, e in zip(range(wanted), stream, strict=False)):
            labels = teacher.label(episode.obs[:-1], episode.action)
            played.append(replace(episode, labels=labels))
            work.report(len(played), config.episodes, phase)
    envs.close()
    write(work.folder / BUFFER, played)
    success = [bool(e.success.any()) for e in played]
    return {"task": config.task, "episodes": len(played), "success": sum(success) / len(success)}


def expert_at(run: Path, task: str, seed: int) -> Expert:
    return load_expert(run / model_path(task, seed))
