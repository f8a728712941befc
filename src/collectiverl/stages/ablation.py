"""`ablate`: one row of the table, an encoder trained in some way and a collective distilled and played with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from collectiverl.artifacts import paths
from collectiverl.artifacts.paths import DISTILL_BUFFER, ONLINE_BUFFER
from collectiverl.collective.playing import play_judged, success_by_task
from collectiverl.collective.policy import Collective, CollectivePolicy, Shuffled
from collectiverl.collective.train import CollectiveConfig, distillation
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.envs.tasks import label
from collectiverl.representation.encoder import load_encoder, save_encoder
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import buffer_inputs, open_buffers
from collectiverl.types import Episode, Policy

ALIKE = ("reach", "push", "pick-place")  # share their observations: only `z` tells them apart
COLLECTED = ("random", "expert", "learner")  # phases of an online buffer


# -- encoders ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainEncoder:
    """An encoder trained on the same episodes as the collective's: those of experts and those of the learner."""

    name: str
    tasks: tuple[str, ...]
    seed: int  # of this training; the stage's own is that of the run it reads
    transformer: TransformerConfig


def encoder_path(config: TrainEncoder) -> str:
    return paths.ablation_encoder(config.name, config.seed)


def train_encoder_stage(config: TrainEncoder, seed: int) -> Stage[TrainEncoder]:
    return Stage(
        kind="ablate",
        subject=f"encoder {config.name} {config.seed}",
        out=encoder_path(config),
        function=train_encoder,
        config=config,
        inputs=buffer_inputs(DISTILL_BUFFER, config.tasks, seed)
        | buffer_inputs(ONLINE_BUFFER, config.tasks, seed),
        seed=seed,
    )


def train_encoder(work: Work[TrainEncoder]) -> dict[str, Any]:
    """Trains and probes."""
    from collectiverl.representation.probe import probe  # here: scikit-learn takes a second to import

    config = work.config
    own, met = (
        open_buffers(work.run, kind, config.tasks, work.seed) for kind in (DISTILL_BUFFER, ONLINE_BUFFER)
    )
    training, validation = (
        [EpisodeTable.join(pair) for pair in zip(*sides, strict=True)] for sides in zip(own, met, strict=True)
    )
    index = spec(config.tasks[0]).state_index
    encoder = train(
        training,
        validation,
        config.transformer,
        state_index=index,
        seed=config.seed,
        work=work.folder,
        report=work.report,
    )
    save_encoder(work.folder, encoder, config.transformer.encoder)
    return {"probe": probe(encoder, training, validation, index, seed=config.seed)[0]}


# -- collectives -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A collective that differs from the default in one thing."""

    group: str  # what is varied
    variant: str
    tasks: tuple[str, ...]
    seed: int  # of this training; the stage's own is that of the run it reads
    encoder: TrainEncoder | None  # None: the conditioning does not read trajectories
    collective: CollectiveConfig
    phases: tuple[str, ...] = COLLECTED  # of the episodes that it learns from
    shuffled: bool = False  # played with the embedding of another task's environment
    episodes: int = 20  # a task, with fresh goals
    num_envs: int = 100  # alive at once, at most
    backend: Backend = "auto"


def ablation_stage(config: Ablation, seed: int) -> Stage[Ablation]:
    inputs = buffer_inputs(ONLINE_BUFFER, config.tasks, seed)
    return Stage(
        kind="ablate",
        subject=f"{config.group} {config.variant} {config.seed}",
        out=paths.ablation(config.group, config.variant, config.seed),
        function=ablate,
        config=config,
        inputs=inputs | {encoder_path(config.encoder): ""} if config.encoder else inputs,
        seed=seed,
    )


def ablate(work: Work[Ablation]) -> dict[str, Any]:
    """Distils the actor and plays it; the critic is left out, since no row depends on it."""
    config = work.config
    sides = open_buffers(work.run, ONLINE_BUFFER, config.tasks, work.seed)
    training, held_out = (_of_phases(EpisodeTable.join(tables), config.phases) for tables in sides)
    encoder = load_encoder(work.run / encoder_path(config.encoder))[0] if config.encoder else None
    shapes = spec(config.tasks[0])
    learning = distillation(
        training, held_out, encoder, config.collective, shapes, seed=config.seed, report=work.report
    )
    learning.train_actor()
    played = play(learning.collective, config)
    by_task = success_by_task(played, config.tasks)
    alike = [success for task, success in by_task.items() if label(task) in ALIKE]
    return {
        "success_any": float(np.mean(list(by_task.values()))),
        "success_last": float(np.mean([e.success[-1] for e in played])),
        "alike": float(np.mean(alike)) if alike else None,
        "by_task": by_task,
        "episodes": len(played),
        "validation_loss": float(learning.best),
    }


def _of_phases(table: EpisodeTable, phases: Sequence[str]) -> EpisodeTable:
    return table.subset([i for i, row in enumerate(table.about) if row["phase"] in phases])


def play(collective: Collective, config: Ablation) -> list[Episode]:
    """Plays all tasks side by side, with equally many environments of each, so that embeddings can be exchanged."""

    def policy(tasks: Sequence[str], seed: int) -> Policy:
        if config.shuffled:
            return Shuffled(collective, tasks, shift=len(tasks) // len(config.tasks))
        return CollectivePolicy(collective, tasks)

    make = partial(make_envs, backend=config.backend, goals="fresh")
    return play_judged(make, config.tasks, config.episodes, config.num_envs, policy, seed=config.seed)
