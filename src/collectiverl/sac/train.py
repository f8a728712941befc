"""Trains E SAC experts at once, each on its own environments, and keeps samples of how they learned.

Training runs in segments of whole episodes. Each begins with a reset seeded by its number and ends with a
checkpoint, so that a killed training goes on to the very result it would have had: simulators cannot be saved.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl import checkpoints, store
from collectiverl.data import episodes as episode_files
from collectiverl.data.replay import Replay, Row
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import EpisodeCollector, Step, first_success, steps
from collectiverl.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.nn.normalizer import Normalizer
from collectiverl.sac.agent import Agent, SACState, update
from collectiverl.sac.policy import AgentPolicy, explore
from collectiverl.sac.settings import NoShaping, Shaping, TrainConfig
from collectiverl.types import Episode

MakeEnvs = Callable[[], VectorEnv]


@jax.jit
def _take_in(normalizers: Normalizer, obs: Float[Array, "E N O"]) -> Normalizer:
    return jax.vmap(Normalizer.update)(normalizers, obs)


@dataclass
class Result:
    """What training leaves behind."""

    agents: Agent  # of the best evaluation, leading axis E
    episodes: list[Episode]  # sampled while learning
    env_steps: int  # an expert's
    seconds: float
    success: float  # of the evaluation that chose the agents
    solved_at: int | None  # environment steps at the first of the evaluations that ended training


class Trainer:
    """The state of one training; `run` takes it from its last checkpoint to its end."""

    def __init__(
        self,
        state: SACState,
        config: TrainConfig,
        envs: VectorEnv,
        eval_envs: VectorEnv,
        *,
        seed: int,
        shaping: Shaping | None = None,
        report: Report = silent,
    ):
        self.state, self.config, self.seed = state, config, seed
        self.envs, self.eval_envs = envs, eval_envs
        self.shaping, self.report = shaping or NoShaping(), report
        self.experts = state.log_alpha.shape[0]
        self.key = jax.random.key(seed)
        spec = envs.spec
        self.replay = Replay(config.capacity, self.experts, config.num_envs, spec.obs_dim, spec.action_dim)
        self.collector = EpisodeCollector(envs, "training", seed)
        self.recent: list[Episode] = []
        self.sampled: list[Episode] = []
        self.best = state.agent
        self.progress = Progress()
        self.began = time.perf_counter()

    # -- acting --------------------------------------------------------------------------------------------

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        """Random during the warm-up, then drawn from the policy; a function of seed and step alone."""
        shape = (self.experts, len(observations) // self.experts)
        if self.progress.env_steps < self.config.warmup:
            rng = np.random.default_rng([self.seed, self.progress.vector_step])
            return rng.uniform(-1, 1, (len(observations), self.envs.spec.action_dim)).astype(np.float32)
        obs = observations.reshape(*shape, -1)
        key = jax.random.fold_in(self.key, 2 * self.progress.vector_step)
        return np.asarray(explore(self.state.agent, obs, key)).reshape(len(observations), -1)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.shaping.reset(env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        pass

    # -- learning ------------------------------------------------------------------------------------------

    def run(self, work: Path | None = None) -> Result:
        """Trains to the end; with a folder, checkpoints into it and logs metrics there."""
        self.restore(work)
        with metrics_log(work, resume_at=self.progress.env_steps) as log:
            while not self.finished:
                self._segment(log)
                if work and not self.finished:
                    self.save(work)
        p = self.progress
        return Result(self.best, self.sampled, p.env_steps, self._seconds(), p.best, p.solved_at)

    @property
    def solved(self) -> bool:
        wanted = self.config.stop_evaluations
        return bool(wanted) and self.progress.streak >= wanted

    @property
    def finished(self) -> bool:
        return self.solved or self.progress.env_steps >= self.config.steps

    def _segment(self, log: MetricsLog | None) -> None:
        """One reset, then whole episodes in step until it is time for a checkpoint."""
        seed = np.random.SeedSequence([self.seed, self.progress.segment]).generate_state(1)[0]
        self.collector.restart()
        stream = steps(self.envs, self, int(seed % 2**31))
        for left in reversed(range(self._segment_length())):
            step = next(stream)
            self._store(step, cut=left == 0)
            if not self.solved:
                self._evaluate(self._learn(), log)
            self._sample_episodes(step)
            if left == 0 or (self.finished and self._played_out(step)):
                self._store_last(step)
                break
        self.progress.segment += 1

    def _played_out(self, step: Step) -> bool:
        """A solved task's episodes under way are played to their end: the skilled ones are worth sampling."""
        config = self.config
        unwanted = not config.sampling.episodes or self.progress.env_steps >= config.steps
        return unwanted or bool(step.result.done.all())

    def _segment_length(self) -> int:
        """Vector steps; between two episodes lies one that is no transition."""
        horizon = self.envs.spec.horizon
        episodes = max(1, round(self.config.checkpoint_every / (horizon * self.config.num_envs)))
        return episodes * (horizon + 1) - 1

    def _store(self, step: Step, cut: bool) -> None:
        result, shape = step.result, (self.experts, self.config.num_envs)
        bonus = self.shaping.bonus(step)
        columns = (
            step.obs,
            step.action,
            result.reward,
            bonus,
            result.terminated,
            result.done | cut,
            ~result.began,
        )
        self.replay.add(Row(*(c.reshape(*shape, *c.shape[1:]) for c in columns)))
        self.progress.vector_step += 1
        self.progress.env_steps += int((~result.began).sum()) // self.experts
        if self.config.sac.normalize_obs:
            self._observe_statistics(step.obs)

    def _store_last(self, step: Step) -> None:
        """The observation behind a segment's last transition, in a row that is no transition."""
        shape = (self.experts, self.config.num_envs)
        zeros, no = np.zeros(shape, np.float32), np.zeros(shape, bool)
        obs = step.result.obs.reshape(*shape, -1)
        action = np.zeros((*shape, step.action.shape[-1]), np.float32)
        self.replay.add(Row(obs, action, zeros, zeros, no, ~no, no))

    def _observe_statistics(self, obs: Float[np.ndarray, "N O"]) -> None:
        grouped = obs.reshape(self.experts, self.config.num_envs, -1)
        normalizer = _take_in(self.state.agent.normalizer, grouped)
        self.state = eqx.tree_at(lambda s: s.agent.normalizer, self.state, normalizer)

    def _learn(self) -> dict[str, jax.Array]:
        config, p = self.config, self.progress
        if p.env_steps < config.warmup or not self.replay.ready:
            return {}
        batches = self.replay.sample(
            np.random.default_rng([self.seed, 1, p.vector_step]),
            (config.updates_per_step, config.sac.batch_size),
            n_step=config.sac.n_step,
            gamma=config.sac.gamma,
            weight=self.shaping.weight(p.env_steps),
        )
        batches = batches._replace(reward=batches.reward * np.float32(config.sac.reward_scale))
        key = jax.random.fold_in(self.key, 2 * p.vector_step + 1)
        self.state, metrics = update(self.state, batches, key, config.sac)
        return metrics

    def _sample_episodes(self, step: Step) -> None:
        sampling, p = self.config.sampling, self.progress
        self.recent += [episode for _, episode in self.collector.add(step)]
        self.recent = self.recent[-max(sampling.episodes, 1) :]
        due = self.finished or p.env_steps >= max(p.next_sampling, sampling.warmup)
        if due and len(self.recent) >= sampling.episodes:
            self.sampled += self.recent[: sampling.episodes]
            self.recent = []
            p.next_sampling = p.env_steps + sampling.period

    def _evaluate(self, metrics: dict[str, jax.Array], log: MetricsLog | None) -> None:
        config, p = self.config, self.progress
        if not metrics or p.env_steps < min(p.next_evaluation, config.steps):
            return
        p.next_evaluation = p.env_steps + config.eval_every
        policy = AgentPolicy(self.state.agent)
        seed = np.random.SeedSequence([self.seed, 2, p.env_steps]).generate_state(1)[0]
        succeeded, returns = first_success(self.eval_envs, policy, int(seed % 2**31))
        success = float(succeeded.mean())
        p.streak = p.streak + 1 if success >= config.stop_success else 0
        p.solved_at = p.env_steps if p.streak == 1 else p.solved_at if p.streak else None
        if success >= p.best:  # of equals the one that learned longest
            p.best, self.best = success, self.state.agent
        if log:
            values = {name: float(np.mean(np.asarray(value))) for name, value in metrics.items()}
            log.write(
                p.env_steps,
                values | {"eval/success": success, "eval/return": returns.mean(), "seconds": self._seconds()},
            )
        self.report(p.env_steps, config.steps, f"success {success:.2f}")

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.began

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, work: Path) -> None:
        with checkpoints.checkpoint(work) as folder:
            checkpoints.save_tree(folder / "state.safetensors", self.state)
            checkpoints.save_tree(folder / "best.safetensors", self.best)
            checkpoints.save_tree(folder / "replay.safetensors", self.replay.state())
            episode_files.write(folder / "sampled", self.sampled)
            episode_files.write(folder / "recent", self.recent)
            checkpoints.write_json(
                folder / "progress.json", vars(self.progress) | {"seconds": self._seconds()}
            )

    def restore(self, work: Path | None) -> None:
        folder = checkpoints.latest_checkpoint(work) if work else None
        if not folder:
            return
        self.state = checkpoints.load_tree(folder / "state.safetensors", self.state)
        self.best = checkpoints.load_tree(folder / "best.safetensors", self.best)
        self.replay.restore(checkpoints.load_arrays(folder / "replay.safetensors"))
        self.sampled = _read(folder / "sampled")
        self.recent = _read(folder / "recent")
        saved = store.read_json(folder / "progress.json")
        self.progress = Progress(**saved)


@dataclass
class Progress:
    """Counters and schedules; all that a checkpoint needs beside arrays and episodes."""

    segment: int = 0
    vector_step: int = 0
    env_steps: int = 0  # an expert's
    next_sampling: int = 0
    next_evaluation: int = 0
    streak: int = 0  # evaluations in a row at the stopping level
    solved_at: int | None = None
    best: float = 0.0  # success of the best evaluation
    seconds: float = 0.0


def _read(folder: Path) -> list[Episode]:
    files: Sequence[Path] = episode_files.paths(folder)
    return list(episode_files.EpisodeTable.open(folder)) if files else []
