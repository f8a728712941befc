"""`split-buffer`, `split-online-buffer`: what the transformer and the collective learn from, and are judged on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from collectiverl.artifacts.sealed import verify
from collectiverl.data.episodes import EpisodeTable, write
from collectiverl.data.split import split
from collectiverl.stages.base import Stage, Work
from collectiverl.types import UserError

BUFFER = "episodes"  # a stage's folder of episodes
BufferKind = Literal["buffer_distill", "online_buffer"]


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


def split_buffer_stage(task: str, source: str, command: str, fraction: float, seed: int) -> Stage:
    """Of the episodes of `source`, which `command` makes."""
    config = Split(task=task, source=f"{source}/{BUFFER}", fraction=fraction)
    out = split_path("buffer_distill", task, seed)
    return Stage("split-buffer", task, out, split_episodes, config, (source,), seed, {source: command})


def split_online_buffer_stage(task: str, source: str, command: str, fraction: float, seed: int) -> Stage:
    """Of this task's episodes of `source`, the online distillation that `command` does."""
    config = Split(task=task, source=f"{source}/{task}/{BUFFER}", fraction=fraction)
    out = split_path("online_buffer", task, seed)
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


def open_buffers(
    run: Path, kind: BufferKind, tasks: Sequence[str], seed: int
) -> tuple[list[EpisodeTable], list[EpisodeTable]]:
    """The training and the validation episodes of these tasks, one table a buffer, after verification."""
    folders = [run / split_path(kind, task, seed) for task in tasks]
    for folder in folders:
        verify(folder)
    training, validation = (
        [EpisodeTable.open(f / side) for f in folders] for side in ("train", "validation")
    )
    return training, validation
