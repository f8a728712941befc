"""`import-buffer`: logged episodes as a buffer that the collective or the trajectory transformer learns from."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import tyro

from collectiverl.artifacts import paths
from collectiverl.artifacts.paths import ONLINE_BUFFER, BufferKind
from collectiverl.artifacts.validation import fraction
from collectiverl.data.episodes import relabel, write
from collectiverl.data.logged import dataset_of, episodes_of, identity
from collectiverl.data.split import split
from collectiverl.envs.make import spec
from collectiverl.envs.scripted import SIGMA
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.flags import Task
from collectiverl.stages.teachers import check_teacher, teacher_inputs, teachers
from collectiverl.types import Episode, Labels, UserError

LOGGED = "logged"  # the teacher who said what was done


@dataclass(frozen=True, kw_only=True)
class ImportBuffer:
    """Make an online_buffer or a buffer_distill of logged episodes of one task.

    SOURCE is a Minari dataset on this machine, minari:ID. Without --teacher the logged actions are the labels: a
    collective that is distilled from them clones the behaviour. With a teacher it labels the steps that were logged.
    `distill-collective --tasks ...` then distils the tasks that were imported.
    """

    task: Task  # a name such as push, or your own as package.module:name
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]  # minari:ID
    # online_buffer: for the collective; buffer_distill: for the trajectory transformer
    kind: BufferKind = ONLINE_BUFFER
    # who labels: logged (the actions themselves), sac, scripted, shipped, package.module:function, or a path
    teacher: str = LOGGED
    fraction: float = 0.2  # share of the episodes that is held out for validation
    identity: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = ""  # a hash of the dataset

    def __post_init__(self) -> None:
        if self.teacher != LOGGED:
            check_teacher(self)
        fraction(self, "fraction")


def import_buffer_stage(config: ImportBuffer, seed: int) -> Stage[ImportBuffer]:
    """Raises UserError if there is no such dataset here."""
    config = replace(config, identity=identity(dataset_of(config.source)))
    asked = config.teacher if config.teacher != LOGGED else "scripted"
    return Stage(
        kind="import-buffer",
        subject=config.task,
        out=paths.buffer(config.kind, config.task, seed),
        function=import_buffer,
        config=config,
        inputs=teacher_inputs(asked, (config.task,), seed),
        seed=seed,
    )


def import_buffer(work: Work[ImportBuffer]) -> dict[str, Any]:
    config = work.config
    found = episodes_of(dataset_of(config.source), spec(config.task), config.source, seed=work.seed)
    if len(found) < 2:
        raise UserError(f"{config.source} has one episode: two are needed, one of them for validation")
    about = [{"phase": one.phase, "seed": one.seed} for one in found]
    training, validation = split(about, fraction=config.fraction, seed=work.seed)
    for folder, chosen in (("train", training), ("validation", validation)):
        write(work.folder / folder, relabel((found[i] for i in chosen), _labeller(work)))
    return {
        "task": config.task,
        "source": config.source,
        "train": len(training),
        "validation": len(validation),
        "steps": sum(map(len, found)),
        "return": float(np.mean([one.reward.sum() for one in found])),
        "success": float(np.mean([one.success.any() for one in found])),
    }


def _labeller(work: Work[ImportBuffer]) -> Any:
    """From an episode to its labels."""
    config = work.config
    if config.teacher == LOGGED:
        return _said_by_actions
    teacher = teachers(work.run, (config.task,), config.teacher, work.seed)[config.task]
    return lambda episode: teacher.label(episode.obs[:-1], episode.action)


def _said_by_actions(episode: Episode) -> Labels:
    """What was done, with the deviation of a scripted policy."""
    return Labels(episode.action, np.full_like(episode.action, np.log(SIGMA)), None)
