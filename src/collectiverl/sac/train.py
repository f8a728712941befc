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
import numpy as np
from jaxtyping import Bool, Float

from collectiverl.artifacts import checkpoints
from collectiverl.artifacts.checkpoints import Checkpoints
from collectiverl.artifacts.files import read_json, write_json
from collectiverl.artifacts.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.artifacts.tensors import load_arrays
from collectiverl.data.device_replay import replay_kind
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import Step, steps
from collectiverl.sac.agent import SACState, expert_count, expert_of
from collectiverl.sac.batches import Prior, last_row, row_of
from collectiverl.sac.evaluation import AFTERWARDS, Evaluator, by_task, choose
from collectiverl.sac.help import Help, MentorOutput, NoHelp
from collectiverl.sac.learner import Learner
from collectiverl.sac.progress import ExpertProgress, Progress, Result
from collectiverl.sac.sampling import EpisodeSampler
from collectiverl.sac.settings import TrainConfig


class Trainer:
    """A training of E experts and its state; `run` takes it from its last checkpoint to its end.

    Environments are grouped by expert: `config.num_envs` of `envs` for each, and an equal share of `eval_envs`.
    Each expert keeps its best agent. One whose task is solved plays on until all tasks are solved.

    Args:
        help: what a student has beyond its environment's reward.
        spent: seconds of earlier attempts, which count as this training's.
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
        spent: float = 0.0,
        report: Report = silent,
    ):
        self.config, self.envs, self.seed, self.report = config, envs, seed, report
        self.experts, sizes = expert_count(state), (envs.spec.obs_dim, envs.spec.action_dim)
        self.replay = replay_kind()(config.capacity, self.experts, config.num_envs, *sizes)
        self.learner = Learner(state, config.sac, self.replay, prior, seed=seed)
        self.best = self.learner.playing
        self.help: Help[Any] = help or NoHelp()
        self.context = self.help.begin(envs.tasks)
        self.output: MentorOutput  # at the observations that are being acted on
        self.evaluator = Evaluator(eval_envs, config.eval_episodes, seed, *config.judging)
        self.sampler = EpisodeSampler(envs, self.experts, config.sampled, seed)
        played = prior.env_steps if prior else 0
        self.progress = Progress([ExpertProgress()] * self.experts, env_steps=played)
        self.spent, self.started = spent, time.perf_counter()
        self.actions: list[np.ndarray] = []  # taken since the segment's reset
        self.replayed = 0  # of these, by a resumed training

    # -- the algorithm -------------------------------------------------------------------------------------

    def run(self, work: Path | None = None) -> list[Result]:
        """Trains to the end, one result an expert; with a folder, writes checkpoints and metrics there."""
        kept = Checkpoints(work)
        if kept.latest:
            self.restore(kept.latest)
        if self.learner.prior and not self.progress.vector_step:
            self._learn_from_prior(self.learner.prior)
        with metrics_log(work, resume_at=self.progress.env_steps) as log:
            while not self.finished or self.actions:  # its last episodes may have been interrupted
                self._segment(log, kept)
                if not self.finished:
                    kept.write(self.save)
        return [self._result(i) for i in range(self.experts)]

    def measured_anew(self, results: Sequence[Result], envs: VectorEnv) -> list[Result]:
        """The results with the success on goals that no evaluation which chose an agent or ended training had."""
        whole = Evaluator(envs, self.config.eval_episodes, self.seed, success_at=self.config.success_at)
        found = whole.play(self.best, self.progress.env_steps, AFTERWARDS)
        return [replace(r, success=float(s)) for r, s in zip(results, found.success, strict=True)]

    def _segment(self, log: MetricsLog | None, kept: Checkpoints) -> None:
        """One reset, then whole episodes."""
        seed = np.random.SeedSequence([self.seed, self.progress.segment]).generate_state(1)[0]
        stream = steps(self.envs, self, int(seed % 2**31))
        self.sampler.restart()
        known, self.replayed = len(self.actions), 0
        for left in reversed(range(self.config.segment(self.envs.spec.horizon))):
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
        action = self.learner.explore(observations, p.vector_step // self.config.noise_hold)
        checkpoints.check_finite({"action": action}, p.when)
        return action

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
        self.learner.update_statistics(step.obs)

    def _store_last_observation(self, step: Step) -> None:
        """The next observation of a segment's last transition."""
        _, output = self.help.predict(self.context, step.result.obs)
        self.replay.add(last_row(step, output, self.experts))

    # -- learning ------------------------------------------------------------------------------------------

    def _learn(self) -> dict[str, jax.Array]:
        """The updates after a vector step; no metrics where there is nothing to learn from, or no need."""
        config, p = self.config, self.progress
        if self.solved or p.env_steps < config.warmup or not self.replay.ready:
            return {}
        weights = self.help.weights(p.env_steps, acting=True)
        return self.learner.update(config.updates_per_step, weights, p.vector_step)

    def _learn_from_prior(self, prior: Prior) -> None:
        """Observation statistics of a prior, then the updates on it alone."""
        weights = self.help.weights(self.progress.env_steps, acting=False)
        for _ in self.learner.learn_from(prior, weights):
            self.report(self.progress.env_steps, self.config.steps, "learning from the prior")

    # -- evaluating ----------------------------------------------------------------------------------------

    def _evaluate(self, metrics: dict[str, jax.Array], log: MetricsLog | None) -> None:
        """Plays, keeps the best agents and logs, if it is time and something was learned."""
        config, p = self.config, self.progress
        if not metrics or p.env_steps < min(p.next_evaluation, config.steps):
            return
        checkpoints.check_finite(metrics, p.when)
        p.next_evaluation = p.env_steps + config.eval_every
        found = self.evaluator.play(self.learner.playing, p.env_steps)
        judged = [e.after(s, p.env_steps, config) for e, s in zip(p.experts, found.success, strict=True)]
        p.experts = [expert for expert, _ in judged]
        self.best = choose(np.array([is_best for _, is_best in judged]), self.learner.playing, self.best)
        if log:
            measured = {"eval/success": found.success, "eval/return_to_success": found.returns}
            measured |= self.sampler.take_returns()
            about = {"eval/episodes": found.episodes, "seconds": self._seconds()}
            log.write(p.env_steps, by_task(self.envs.tasks[:: config.num_envs], metrics | measured) | about)
        self.report(p.env_steps, config.steps, f"success {found.success.mean():.2f}")

    def _result(self, i: int) -> Result:
        p, expert = self.progress, self.progress.experts[i]
        checkpoints.check_finite(self.best, p.when)
        agent, episodes = expert_of(self.best, i), self.sampler.experts[i].sampled
        solved_at = expert.solved_at if expert.is_solved(self.config) else None
        return Result(agent, episodes, p.env_steps, self._seconds(), expert.best, solved_at)

    def _seconds(self) -> float:
        return max(self.progress.seconds, self.spent) + time.perf_counter() - self.started

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Everything that a resumed training needs.

        Raises:
            FloatingPointError: the training diverged; the checkpoint before stays the last.
        """
        checkpoints.check_finite(self.learner.state, self.progress.when)
        self.learner.save(folder)
        checkpoints.save_tree(folder / "best.safetensors", self.best)
        checkpoints.save_tree(folder / "actions.safetensors", {"actions": np.array(self.actions)})
        self.sampler.save(folder)
        write_json(folder / "progress.json", asdict(self.progress) | {"seconds": self._seconds()})

    def restore(self, folder: Path) -> None:
        self.learner.restore(folder)
        self.best = checkpoints.load_tree(folder / "best.safetensors", self.best)
        self.actions = list(load_arrays(folder / "actions.safetensors")["actions"])
        self.sampler.restore(folder)
        saved = read_json(folder / "progress.json")
        self.progress = Progress([ExpertProgress(**e) for e in saved.pop("experts")], **saved)
