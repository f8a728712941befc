"""`train-transformer`: from all `buffer_distill` to the encoder; `probe`: how well it tells tasks apart."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from collectiverl.envs.make import spec
from collectiverl.representation.encoder import ABOUT, Encoder, EncoderConfig, load_encoder, save_encoder
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import BufferKind, open_buffers, split_path
from collectiverl.types import UserError

TRANSFORMER = "trajectory_transformer"


@dataclass(frozen=True, kw_only=True)
class TrainTransformer:
    """The trajectory transformer of a run."""

    tasks: tuple[str, ...]
    transformer: TransformerConfig = field(default_factory=TransformerConfig)


def train_transformer_stage(config: TrainTransformer, seed: int) -> Stage:
    inputs, makes = _buffers(config.tasks, seed, "buffer_distill")
    return Stage(
        "train-transformer", _count(config.tasks), TRANSFORMER, train_transformer, config, inputs, seed, makes
    )


def _buffers(tasks: tuple[str, ...], seed: int, kind: BufferKind) -> tuple[tuple[str, ...], dict[str, str]]:
    """The buffers of these tasks, and the commands that make them."""
    paths = tuple(split_path(kind, task, seed) for task in tasks)
    command = {"buffer_distill": "split-buffer", "online_buffer": "split-online-buffer"}[kind]
    return paths, {path: f"{command} {task}" for path, task in zip(paths, tasks, strict=True)}


def _count(tasks: tuple[str, ...]) -> str:
    return f"{len(tasks)} tasks"


def train_transformer(work: Work) -> dict[str, Any]:
    config: TrainTransformer = work.config
    training, validation = open_buffers(work.run, "buffer_distill", config.tasks, work.seed)
    encoder = train(
        training,
        validation,
        config.transformer,
        state_index=spec(config.tasks[0]).state_index,
        seed=work.seed,
        work=work.folder,
        report=work.report,
    )
    save_encoder(work.folder, encoder, config.transformer.encoder)
    return {"tasks": list(config.tasks), "episodes": sum(map(len, (*training, *validation)))}


# -- probe -------------------------------------------------------------------------------------------------

PICTURES = {"accuracy": "accuracy.png", "PCA": "pca.png", "t-SNE": "tsne.png"}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The encoder of a run, judged on held-out episodes of these tasks."""

    tasks: tuple[str, ...]
    encoder: str = TRANSFORMER  # the folder of the run that holds it
    buffer: BufferKind = "buffer_distill"  # whose episodes


def probe_path(encoder: str, buffer: BufferKind) -> str:
    return f"evaluation/probe/{encoder}/{buffer}"


def probe_stage(config: Probe, seed: int) -> Stage:
    buffers, makes = _buffers(config.tasks, seed, config.buffer)
    makes |= {config.encoder: maker_of(config.encoder)}
    inputs = (config.encoder, *buffers)
    out = probe_path(config.encoder, config.buffer)
    return Stage("probe", _count(config.tasks), out, probe_encoder, config, inputs, seed, makes)


def probe_encoder(work: Work) -> dict[str, Any]:
    from collectiverl.representation import pictures  # here: these take seconds to import
    from collectiverl.representation.probe import probe

    config: Probe = work.config
    training, validation = open_buffers(work.run, config.buffer, config.tasks, work.seed)
    if not (work.run / config.encoder / ABOUT).is_file():
        raise UserError(f"{work.run / config.encoder} holds no encoder: pass --encoder a folder with {ABOUT}")
    encoder, _ = encoder_of(work.run, config.encoder)
    state_index = spec(config.tasks[0]).state_index
    numbers, points = probe(encoder, training, validation, state_index, seed=work.seed)
    pictures.draw_accuracy(work.folder / PICTURES["accuracy"], numbers)
    for name, place in (("PCA", pictures.pca), ("t-SNE", partial(pictures.tsne, seed=work.seed))):
        pictures.draw_points(work.folder / PICTURES[name], points, place(points.z))
    return {"encoder": config.encoder, "buffer": config.buffer, **numbers}


def maker_of(encoder: str) -> str:
    """The command that makes the encoder in this folder of the run."""
    return "train-transformer" if encoder == TRANSFORMER else "online-distill"


def encoder_of(run: Path, folder: str = TRANSFORMER) -> tuple[Encoder, EncoderConfig]:
    """The encoder in one of the run's sealed folders: as it was first trained, or refreshed since."""
    return load_encoder(run / folder)
