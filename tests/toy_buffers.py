"""Buffers of random episodes on the four toy tasks, and small encoders and collectives, shared by several tests."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

import drawn
from collectiverl.artifacts.metrics import read_metrics
from collectiverl.collective.conditioning import ConditioningName
from collectiverl.collective.critic import CriticConfig
from collectiverl.collective.policy import Collective
from collectiverl.collective.train import CollectiveConfig, fresh_collective
from collectiverl.data.episodes import EpisodeTable, Shard, relabel, write
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.rollout import RandomPolicy, episodes
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.toy import MATRICES
from collectiverl.representation.encoder import Encoder, EncoderConfig, init_encoder
from collectiverl.representation.scales import Scales
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.sac.agent import AgentConfig
from collectiverl.types import Episode

SPEC = spec("toy-reach")
STATE_INDEX = SPEC.state_index
SMALL = EncoderConfig(layers=1, heads=2, dropout=0.0)
OWN = EncoderConfig(window=8, dim=16, layers=1, heads=2, feedforward=16, dropout=0.0, z_dim=4)
COLLECTIVE = CollectiveConfig(
    encoder=OWN,
    differences=True,
    labels=200,
    segment=12,
    updates=40,
    warmup=10,
    validation_every=10,
    critic=CriticConfig(updates=100, batch_size=64, validation_every=50),
    sac=AgentConfig(width=16, depth=1),
)
CONFIG = TransformerConfig(
    updates=600, batch_size=64, learning_rate=5e-3, validation_every=100, encoder=SMALL
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
def trained() -> tuple[Encoder, list[dict[str, Any]]]:
    """An encoder, and what its training logged; shared, since such a training takes seconds."""
    with tempfile.TemporaryDirectory() as root:
        encoder = train(*buffers(), CONFIG, state_index=STATE_INDEX, seed=0, work=Path(root))
        return encoder, read_metrics(Path(root))


@cache
def any_encoder(config: EncoderConfig, state_dim: int = len(STATE_INDEX), action_dim: int = 2) -> Encoder:
    """Weights and statistics drawn at random: initialising takes seconds to compile, and these will do."""
    rng = np.random.default_rng(0)
    points = SPEC.points if state_dim == len(STATE_INDEX) else ()
    encoder = drawn.module(init_encoder, config, state_dim, action_dim, points=points)
    states, rewards = rng.normal(2, 3, (50, state_dim)), rng.normal(2, 3, 50)
    columns = (states, rewards, np.diff(states, axis=0), np.diff(rewards))
    scales = Scales.fit(*(column.astype(np.float32) for column in columns), points)
    return eqx.tree_at(lambda e: e.scales, encoder, scales)


# -- labelled episodes, and a collective that is made for them ------------------------------------------------


@cache
def labelled(per_task: int = 6) -> tuple[EpisodeTable, EpisodeTable]:
    """Training and validation episodes of the four tasks, random actions, labelled by the scripts."""

    def table(tables: Sequence[EpisodeTable]) -> EpisodeTable:
        played = (e for t in tables for e in t.subset(range(min(per_task, len(t)))))
        return EpisodeTable([Shard.of(list(relabel(played, by_script)))])

    training, validation = buffers()
    return table(training), table(validation)


def by_script(episode: Episode):
    return ScriptedPolicy((episode.task,)).label(episode.obs[:-1], episode.action)


@cache
def any_collective(name: ConditioningName = "own", *, goals_hidden: bool = False) -> Collective:
    """Fresh networks on the statistics of the labelled episodes."""
    return fresh_collective(
        labelled()[0].hiding(SPEC.goal_index if goals_hidden else ()),
        replace(COLLECTIVE, conditioning=name),
        SPEC,
        transformer=any_encoder(OWN),
        goals_hidden=goals_hidden,
    )
