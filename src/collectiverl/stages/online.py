"""`online-distill`: episodes of teachers and of a learner of all tasks, labelled by the teachers; and the learner."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.files import read_object
from collectiverl.artifacts.paths import EPISODES, TRANSFORMER
from collectiverl.artifacts.validation import fraction
from collectiverl.collective.conditioning import ConditioningName
from collectiverl.collective.online import HELD_OUT, OnlineDistillation
from collectiverl.collective.policy import ABOUT, save_collective
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.data.episodes import write
from collectiverl.envs.make import Backend, layout_of, make_envs
from collectiverl.envs.tasks import benchmark_of
from collectiverl.representation.encoder import Encoder, EncoderConfig
from collectiverl.stages.base import Stage, Work, subject_of
from collectiverl.stages.flags import Flat, Tasks
from collectiverl.stages.representation import trajectory_transformer
from collectiverl.stages.teachers import Labelled, check_teacher, labelling, seeing, teacher_inputs

LONGEST = 60  # characters of a folder's name; more tasks than fit get a digest


@dataclass(frozen=True, kw_only=True)
class OnlineDistill:
    """Online distillation of one task, or of several at once."""

    tasks: Tasks  # tasks or benchmarks, which one learner plays
    # who labels: sac (the run's experts), scripted, shipped, shipped-or-scripted, package.module:function,
    # or a path with {task}
    teacher: str = "sac"
    backend: Backend = "auto"  # simulator; auto: EnvPool where it agrees with the suite's own
    fraction: float  # share of each round's episodes that is held out for validation
    goals_hidden: bool = False  # the learner does not see the goals, which the teachers do
    agreed: bool = False  # tasks that begin alike are labelled by the expert that cross-play chose
    online: Flat[OnlineConfig] = field(default_factory=OnlineConfig)  # how episodes are collected
    collective: Flat[CollectiveConfig] = field(default_factory=CollectiveConfig)  # how the learner learns

    def __post_init__(self) -> None:
        check_teacher(self)
        fraction(self, "fraction")


def name_of(tasks: Sequence[str]) -> str:
    """A short name of these tasks, for a folder."""
    name = benchmark_of(tasks) or "+".join(tasks)
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name) <= LONGEST else f"{len(tasks)}_tasks_{digest}"


def online_path(tasks: Sequence[str], seed: int) -> str:
    """The folder of the online distillation of these tasks."""
    return paths.online_distill(name_of(tasks), seed)


def joint_learner(
    run: Path, tasks: Sequence[str], seed: int, conditioning: ConditioningName, goals_hidden: bool
) -> str:
    """The folder of a finished online distillation of exactly these tasks, with a learner of this kind; "": none."""
    for folder in _done(run, seed):
        sealed.check(folder)
        about = read_object(folder / ABOUT)
        kind = about["conditioning"], about["goals_hidden"]
        if set(about["tasks"]) == set(tasks) and kind == (conditioning, goals_hidden):
            return str(folder.relative_to(run))
    return ""


def finished(run: Path, seed: int) -> list[tuple[str, ...]]:
    """The tasks of each online distillation that this run has done."""
    return [tuple(sealed.manifest(folder)["config"]["tasks"]) for folder in _done(run, seed)]


def _done(run: Path, seed: int) -> list[Path]:
    """The folders of all online distillations that this run has done."""
    return [
        folder for folder in sorted(run.glob(paths.online_distill("*", seed))) if sealed.is_sealed(folder)
    ]


def online_distill_stage(config: OnlineDistill, seed: int) -> Stage[OnlineDistill]:
    inputs = teacher_inputs(config.teacher, config.tasks, seed, agreed=config.agreed)
    if config.collective.reads:
        inputs[TRANSFORMER] = "train-transformer (or pass --conditioning own)"
    return Stage(
        kind="online-distill",
        subject=subject_of(config.tasks),
        out=online_path(config.tasks, seed),
        function=online_distill,
        config=config,
        inputs=inputs,
        seed=seed,
    )


def online_distill(work: Work[OnlineDistill]) -> dict[str, Any]:
    config = work.config
    distillation = distillation_of(work, seed=work.seed, held_out=config.fraction)
    collected = distillation.run(work.folder)
    for task in config.tasks:
        write(work.folder / task / EPISODES, (e for e in collected if e.task == task))
    _, encoder = transformer_of(work.run, config.collective, config.goals_hidden)
    save_collective(work.folder, distillation.collective, config.collective.sac, encoder)
    return {
        "tasks": list(config.tasks),
        "episodes": len(collected),
        "env_steps": sum(len(e) for e in collected),
        "last_round": distillation.success,
    }


class Distills(Labelled, Protocol):
    """The settings of a stage that does an online distillation."""

    @property
    def backend(self) -> Backend: ...
    @property
    def goals_hidden(self) -> bool: ...
    @property
    def online(self) -> OnlineConfig: ...
    @property
    def collective(self) -> CollectiveConfig: ...


def distillation_of(
    work: Work[Any], *, seed: int, held_out: float = HELD_OUT, fresh: bool = False
) -> OnlineDistillation:
    """The online distillation of a stage with such settings; its teachers are those of the stage's seed."""
    config: Distills = work.config
    transformer, _ = transformer_of(work.run, config.collective, config.goals_hidden)
    layout = layout_of(config.tasks)
    return OnlineDistillation(
        partial(
            make_envs, backend=config.backend, goals="fresh", horizon=config.online.horizon, layout=layout
        ),
        seeing(labelling(work.run, config, work.seed), layout),
        config.online,
        config.collective,
        layout,
        seed=seed,
        held_out=held_out,
        transformer=transformer,
        goals_hidden=config.goals_hidden,
        fresh=fresh,
        report=work.report,
    )


def transformer_of(
    run: Path, config: CollectiveConfig, goals_hidden: bool
) -> tuple[Encoder | None, EncoderConfig | None]:
    """The run's trajectory transformer, if it is needed; and the settings of the encoder that a collective has."""
    if config.reads:
        return trajectory_transformer(run, goals_hidden=goals_hidden)
    return None, config.encoder if config.learns else None
