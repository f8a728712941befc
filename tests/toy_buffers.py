"""Buffers of random episodes on the four toy tasks, and an encoder trained on them, shared by several tests."""

import tempfile
from functools import cache
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from collectiverl.data.episodes import EpisodeTable, write
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.rollout import RandomPolicy, episodes
from collectiverl.envs.toy import MATRICES
from collectiverl.representation.encoder import Encoder, EncoderConfig, fit_scales, init_encoder
from collectiverl.representation.train import TransformerConfig, train

STATE_INDEX = spec("toy-reach").state_index
SMALL = EncoderConfig(layers=1, heads=2, dropout=0.0)
CONFIG = TransformerConfig(
    updates=600, batch_size=64, learning_rate=5e-3, validation_every=100, checkpoint_every=200, encoder=SMALL
)


@cache
def buffers(per_env: int = 16) -> tuple[list[EpisodeTable], list[EpisodeTable]]:
    """Training and validation episodes, one table a task."""
    training, validation = [], []
    with tempfile.TemporaryDirectory() as root:  # the memory maps outlive their files
        for seed, task in enumerate(MATRICES):
            folder = Path(root) / task
            played = episodes(
                make_envs(task, 8), RandomPolicy(2, seed), per_env=per_env, phase="random", seed=seed
            )
            write(folder, played)
            table = EpisodeTable.open(folder)
            cut = len(table) * 3 // 4
            training.append(table.subset(range(cut)))
            validation.append(table.subset(range(cut, len(table))))
    return training, validation


@cache
def trained() -> Encoder:
    """Shared, since compiling is most of a short training's time."""
    return train(*buffers(), CONFIG, state_index=STATE_INDEX, seed=0)


@cache
def any_encoder(config: EncoderConfig, state_dim: int = len(STATE_INDEX), action_dim: int = 2) -> Encoder:
    """Weights and statistics drawn at random: initialising takes seconds to compile, and these will do."""
    rng = np.random.default_rng(0)
    like = eqx.filter_eval_shape(init_encoder, config, state_dim, action_dim, jax.random.key(0))
    encoder = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape), leaf.dtype), like)
    shapes = ((50, state_dim), (50,), (50, state_dim))
    return fit_scales(encoder, *(rng.normal(2, 3, shape).astype(np.float32) for shape in shapes))
