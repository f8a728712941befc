"""`train-transformer`: the encoder from the tasks' `buffer_distill`; `probe`: how well it tells tasks apart."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.files import write_json
from collectiverl.artifacts.paths import (
    COLLECTIVE,
    DISTILL_BUFFER,
    ONLINE_BUFFER,
    SUMMARY,
    TRANSFORMER,
    BufferKind,
)
from collectiverl.collective.policy import ABOUT as COLLECTIVE_ABOUT
from collectiverl.collective.policy import Collective, load_collective
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.make import layout_of
from collectiverl.representation.context import embed_every
from collectiverl.representation.encoder import ABOUT, Encoder, EncoderConfig, load_encoder, save_encoder
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.stages.base import Stage, Work, summary
from collectiverl.stages.buffers import buffer_inputs, open_buffers
from collectiverl.stages.flags import Flat
from collectiverl.types import UserError

GOALS_HIDDEN = "goals_hidden"  # in the summary of a transformer


@dataclass(frozen=True, kw_only=True)
class TrainTransformer:
    """The trajectory transformer of a run."""

    tasks: tuple[str, ...]  # tasks or benchmarks; none: those of the run
    goals_hidden: bool = False  # it does not see the goals, for a collective that does not see them
    transformer: Flat[TransformerConfig] = field(default_factory=TransformerConfig)


def train_transformer_stage(config: TrainTransformer, seed: int) -> Stage[TrainTransformer]:
    return Stage(
        kind="train-transformer",
        subject=f"{len(config.tasks)} tasks",
        out=TRANSFORMER,
        function=train_transformer,
        config=config,
        inputs=buffer_inputs(DISTILL_BUFFER, config.tasks, seed),
        seed=seed,
    )


def train_transformer(work: Work[TrainTransformer]) -> dict[str, Any]:
    config = work.config
    layout = layout_of(config.tasks)
    hidden = layout.goal_index if config.goals_hidden else ()
    buffers = open_buffers(work.run, DISTILL_BUFFER, config.tasks, work.seed, layout)
    training, validation = ([table.hiding(hidden) for table in side] for side in buffers)
    encoder = train(
        training,
        validation,
        config.transformer,
        state_index=layout.state_index,
        seed=work.seed,
        work=work.folder,
        report=work.report,
    )
    save_encoder(work.folder, encoder, config.transformer.encoder)
    return {
        "tasks": list(config.tasks),
        GOALS_HIDDEN: config.goals_hidden,
        "episodes": sum(map(len, (*training, *validation))),
    }


def trajectory_transformer(run: Path, *, goals_hidden: bool) -> tuple[Encoder, EncoderConfig]:
    """The run's trajectory transformer, for a collective that sees the goals or does not.

    Raises:
        UserError: it was trained on what the collective does not see, or without what it sees.
    """
    if _trained_without_goals(run / TRANSFORMER) != goals_hidden:
        has, wants = ("hidden", "visible") if not goals_hidden else ("visible", "hidden")
        raise UserError(
            f"{run / TRANSFORMER} was trained with goals {has}, the collective has them {wants}: make it anew with "
            f"'train-transformer --{'' if goals_hidden else 'no-'}goals-hidden --overwrite'"
        )
    return load_encoder(run / TRANSFORMER)


def _trained_without_goals(folder: Path) -> bool:
    """What a transformer's summary says; one of version 0.3 says nothing, and saw them."""
    return sealed.holds(folder, SUMMARY) and summary(folder).get(GOALS_HIDDEN, False)


# -- probe -------------------------------------------------------------------------------------------------

PICTURES = {"accuracy": "accuracy.png", "PCA": "pca.png", "t-SNE": "tsne.png"}
GOALS_PICTURE = "goals.png"  # where goals differ between episodes
POINTS = "points.json"  # what the pictures show, as numbers


@dataclass(frozen=True, kw_only=True)
class Probe:
    """An encoder of a run, judged on held-out episodes of these tasks."""

    tasks: tuple[str, ...]  # tasks or benchmarks; none: those of the run
    encoder: str = COLLECTIVE  # folder in the run of the collective, or of the trajectory transformer
    # online_buffer: episodes of online distillation; buffer_distill: of experts while they learned
    buffer: BufferKind = ONLINE_BUFFER


def probe_stage(config: Probe, seed: int) -> Stage[Probe]:
    return Stage(
        kind="probe",
        subject=f"{len(config.tasks)} tasks",
        out=paths.probe(config.encoder, config.buffer),
        function=probe_encoder,
        config=config,
        inputs=encoder_input(config.encoder) | buffer_inputs(config.buffer, config.tasks, seed),
        seed=seed,
    )


def probe_encoder(work: Work[Probe]) -> dict[str, Any]:
    from collectiverl.representation import pictures  # here: these take seconds to import
    from collectiverl.representation.goals import probe_goals
    from collectiverl.representation.probe import probe

    config = work.config
    folder = work.run / config.encoder
    encoder, collective = _encoder_in(folder)
    layout = collective.spec if collective else layout_of(config.tasks)
    sees_no_goals = collective.goals_hidden if collective else _trained_without_goals(folder)
    hidden = layout.goal_index if sees_no_goals else ()
    buffers = open_buffers(work.run, config.buffer, config.tasks, work.seed, layout)
    training, validation = ([table.hiding(hidden) for table in side] for side in buffers)
    numbers, points = probe(encoder, training, validation, layout.state_index, seed=work.seed)

    def embed(table: EpisodeTable) -> np.ndarray:
        return embed_every(encoder, table.hiding(hidden), layout.state_index)

    goals, course = probe_goals(embed, *buffers, layout)
    if course:
        pictures.draw_goals(work.folder / GOALS_PICTURE, goals, course)
    pictures.draw_accuracy(work.folder / PICTURES["accuracy"], numbers)
    planes = {"PCA": pictures.pca(points.z), "t-SNE": pictures.tsne(points.z, work.seed)}
    for name, plane in planes.items():
        pictures.draw_points(work.folder / PICTURES[name], points, plane)
    write_json(work.folder / POINTS, pictures.as_numbers(points, planes))
    return {"encoder": config.encoder, "buffer": config.buffer, **numbers, "goals": goals}


def _encoder_in(folder: Path) -> tuple[Encoder, Collective | None]:
    """The encoder in a folder, and the collective that it belongs to, if it does."""
    if sealed.holds(folder, ABOUT):
        return load_encoder(folder)[0], None
    collective = load_collective(folder)[0] if sealed.holds(folder, COLLECTIVE_ABOUT) else None
    if collective is None or collective.encoder is None:
        raise UserError(f"{folder} holds no encoder: pass --encoder with a folder that does")
    return collective.encoder, collective


def encoder_input(encoder: str) -> dict[str, str]:
    """The folder of an encoder as an input of a stage: folder -> the command that makes it."""
    makers = {TRANSFORMER: "train-transformer", COLLECTIVE: "distill-collective"}
    return {encoder: makers.get(encoder, "online-distill")}
