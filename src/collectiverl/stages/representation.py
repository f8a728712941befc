"""`train-transformer`: from all `buffer_distill` to the encoder; `probe`: how well it tells tasks apart."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collectiverl.envs.make import spec
from collectiverl.representation.encoder import Encoder, EncoderConfig, load_encoder, save_encoder
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import open_buffers, split_path

TRANSFORMER = "trajectory_transformer"


@dataclass(frozen=True, kw_only=True)
class TrainTransformer:
    """The trajectory transformer of a run."""

    tasks: tuple[str, ...]
    transformer: TransformerConfig = field(default_factory=TransformerConfig)


def train_transformer_stage(config: TrainTransformer, seed: int) -> Stage:
    inputs, makes = _buffers(config.tasks, seed)
    return Stage(
        "train-transformer", _count(config.tasks), TRANSFORMER, train_transformer, config, inputs, seed, makes
    )


def _buffers(tasks: tuple[str, ...], seed: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """The buffers of these tasks, and the commands that make them."""
    paths = tuple(split_path("buffer_distill", task, seed) for task in tasks)
    return paths, {path: f"split-buffer {task}" for path, task in zip(paths, tasks, strict=True)}


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

PROBE = "evaluation/transformer"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The encoder of a run, judged on held-out episodes of these tasks."""

    tasks: tuple[str, ...]


def probe_stage(config: Probe, seed: int) -> Stage:
    buffers, makes = _buffers(config.tasks, seed)
    makes |= {TRANSFORMER: "train-transformer"}
    inputs = (TRANSFORMER, *buffers)
    return Stage("probe", _count(config.tasks), PROBE, probe_encoder, config, inputs, seed, makes)


def probe_encoder(work: Work) -> dict[str, Any]:
    from collectiverl.representation.probe import probe  # here: scikit-learn takes a second to import

    config: Probe = work.config
    training, validation = open_buffers(work.run, "buffer_distill", config.tasks, work.seed)
    encoder, _ = encoder_of(work.run)
    state_index = spec(config.tasks[0]).state_index
    return probe(encoder, training, validation, state_index, seed=work.seed)


def encoder_of(run: Path, folder: str = TRANSFORMER) -> tuple[Encoder, EncoderConfig]:
    """The encoder in one of the run's sealed folders: as it was first trained, or refreshed since."""
    return load_encoder(run / folder)
