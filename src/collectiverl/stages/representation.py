"""`train-transformer`: from all `buffer_distill` to the encoder, judged on held-out episodes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.make import spec
from collectiverl.representation.encoder import Encoder, EncoderConfig, load_encoder, save_encoder
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import split_path
from collectiverl.store import verify

TRANSFORMER = "trajectory_transformer"


@dataclass(frozen=True, kw_only=True)
class TrainTransformer:
    """The trajectory transformer of a run."""

    tasks: tuple[str, ...]
    transformer: TransformerConfig = field(default_factory=TransformerConfig)


def train_transformer_stage(config: TrainTransformer, seed: int) -> Stage:
    inputs = tuple(split_path("buffer_distill", task, seed) for task in config.tasks)
    makes = {path: f"split-buffer {task}" for path, task in zip(inputs, config.tasks, strict=True)}
    subject = f"{len(config.tasks)} tasks"
    return Stage("train-transformer", subject, TRANSFORMER, train_transformer, config, inputs, seed, makes)


def train_transformer(work: Work) -> dict[str, Any]:
    from collectiverl.representation.probe import probe  # here: scikit-learn takes a second to import

    config: TrainTransformer = work.config
    state_index = spec(config.tasks[0]).state_index
    folders = [work.run / split_path("buffer_distill", task, work.seed) for task in config.tasks]
    for folder in folders:
        verify(folder)
    training = [EpisodeTable.open(folder / "train") for folder in folders]
    validation = [EpisodeTable.open(folder / "validation") for folder in folders]
    encoder = train(
        training,
        validation,
        config.transformer,
        state_index=state_index,
        seed=work.seed,
        work=work.folder,
        report=work.report,
    )
    save_encoder(work.folder, encoder, config.transformer.encoder)
    return {
        "tasks": list(config.tasks),
        "probe": probe(encoder, training, validation, state_index, seed=work.seed),
    }


def encoder_of(run: Path) -> tuple[Encoder, EncoderConfig]:
    return load_encoder(run / TRANSFORMER)
