"""What `compare-students` does beside training students: fetches collectives, and clones them as a baseline."""

import contextlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from collectiverl import store
from collectiverl.collective.policy import ABOUT, WEIGHTS, load_collective
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import first_success
from collectiverl.policies import RUN_COLLECTIVE, shipped
from collectiverl.sac.policy import AgentPolicy, save_agent
from collectiverl.stages.base import SUMMARY, Stage, Work
from collectiverl.stages.students import TrainStudent, helper_of, played_first
from collectiverl.student.cloning import CloningConfig, clone
from collectiverl.student.replay import ReplayConfig
from collectiverl.student.strategies import StrategyConfig
from collectiverl.types import UserError

PLAY = 2  # stream of random numbers: the goals of evaluations


@dataclass(frozen=True, kw_only=True)
class TakeCollective:
    """A collective from elsewhere: of another run, or one that comes with the package."""

    source: str
    identity: str  # of its files


def take_collective_stage(source: str, out: str) -> Stage:
    """`source`: a run's folder, a collective's, or a name such as mt10.

    Raises:
        UserError: there is none.
    """
    folder = _found(source)
    config = TakeCollective(source=str(source), identity=store.identity(folder))
    return Stage("take-collective", source, out, take_collective, config)


def _found(source: str) -> Path:
    folder = shipped(source) or Path(source)
    folder = folder / RUN_COLLECTIVE if store.is_sealed(folder / RUN_COLLECTIVE) else folder
    if not store.is_sealed(folder) or not (folder / ABOUT).is_file():
        raise UserError(
            f"there is no collective at {source}: name one that comes with the package, such as mt10, "
            "or the folder of a run that has one ('collectiverl run --until collective' makes it)"
        )
    return folder


def take_collective(work: Work) -> dict[str, Any]:
    config: TakeCollective = work.config
    folder = _found(config.source)
    collective, *_ = load_collective(folder)
    for name in (WEIGHTS, ABOUT):
        shutil.copy(folder / name, work.folder / name)
    about = store.read_json(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}
    return about | {"tasks": list(collective.tasks)}


@dataclass(frozen=True, kw_only=True)
class CloneStudent:
    """A student that only imitates."""

    student: TrainStudent  # its networks
    replay: ReplayConfig = field(default_factory=ReplayConfig)  # what the collective plays for it
    cloning: CloningConfig = field(default_factory=CloningConfig)


def clone_student_stage(config: CloneStudent, seed: int, *, collective: str, out: str) -> Stage:
    return Stage("clone-student", config.student.task, out, clone_student, config, (collective,), seed)


def clone_student(work: Work) -> dict[str, Any]:
    """Plays `eval_episodes` fresh goals in the end."""
    config: CloneStudent = work.config
    student, began = config.student, time.perf_counter()
    helper = helper_of(work, student.task, StrategyConfig(use=("imitation",)))
    prior, mentor_success, _ = played_first(student, config.replay, helper, work.seed)
    agent = clone(prior.memory, student.train.sac, config.cloning, work.seed)
    save_agent(work.folder, agent, student.train.sac, task=student.task)
    envs = make_envs(student.task, student.train.eval_episodes, backend=student.backend, goals="fresh")
    with contextlib.closing(envs):
        one = jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, agent)
        seed = int(np.random.SeedSequence([work.seed, PLAY]).generate_state(1)[0] >> 1)
        success, _ = first_success(envs, AgentPolicy(one), seed)
    return {
        "task": student.task,
        "trained_from": "cloning",
        "env_steps": prior.env_steps,
        "seconds": round(time.perf_counter() - began, 1),
        "success": float(success.mean()),
        "mentor_success": mentor_success,
    }
