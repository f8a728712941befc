"""One small SAC configuration, shared by several tests because compiling it is most of their time."""

import jax
import numpy as np

from collectiverl.envs.make import make_envs
from collectiverl.sac import agent as sac
from collectiverl.sac.settings import ExpertConfig, SamplingConfig
from collectiverl.sac.train import Trainer

OBS, ACTION, EXPERTS = 6, 2, 1
SAC = sac.SACConfig(
    width=16, depth=1, batch_size=16, learning_rate=1e-3, gamma=0.9, tau=0.005, initial_temperature=0.1
)
TRAIN = ExpertConfig(
    steps=800,
    num_envs=4,
    updates_per_step=2,
    warmup=100,
    capacity=600,  # goes round
    eval_every=100,
    eval_episodes=8,
    stop_evaluations=0,
    checkpoint_every=200,
    sampling=SamplingConfig(period=150, warmup=100, episodes=3),
    sac=SAC,
)


def fresh(config=SAC, experts=1, seed=0) -> sac.SACState:
    return sac.init(OBS, ACTION, config, jax.random.split(jax.random.key(seed), experts))


def trainer(config=TRAIN, **kwargs) -> Trainer:
    envs, eval_envs = (
        make_envs("toy-reach", n, goals="fresh") for n in (config.num_envs, config.eval_episodes)
    )
    return Trainer(fresh(config.sac), config, envs, eval_envs, seed=0, **kwargs)


def same(one, two) -> bool:
    """Whether two trees agree bit for bit."""
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(two)
    return jax.tree.structure(one) == jax.tree.structure(two) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(leaves, others, strict=True)
    )
