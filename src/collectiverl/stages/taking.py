"""`take-expert`: an expert from elsewhere, copied to where `train-task` would write it; it leaves no episodes."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectiverl.adapters import networks
from collectiverl.adapters.sb3 import read_zip
from collectiverl.artifacts import manifests, paths, sealed
from collectiverl.artifacts.files import sha256
from collectiverl.envs.make import spec
from collectiverl.envs.tasks import label
from collectiverl.policies import TASK, shipped
from collectiverl.sac import policy as expert
from collectiverl.stages.base import Stage, Work, summary
from collectiverl.stages.teachers import source_of
from collectiverl.types import UserError


@dataclass(frozen=True, kw_only=True)
class TakeExpert:
    """An expert that was not trained in the run."""

    task: str
    source: str  # what `load_policy` finds it by
    identity: str  # a hash of its files


def take_expert_stage(teacher: str, task: str, seed: int) -> Stage[TakeExpert]:
    """Copies the expert of `task` to where `train-task` would write it.

    Raises:
        UserError: there is none.
    """
    source = source_of(teacher, task)
    config = TakeExpert(task=task, source=source, identity=_identity(source, task))
    return Stage(
        kind="take-expert",
        subject=task,
        out=paths.expert(task, seed),
        function=take_expert,
        config=config,
        seed=seed,
    )


def taken(run: Path, teacher: str, task: str, seed: int) -> bool:
    """Whether the run has this expert of `task` already."""
    out = run / paths.expert(task, seed)
    if not sealed.is_sealed(out):
        return False
    made = sealed.manifest(out)["config"]
    source = source_of(teacher, task)
    return (made.get("source"), made.get("identity")) == (source, _identity(source, task))


def _folder(source: str) -> Path:
    return shipped(source) or Path(source)


def _identity(source: str, task: str) -> str:
    folder = _folder(source)
    if folder.is_file():
        return sha256(folder)
    if not sealed.is_sealed(folder):
        raise UserError(
            f"there is no expert of {task} at {source}: {TASK} in --teacher stands for {task} or {label(task)}, and "
            "what is named must be the folder of an expert, or a .zip of Stable-Baselines3 or SBX"
        )
    return manifests.identity(folder)


def take_expert(work: Work[TakeExpert]) -> dict[str, Any]:
    """Writes the expert's files."""
    config = work.config
    found = _copy(_folder(config.source), work.folder, config.task)
    return found | {"task": config.task, "taken_from": config.source}


def _copy(source: Path, folder: Path, task: str) -> dict[str, Any]:
    """Copies an expert's files; of a file of another library, its networks. Returns what is known of its training."""
    if source.is_file():
        network = read_zip(source)
        networks.check_shapes(network, spec(task))
        networks.save_network(folder, network)
        return {"trained_from": network.made_by, "env_steps": network.env_steps, "seconds": 0.0}
    sealed.verify(source)
    for about, weights in ((expert.ABOUT, expert.WEIGHTS), (networks.ABOUT, networks.WEIGHTS)):
        if sealed.holds(source, about):
            shutil.copy(source / about, folder / about)
            shutil.copy(source / weights, folder / weights)
            return {"env_steps": 0, "seconds": 0.0} | summary(source)
    raise UserError(
        f"{source} holds no expert that can be copied: name the folder of one, below model/ of a run"
    )
