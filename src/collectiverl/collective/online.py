"""Stage 2, online distillation: random actions, then a learner labelled by the experts (DAgger), then they act.

Nothing here knows the trajectory transformer: raw trajectories and labels are stored, and the learner is a
temporary network told which task it plays (Ross et al. 2011; SPEC, stage 2).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl import checkpoints, store
from collectiverl.collective import distill
from collectiverl.collective.policy import one_hot
from collectiverl.data.episodes import EpisodeTable, paths, write
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import RandomPolicy, episodes
from collectiverl.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.nn.gaussian import Actor
from collectiverl.types import AnyArray, Episode, Policy, Teacher

UPDATES_PER_CALL = 50


@runtime_checkable
class TeachingPolicy(Policy, Teacher, Protocol):
    """Plays, and labels what others played."""


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """How `online_buffer` is collected."""

    random_episodes: int = 4  # a task
    learner_rounds: int = 4  # rounds of DAgger
    learner_episodes: int = 16  # a task and round
    expert_episodes: int = 16  # a task
    updates: int = 1_000  # of the learner, before each round
    batch_size: int = 256
    learning_rate: float = 1e-3
    width: int = 256
    depth: int = 2
    loss: distill.DistillLoss = "mse"

    def __post_init__(self) -> None:
        for name in ("random_episodes", "learner_rounds", "learner_episodes", "expert_episodes"):
            if getattr(self, name) < 0:
                raise ValueError(f"online.{name.replace('_', '-')}={getattr(self, name)} is negative")
        if self.learner_rounds and not self.random_episodes:
            raise ValueError("online.random-episodes=0: the learner needs something to learn from first")
        for name in ("updates", "batch_size", "width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"online.{name.replace('_', '-')}={getattr(self, name)} must be at least 1")
        if self.learning_rate <= 0:
            raise ValueError(f"online.learning-rate={self.learning_rate} must be positive")


class Team:
    """Each environment played by the teacher of its task."""

    def __init__(self, teachers: Mapping[str, Policy], tasks: Sequence[str]):
        self.members = [(np.asarray([t == task for t in tasks]), policy) for task, policy in teachers.items()]

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        parts = [
            (mine, policy.eval_action(observations[mine])) for mine, policy in self.members if mine.any()
        ]
        action = np.empty((len(observations), parts[0][1].shape[-1]), np.float32)
        for mine, part in parts:
            action[mine] = part
        return action

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        for mine, policy in self.members:
            policy.reset(env_mask[mine])

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        for mine, policy in self.members:
            policy.observe(rewards[mine])


@eqx.filter_jit
def _sample(actor: Actor, features: Float[AnyArray, "N F"], key: Array) -> Float[Array, "N A"]:
    return jax.vmap(actor)(features).sample(key)[0]


class Learner:
    """The temporary network: a tanh-Gaussian over `[task, state]`, acting with its own noise."""

    def __init__(self, actor: Actor, tasks: Sequence[str], envs: VectorEnv, key: Array):
        self.actor, self.key, self.calls = actor, key, 0
        self.task = one_hot(envs.tasks, tasks)
        self.state_index = list(envs.spec.state_index)

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        self.calls += 1
        features = np.concatenate([self.task, observations[:, self.state_index]], axis=1)
        return np.asarray(_sample(self.actor, features, jax.random.fold_in(self.key, self.calls)))

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        pass

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        pass


class OnlineDistillation:
    """The state of one stage-2 run; each round begins from a seed of its own and ends with a checkpoint."""

    def __init__(
        self,
        envs: VectorEnv,
        teachers: Mapping[str, TeachingPolicy],
        config: OnlineConfig,
        *,
        seed: int,
        report: Report = silent,
    ):
        self.envs, self.teachers, self.config = envs, teachers, config
        self.seed, self.report = seed, report
        self.tasks = tuple(dict.fromkeys(envs.tasks))
        self.per_env = envs.num_envs // len(self.tasks)
        spec = envs.spec
        self.actor = Actor(
            len(self.tasks) + spec.state_dim,
            spec.action_dim,
            config.width,
            config.depth,
            log_std_bounds=(-5.0, 2.0),
            key=jax.random.key(seed),
        )
        self.collected: list[Episode] = []
        self.rounds = [("random", config.random_episodes)]
        self.rounds += [("learner", config.learner_episodes)] * config.learner_rounds
        self.rounds += [("expert", config.expert_episodes)]
        self.done = 0

    def run(self, work: Path | None = None) -> list[Episode]:
        """Plays all rounds; with a folder, checkpoints into it and logs metrics there."""
        self._restore(work)
        with metrics_log(work, resume_at=self.done) as log:
            while self.done < len(self.rounds):
                self._round(self.done, log)
                if work and self.done < len(self.rounds):
                    self._save(work)
        return self.collected

    def _round(self, number: int, log: MetricsLog | None) -> None:
        phase, per_task = self.rounds[number]
        metrics = self._train(number) if phase == "learner" else {}
        played = self._play(number, phase, per_task)
        self.collected += played
        self.done = number + 1
        success = float(np.mean([e.success.any() for e in played])) if played else 0.0
        if log:
            log.write(self.done, metrics | {f"{phase}/success": success})
        self.report(self.done, len(self.rounds), f"{phase}: success {success:.2f}")

    def _play(self, number: int, phase: str, per_task: int) -> list[Episode]:
        """`per_task` labelled episodes of every task."""
        per_env = -(-per_task // self.per_env)
        if not per_env:
            return []
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0] >> 1)
        policy = self._actor_of(phase, seed)
        played = list(episodes(self.envs, policy, per_env=per_env, phase=phase, seed=seed))
        kept = [e for task in self.tasks for e in [e for e in played if e.task == task][:per_task]]
        return [replace(e, labels=self.teachers[e.task].label(e.obs[:-1], e.action)) for e in kept]

    def _actor_of(self, phase: str, seed: int) -> Policy:
        if phase == "random":
            return RandomPolicy(self.envs.spec.action_dim, seed)
        if phase == "learner":
            return Learner(self.actor, self.tasks, self.envs, jax.random.key(seed))
        return Team(self.teachers, self.envs.tasks)

    def _train(self, number: int) -> dict[str, float]:
        """Distils everything collected so far into the learner."""
        config = self.config
        data = self._examples()
        opt = distill.optimizer(config.learning_rate, config.updates)
        opt_state = opt.init(eqx.filter(self.actor, eqx.is_inexact_array))
        loss = LOSSES[config.loss]
        value = jnp.zeros(())
        for step in range(0, config.updates, UPDATES_PER_CALL):
            shape = (min(UPDATES_PER_CALL, config.updates - step), config.batch_size)
            index = distill.draw(self.seed, number * config.updates + step, shape, len(data.features))
            batches = jax.tree.map(lambda column, i=index: column[i], data)
            self.actor, opt_state, value = distill.descend(self.actor, opt_state, batches, loss, opt)
        return {"learner/loss": float(value)}

    def _examples(self) -> distill.Labelled:
        index = list(self.envs.spec.state_index)
        labelled = [(e, e.labels) for e in self.collected if e.labels is not None]
        features = [
            np.concatenate(
                [np.repeat(one_hot([e.task], self.tasks), len(e), 0), e.obs[:-1][:, index]], axis=1
            )
            for e, _ in labelled
        ]
        return distill.Labelled(
            np.concatenate(features),
            np.concatenate([label.mean for _, label in labelled]),
            np.concatenate([label.log_std for _, label in labelled]),
        )

    # -- checkpoints ---------------------------------------------------------------------------------------

    def _save(self, work: Path) -> None:
        with checkpoints.checkpoint(work) as folder:
            checkpoints.save_tree(folder / "actor.safetensors", self.actor)
            for task in self.tasks:  # one folder a task: labels of a scripted and a learned teacher differ
                write(folder / task, [e for e in self.collected if e.task == task])
            order = [self.tasks.index(e.task) for e in self.collected]
            checkpoints.write_json(folder / "progress.json", {"done": self.done, "order": order})

    def _restore(self, work: Path | None) -> None:
        folder = checkpoints.latest_checkpoint(work) if work else None
        if not folder:
            return
        self.actor = checkpoints.load_tree(folder / "actor.safetensors", self.actor)
        saved = store.read_json(folder / "progress.json")
        files = {i: folder / task for i, task in enumerate(self.tasks) if paths(folder / task)}
        streams = {i: iter(EpisodeTable.open(path)) for i, path in files.items()}
        self.collected = [next(streams[i]) for i in saved["order"]]
        self.done = saved["done"]


def _mean_loss(kind: Callable, actor: Actor, batch: distill.Labelled, _: None) -> Array:
    return jnp.mean(jax.vmap(kind)(jax.vmap(actor)(batch.features), batch.mean, batch.log_std))


LOSSES = {name: partial(_mean_loss, kind) for name, kind in distill.LOSSES.items()}
