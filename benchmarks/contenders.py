"""Trains ours or a peer on one task until the judge has seen enough. Runs in a child."""

import importlib
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from benchmarks import peers
from benchmarks.criterion import Criterion, Judge
from benchmarks.our_settings import our_settings
from collectiverl.artifacts.metrics import MetricsLog
from collectiverl.envs.make import make_envs, spec
from collectiverl.sac import agent as sac
from collectiverl.sac.policy import AgentPolicy
from collectiverl.sac.settings import TrainConfig
from collectiverl.sac.train import Trainer
from collectiverl.stages.experts import TrainTask

OURS = ("ours", "ours-float32")


def train_config(criterion: Criterion, contender: str = "ours") -> TrainConfig:
    """Ours by default, or in float32 on any processor; without the episodes that are kept for later stages."""
    train = TrainTask(task="reach-v3").train.without_sampling()
    sac = replace(train.sac, precision="float32") if contender == "ours-float32" else train.sac
    return replace(train, steps=criterion.steps, sac=sac)


def learn(contender: str, task: str, seed: int, criterion: Criterion, limit_seconds: float) -> dict[str, Any]:
    """How long it took; see `Judge.verdict`."""
    _import(contender)
    judge = Judge(criterion, partial(criterion.make_envs, task), seed=seed, limit_seconds=limit_seconds)
    try:
        if contender in OURS:
            env_steps = _ours(judge, task, seed, train_config(criterion, contender))
        else:
            env_steps = _peer(judge, _peer_model(contender, task, seed, criterion))
        return judge.verdict(env_steps)
    finally:
        judge.envs.close()


def _import(contender: str) -> None:
    """What would else be imported on the clock."""
    peer, _, settings = contender.partition("-")
    packages = [] if contender in OURS else ["torch", peers.PEERS[peer]]
    if contender in OURS or settings == "ours":
        packages.append("envpool")
    for package in packages:
        importlib.import_module(package)


class JudgedTrainer(Trainer):
    """Stops when the judge says so, and not by its own evaluations."""

    judge: Judge

    @property
    def solved(self) -> bool:
        return self.judge.over

    def _evaluate(self, metrics: dict[str, jax.Array], log: MetricsLog | None) -> None:
        env_steps = self.progress.env_steps
        if metrics and self.judge.due(env_steps):
            jax.block_until_ready(self.learner.state)  # updates under way are training, not evaluation
            self.judge(AgentPolicy(self.learner.playing), env_steps)


def _ours(judge: Judge, task: str, seed: int, config: TrainConfig) -> int:
    shapes = spec(task)
    keys = jax.random.split(jax.random.key(seed), 1)
    state = sac.init(shapes.obs_dim, shapes.action_dim, config.sac, keys)
    envs = make_envs(task, config.num_envs, goals="fresh", horizon=config.horizon)
    trainer = JudgedTrainer(state, config, envs, judge.envs, seed=seed)
    trainer.judge = judge
    trainer.run()
    envs.close()
    return trainer.progress.env_steps


def _peer_model(contender: str, task: str, seed: int, criterion: Criterion) -> Any:
    """A peer with its defaults in one environment, or with our settings in ours."""
    peer, _, settings = contender.partition("-")
    if not settings:
        return peers.make_sac(peer, peers.fresh_goals_env(task), seed=seed)
    from benchmarks.our_envs import training_env

    train = train_config(criterion)
    settings = our_settings(peer, train, spec(task).action_dim)
    return peers.make_sac(peer, training_env(task, train), seed=seed, **settings)


def _peer(judge: Judge, model: Any) -> int:
    from stable_baselines3.common.callbacks import BaseCallback

    class Judged(BaseCallback):
        def _on_step(self) -> bool:
            if judge.due(self.num_timesteps):
                judge(peers.PeerPolicy(self.model), self.num_timesteps)
            return not judge.over

    model.learn(judge.criterion.steps, callback=Judged())
    model.env.close()
    return model.num_timesteps
