"""`split-buffer`, `split-online-buffer`: episodes divided into training and validation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collectiverl.artifacts import paths
from collectiverl.artifacts.manifests import sealed_around
from collectiverl.artifacts.paths import DISTILL_BUFFER, EPISODES, ONLINE_BUFFER, BufferKind
from collectiverl.artifacts.sealed import verify
from collectiverl.artifacts.validation import fraction
from collectiverl.data.episodes import EpisodeTable, write
from collectiverl.data.split import split
from collectiverl.envs.layout import lay_out
from collectiverl.stages.base import Stage, Work
from collectiverl.types import EnvSpec, UserError


@dataclass(frozen=True, kw_only=True)
class Split:
    """Training and validation episodes of one task."""

    task: str
    source: str  # folder of the episodes, in the run
    fraction: float  # share of the episodes for validation

    def __post_init__(self) -> None:
        fraction(self, "fraction")


def split_buffer_stage(task: str, source: str, command: str, fraction: float, seed: int) -> Stage[Split]:
    """Splits the episodes of `source`, which `command` makes."""
    return Stage(
        kind="split-buffer",
        subject=task,
        out=paths.buffer(DISTILL_BUFFER, task, seed),
        function=split_episodes,
        config=Split(task=task, source=f"{source}/{EPISODES}", fraction=fraction),
        inputs={source: command},
        seed=seed,
    )


def split_online_buffer_stage(
    task: str, source: str, command: str, fraction: float, seed: int
) -> Stage[Split]:
    """Splits this task's episodes of `source`, an online distillation, which `command` makes."""
    return Stage(
        kind="split-online-buffer",
        subject=task,
        out=paths.buffer(ONLINE_BUFFER, task, seed),
        function=split_episodes,
        config=Split(task=task, source=f"{source}/{task}/{EPISODES}", fraction=fraction),
        inputs={source: command},
        seed=seed,
    )


def split_episodes(work: Work[Split]) -> dict[str, Any]:
    config = work.config
    source = work.run / config.source
    if (made := sealed_around(source)) is None:
        raise UserError(f"{source} is no part of a finished stage: run the stage that records it")
    verify(made)
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


def buffer_inputs(kind: BufferKind, tasks: Sequence[str], seed: int) -> dict[str, str]:
    """The buffers of these tasks as inputs of a stage: folder -> the command that makes it."""
    command = {DISTILL_BUFFER: "split-buffer", ONLINE_BUFFER: "split-online-buffer"}[kind]
    return {paths.buffer(kind, task, seed): f"{command} {task}" for task in tasks}


def open_buffers(
    run: Path, kind: BufferKind, tasks: Sequence[str], seed: int, layout: EnvSpec
) -> tuple[list[EpisodeTable], list[EpisodeTable]]:
    """The training and the validation episodes of these tasks, one table per buffer, after verification.

    Observations are laid out as `layout` says.

    Raises:
        UserError: a buffer is missing or damaged, or its observations do not fit.
    """
    folders = [run / paths.buffer(kind, task, seed) for task in tasks]
    for folder in folders:
        verify(folder)
    training, validation = (
        [_laid_out(EpisodeTable.open(f / side), layout, f) for f in folders]
        for side in ("train", "validation")
    )
    return training, validation


def _laid_out(table: EpisodeTable, layout: EnvSpec, folder: Path) -> EpisodeTable:
    width = table.shards[0].columns["obs"].shape[1]
    if width == layout.obs_dim:
        return table
    if width > layout.obs_dim:
        raise UserError(
            f"the observations in {folder} have {width} entries and not {layout.obs_dim}: they were made together with "
            "those of tasks with longer states; name all these tasks"
        )
    shards = [
        replace(s, columns={**s.columns, "obs": lay_out(s.columns["obs"], layout)}) for s in table.shards
    ]
    return EpisodeTable(shards)
