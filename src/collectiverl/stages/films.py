"""The films of a run's report: for each task a goal that the policy reaches, and one that it does not."""

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from collectiverl.artifacts import paths
from collectiverl.artifacts.sealed import is_sealed
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import Step, steps
from collectiverl.evaluation.video import VideoConfig, filming, watched
from collectiverl.policies import load_policy
from collectiverl.stages.base import Stage, Work, summary
from collectiverl.stages.evaluation import EACH_GOAL, Evaluate
from collectiverl.types import UserError

LOOK = VideoConfig(width=240, height=240, fps=20, after_success=1.0)
SMALL = 27  # quality of H.264: small files, which the page holds
KEPT = 4  # digits of z


@dataclass(frozen=True, kw_only=True)
class Film:
    """Films of a policy in one task, of goals that were evaluated."""

    evaluation: str  # folder of the run
    evaluated: Evaluate


def film_stages(every: Sequence[Stage], kind: str, seed: int) -> list[Stage[Film]]:
    """One stage for each evaluation of this kind of policy."""
    return [film_stage(s, seed) for s in every if isinstance(s.config, Evaluate) and s.config.kind == kind]


def film_stage(evaluation: Stage[Evaluate], seed: int) -> Stage[Film]:
    task = evaluation.config.task
    return Stage(
        kind="film",
        subject=f"{evaluation.config.kind} {task}",
        out=paths.films(evaluation.config.kind, task, seed),
        function=film,
        config=Film(evaluation=evaluation.out, evaluated=evaluation.config),
        inputs={evaluation.out: "", **evaluation.inputs},
        seed=seed,
        again=_draws_elsewhere,
    )


def _draws_elsewhere(found: Mapping[str, Any]) -> bool:
    """Whether films failed on a machine that draws with other means than this one, which may succeed."""
    return bool(found["why"]) and found.get("tried_on") != _means()


def _means() -> dict[str, Any]:
    """What it depends on whether this machine can draw."""
    variables = {name: os.environ.get(name, "") for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    libraries = {name: find_library(name) or "" for name in ("EGL", "OSMesa", "GL")}
    return {"machine": platform.node(), **variables, **libraries}


def film(work: Work[Film]) -> dict[str, Any]:
    """Where this machine or the suite cannot draw, the summary says why and there are no films."""
    config = work.config.evaluated
    outcomes = summary(work.run / work.config.evaluation).get(EACH_GOAL)  # none: made by version 0.3
    chosen = _goals(outcomes) if outcomes else config.evaluate.goal_indices[:1]
    films, why = [], ""
    try:
        for i, goal in enumerate(chosen):
            films.append(_film(work, goal))
            work.report(i + 1, len(chosen), f"goal {goal}")
    except UserError as error:
        why = str(error)
    tried = {"tried_on": _means()} if why else {}
    return {"task": config.task, "policy": config.kind, "films": films, "why": why, **tried}


def _goals(outcomes: Sequence[dict[str, Any]]) -> list[int]:
    """The first goal that was reached, and the first that was not."""
    first = {outcome["success_any"]: outcome["goal"] for outcome in reversed(outcomes)}
    return [first[success] for success in (True, False) if success in first]


def _film(work: Work[Film], goal: int) -> dict[str, Any]:
    """One film; returns its file, and what happened at each step: `z`, success, the reward so far."""
    config = work.config.evaluated
    name = f"goal_{goal}.mp4"
    played = list(_played(work, goal, work.folder / name))
    success = [bool(step.result.success[0]) for step, _ in played]
    z = [None if z is None else [float(f"{v:.{KEPT}g}") for v in z] for _, z in played]
    return {
        "file": name,
        "task": config.task,
        "goal": goal,
        "success": any(success),
        "first_success": success.index(True) + 1 if any(success) else None,
        "steps": len(played),
        "reward": round(float(sum(step.result.reward[0] for step, _ in played)), 2),
        "z": z if z and z[0] is not None else [],
    }


def _played(work: Work[Film], goal: int, path: Path) -> Iterator[tuple[Step, np.ndarray | None]]:
    """The steps that the film shows, with a copy of `z` at each."""
    config = work.config.evaluated
    folder = work.run / config.policy
    loaded = load_policy(folder if is_sealed(folder) else config.policy, task=config.task)
    policy, embedding = watched(loaded)
    envs = make_envs(
        config.task,
        1,
        goals=(goal,),
        order="sequential",
        backend="reference",
        goals_hidden=config.evaluate.goals_hidden,
        drawn=True,
    )
    title = f"{config.kind} plays {config.task}, goal {goal}"
    with (
        contextlib.closing(envs),
        filming(envs, path, LOOK, title=title, embedding=embedding, crf=SMALL) as camera,
    ):
        for step in steps(envs, policy, work.seed):
            camera(step)
            z = embedding()
            yield step, None if z is None else np.array(z)
            if camera.done:
                break
