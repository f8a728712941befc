"""Trains E SAC experts at once, each on its own environments, and samples episodes while they learn.

Training runs in segments of whole episodes. Each begins with a reset that its number seeds. The state of a simulator
cannot be saved, so a checkpoint has the actions since that reset: a resumed training plays them again and then goes
on. A killed training therefore ends with the result of an uninterrupted one.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.artifacts.checkpoints import Checkpoints
from collectiverl.artifacts.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.data.device_replay import replay_kind
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import Step, steps
from collectiverl.nn.keys import seeded_key
from collectiverl.sac.agent import SACState, expert_count, expert_of
from collectiverl.sac.batches import Prior, last_row, row_of, sample_batches
from collectiverl.sac.evaluation import AFTERWARDS, Evaluator, by_task, choose
from collectiverl.sac.help import Help, MentorOutput, NoHelp
from collectiverl.sac.policy import explore
from collectiverl.sac.progress import ExpertProgress, Progress, Result
from collectiverl.sac.sampling import EpisodeSampler
from collectiverl.sac.settings import TrainConfig
from collectiverl.sac.updates import update, update_statistics

OWN, PRIOR = 1, 3  # streams of random numbers
UPDATES_PER_CALL = 20  # of those on a prior


class Trainer:
    """A training of E experts and its state; `run` takes it from its last checkpoint to its end.

    Environments are grouped by expert: `config.num_envs` of `envs` for each, and an equal share of `eval_envs`.
    An expert whose task is solved keeps the agent that solved it; it plays on until all tasks are solved.

    Args:
        help: what a student has beyond its environment's reward.
    """

    def __init__(
        self,
        state: SACState,
        config: TrainConfig,
        envs: VectorEnv,
        eval_envs: VectorEnv,
        *,
        seed: int,
        help: Help[Any] | None = None,
        prior: Prior | None = None,
        report: Report = silent,
    ):
        self.state, self.best = state, state.agent
        self.config, self.envs, self.seed, self.report = config, envs, seed, report
        self.experts = expert_count(state)
        self.key = seeded_key(seed)
        spec = envs.spec
        self.replay = replay_kind()(
            config.capacity, self.experts, config.num_envs, spec.obs_dim, spec.action_dim
        )
        self.prior = prior
        self.help: Help[Any] = help or NoHelp()
        self.context = self.help.begin(envs.tasks)
        self.output: MentorOutput  # at the observations that are being acted on
        self.evaluator = Evaluator(eval_envs, config.eval_episodes, seed)
        self.sampler = EpisodeSampler(envs, self.experts, config.sampled, seed)
        played = prior.env_steps if prior else 0
        self.progress = Progress([ExpertProgress()] * self.experts, env_steps=played)
        self.started = time.perf_counter()
        self.actions: list[np.ndarray] = []  # taken since the segment's reset
        self.replayed = 0  # of these, by a resumed training

    # -- the algorithm -------------------------------------------------------------------------------------

    def run(self, work: Path | None = None) -> list[Result]:
        """Trains to the end, one result an expert; with a folder, writes checkpoints and metrics there."""
        kept = Checkpoints(work)
        if kept.latest:
            self.restore(kept.latest)
        if self.prior and not self.progress.vector_step:
            self._learn_from_prior(self.prior)
        with metrics_log(work, resume_at=self.progress.env_steps) as log:
            while not self.finished or self.actions:  # its last episodes may have been interrupted
                self._segment(log, kept)
                if not self.finished:
                    kept.write(self.save)
        return [self._result(i) for i in range(self.experts)]

    def measured_anew(self, results: Sequence[Result]) -> list[Result]:
        """The results with the success on goals that no evaluation which chose an agent or ended training had."""
        success, _ = self.evaluator.play(self.best, self.progress.env_steps, AFTERWARDS)
        return [replace(result, success=float(s)) for result, s in zip(results, success, strict=True)]

    def _segment(self, log: MetricsLog | None, kept: Checkpoints) -> None:
        """One reset, then whole episodes."""
        seed = np.random.SeedSequence([self.seed, self.progress.segment]).generate_state(1)[0]
        stream = steps(self.envs, self, int(seed % 2**31))
        self.sampler.restart()
        known, self.replayed = len(self.actions), 0
        for left in reversed(range(self._segment_length())):
            step = next(stream)
            if self.replayed <= known:
                self._follow(step)
                continue
            self._store(step, cut=left == 0)
            metrics = self._learn()
            self._evaluate(metrics, log)
            self.sampler.add(step, self.progress.env_steps, finished=self.finished)
            if left == 0 or self._may_stop(step):
                self._store_last_observation(step)
                break
            kept.offer(self.save)
        self.progress.segment += 1
        self.actions = []

    def _follow(self, step: Step) -> None:
        """A step that was stored and learned from before the training was interrupted."""
        self.context = self.help.observe(self.context, step)
        self.sampler.follow(step)

    def _segment_length(self) -> int:
        """Vector steps; the one between two episodes is no transition."""
        horizon = self.envs.spec.horizon
        episodes = max(1, round(self.config.checkpoint_every / (horizon * self.config.num_envs)))
        return episodes * (horizon + 1) - 1

    def _may_stop(self, step: Step) -> bool:
        """Whether training is finished; if it ended early, its last episodes are played on, to be sampled."""
        sampled = self.config.sampled.episodes and self.progress.env_steps < self.config.steps
        return self.finished and (not sampled or bool(step.result.done.all()))

    @property
    def solved(self) -> bool:
        return all(expert.is_solved(self.config) for expert in self.progress.experts)

    @property
    def finished(self) -> bool:
        return self.solved or self.progress.env_steps >= self.config.steps

    # -- acting, as the policy of the one episode loop -----------------------------------------------------

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        """The student's actions, or a helper's in their place."""
        self.context, self.output = self.help.predict(self.context, observations)
        self.replayed += 1
        if self.replayed <= len(self.actions):
            return self.actions[self.replayed - 1]
        own = self._own_action(observations)
        action = self.help.act(own, self.output, self.context, self.progress.env_steps)
        self.actions.append(np.asarray(action, np.float32))
        return action

    def _own_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        """Random in the warm-up, then drawn from the policy; the noise is a function of seed and step alone."""
        p = self.progress
        if p.env_steps < self.config.warmup:
            rng = np.random.default_rng([self.seed, p.vector_step])
            return rng.uniform(-1, 1, (len(observations), self.envs.spec.action_dim)).astype(np.float32)
        obs = observations.reshape(self.experts, -1, observations.shape[-1])
        key = jax.random.fold_in(self.key, 2 * (p.vector_step // self.config.noise_hold))
        return np.asarray(explore(self.state.agent, obs, key)).reshape(len(observations), -1)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.context = self.help.reset(self.context, env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        """Rewards reach the helper with the whole step, in `_store`."""

    # -- storing -------------------------------------------------------------------------------------------

    def _store(self, step: Step, cut: bool) -> None:
        bonus = self.help.bonus(step, self.output)
        self.replay.add(row_of(step, self.output, bonus, self.experts, cut=cut))
        self.context = self.help.observe(self.context, step)
        self.progress.vector_step += 1
        self.progress.env_steps += int((~step.result.began).sum()) // self.experts
        self._update_statistics(step.obs)

    def _store_last_observation(self, step: Step) -> None:
        """The next observation of a segment's last transition."""
        _, output = self.help.predict(self.context, step.result.obs)
        self.replay.add(last_row(step, output, self.experts))

    def _update_statistics(self, obs: Float[np.ndarray, "N O"]) -> None:
        if self.config.sac.normalize_obs:
            self.state = update_statistics(self.state, obs.reshape(self.experts, -1, obs.shape[-1]))

    # -- learning ------------------------------------------------------------------------------------------

    def _learn(self) -> dict[str, jax.Array]:
        """The updates after a vector step; no metrics where there is nothing to learn from, or no need."""
        config, p = self.config, self.progress
        if self.solved or p.env_steps < config.warmup or not self.replay.ready:
            return {}
        share = self.prior.share_beside(self.replay) if self.prior else 0.0
        return self._update(share, config.updates_per_step, OWN, p.vector_step)

    def _learn_from_prior(self, prior: Prior) -> None:
        """Observation statistics of a prior, then the updates on it alone."""
        memory = prior.memory.data
        for obs in memory.obs[memory.valid.all((1, 2))]:  # rows in which every environment was playing
            self._update_statistics(obs.reshape(-1, obs.shape[-1]))
        for call in range(-(-prior.updates // UPDATES_PER_CALL)):
            self._update(1.0, UPDATES_PER_CALL, PRIOR, call)
            self.report(self.progress.env_steps, self.config.steps, "learning from the prior")

    def _update(self, share: float, updates: int, stream: int, step: int) -> dict[str, jax.Array]:
        """Updates on batches of which a share is the prior's; a function of stream and step."""
        weights, rng = (
            self.help.weights(self.progress.env_steps),
            np.random.default_rng([self.seed, stream, step]),
        )
        batches = sample_batches(self.replay, self.prior, share, updates, rng, weights, self.config.sac)
        key = jax.random.fold_in(self.key, 2 * step + 1)
        if stream == PRIOR:
            key = jax.random.fold_in(key, PRIOR)
        imitation = jnp.float32(weights.imitation) if weights.imitation else None
        self.state, metrics = update(self.state, batches, key, self.config.sac, imitation)
        return metrics

    # -- evaluating ----------------------------------------------------------------------------------------

    def _evaluate(self, metrics: dict[str, jax.Array], log: MetricsLog | None) -> None:
        """Plays, keeps the best agents and logs, if it is time and something was learned."""
        config, p = self.config, self.progress
        if not metrics or p.env_steps < min(p.next_evaluation, config.steps):
            return
        p.next_evaluation = p.env_steps + config.eval_every
        success, returns = self.evaluator.play(self.state.agent, p.env_steps)
        judged = [e.after(s, p.env_steps, config) for e, s in zip(p.experts, success, strict=True)]
        p.experts = [expert for expert, _ in judged]
        self.best = choose(np.array([is_best for _, is_best in judged]), self.state.agent, self.best)
        if log:
            tasks = self.envs.tasks[:: config.num_envs]
            values = by_task(tasks, metrics | {"eval/success": success, "eval/return_to_success": returns})
            log.write(p.env_steps, values | {"seconds": self._seconds()})
        self.report(p.env_steps, config.steps, f"success {success.mean():.2f}")

    def _result(self, i: int) -> Result:
        p, expert = self.progress, self.progress.experts[i]
        agent, episodes = expert_of(self.best, i), self.sampler.experts[i].sampled
        solved_at = expert.solved_at if expert.is_solved(self.config) else None
        return Result(agent, episodes, p.env_steps, self._seconds(), expert.best, solved_at)

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.started

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        checkpoints.save_tree(folder / "state.safetensors", self.state)
        checkpoints.save_tree(folder / "best.safetensors", self.best)
        checkpoints.save_tree(folder / "replay.safetensors", self.replay.state())
        checkpoints.save_tree(folder / "actions.safetensors", {"actions": np.array(self.actions)})
        self.sampler.save(folder)
        checkpoints.write_json(folder / "progress.json", asdict(self.progress) | {"seconds": self._seconds()})

    def restore(self, folder: Path) -> None:
        self.state = checkpoints.load_tree(folder / "state.safetensors", self.state)
        self.best = checkpoints.load_tree(folder / "best.safetensors", self.best)
        self.replay.restore(checkpoints.load_arrays(folder / "replay.safetensors"))
        self.actions = list(checkpoints.load_arrays(folder / "actions.safetensors")["actions"])
        self.sampler.restore(folder)
        saved = sealed.read_json(folder / "progress.json")
        self.progress = Progress([ExpertProgress(**e) for e in saved.pop("experts")], **saved)
