"""Behaviour cloning: a student that only imitates the collective's episodes in its task, a baseline."""

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from collectiverl.envs.make import make_envs
from collectiverl.sac.evaluation import JUDGES
from collectiverl.sac.policy import Expert, save_agent
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.students import TrainStudent, guidance_of, played_first
from collectiverl.student.cloning import CloningConfig, clone
from collectiverl.student.prior_data import PriorDataConfig
from collectiverl.student.strategies import StrategyConfig

PLAY = 2  # stream of random numbers: the goals of evaluations


@dataclass(frozen=True, kw_only=True)
class CloneStudent:
    """A student that only imitates."""

    student: TrainStudent  # its networks
    prior_data: PriorDataConfig = field(default_factory=PriorDataConfig)  # episodes of the collective
    cloning: CloningConfig = field(default_factory=CloningConfig)


def clone_student_stage(config: CloneStudent, seed: int, *, collective: str, out: str) -> Stage[CloneStudent]:
    return Stage(
        kind="clone-student",
        subject=config.student.task,
        out=out,
        function=clone_student,
        config=config,
        inputs={collective: ""},
        seed=seed,
    )


def clone_student(work: Work[CloneStudent]) -> dict[str, Any]:
    """Trains, then plays `eval_episodes` fresh goals."""
    config = work.config
    student, began = config.student, time.perf_counter()
    help = guidance_of(work, student.task, StrategyConfig(use=("imitation",)))
    prior, mentor_success = played_first(student, config.prior_data, help, work.seed)
    agent = clone(
        prior.memory,
        student.train.sac,
        config.cloning,
        work.seed,
        work=work.folder,
        report=work.report,
    )
    save_agent(work.folder, agent, student.train.sac, task=student.task)
    envs = make_envs(student.task, student.train.eval_episodes, backend=student.backend, goals="fresh")
    with contextlib.closing(envs):
        seed = int(np.random.SeedSequence([work.seed, PLAY]).generate_state(1)[0] >> 1)
        judge = JUDGES[student.train.success_at]
        success, _ = judge(envs, Expert(agent, student.train.sac.value_unit), seed)
    return {
        "task": student.task,
        "trained_from": "cloning",
        "env_steps": prior.env_steps,
        "seconds": round(work.spent + time.perf_counter() - began, 1),
        "success": float(success.mean()),
        "mentor_success": mentor_success,
    }
