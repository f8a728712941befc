"""Trains E SAC experts at once, each on its own environments, and keeps samples of how they learned.

Training runs in segments of whole episodes. Each begins with a reset seeded by its number and ends with a
checkpoint, so that a killed training goes on to the very result it would have had: simulators cannot be saved.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.artifacts.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.data import episodes as episode_files
from collectiverl.data.replay import Replay, Row
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import EpisodeCollector, Step, first_success, steps
from collectiverl.nn.normalizer import Normalizer
from collectiverl.sac.agent import Agent, SACState, update
from collectiverl.sac.policy import AgentPolicy, explore
from collectiverl.sac.settings import Help, MentorOutput, NoHelp, TrainConfig, Weights
from collectiverl.types import AnyArray, Episode, Policy, Transition

OWN, PRIOR = 1, 3  # streams of random numbers
UPDATES_PER_CALL = 20  # of those on a prior


@jax.jit
def _take_in(normalizers: Normalizer, obs: Float[Array, "E N O"]) -> Normalizer:
    return jax.vmap(Normalizer.update)(normalizers, obs)


@dataclass(frozen=True)
class Prior:
    """What others did in the task, from which a share of every batch is drawn (Ball et al. 2023, RLPD)."""

    memory: Replay
    share: float = 0.5  # of every batch
    env_steps: int = (
        0  # of these, played for this student: they count as its own, and as such are drawn at least
    )
    updates: int = 0  # on the prior alone, before the student acts


@dataclass
class Result:
    """What training one expert leaves behind."""

    agent: Agent  # of the best evaluation
    episodes: list[Episode]  # sampled while learning
    env_steps: int
    seconds: float
    success: float  # of the evaluation that chose the agent
    solved_at: int | None  # environment steps at the first of the evaluations that ended training


class Trainer:
    """The state of a training of E experts; `run` takes it from its last checkpoint to its end.

    Environments are grouped by expert: `config.num_envs` of `envs` for each, and an equal share of `eval_envs`.
    An expert whose task is solved is kept as it was then; it plays on until all are.

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
        help: Help | None = None,
        prior: Prior | None = None,
        report: Report = silent,
    ):
        self.state, self.config, self.seed = state, config, seed
        self.envs, self.eval_envs = envs, eval_envs
        self.help, self.report = help or NoHelp(), report
        self.sight: MentorOutput  # what the helper sees in the observations that are being acted on
        self.experts = state.log_alpha.shape[0]
        self.key = jax.random.key(seed)
        spec = envs.spec
        self.replay = Replay(config.capacity, self.experts, config.num_envs, spec.obs_dim, spec.action_dim)
        self.prior = prior
        self.collector = EpisodeCollector(envs, "training", seed)
        self.recent: list[list[Episode]] = [[] for _ in range(self.experts)]
        self.sampled: list[list[Episode]] = [[] for _ in range(self.experts)]
        self.best = state.agent
        played = prior.env_steps if prior else 0
        self.progress = Progress([ExpertProgress() for _ in range(self.experts)], env_steps=played)
        self.began = time.perf_counter()

    # -- acting --------------------------------------------------------------------------------------------

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        """Random during the warm-up, then drawn from the policy with noise that holds for some steps.

        The noise is a function of seed and step alone. A helper may act in the student's place.
        """
        self.sight = self.help.look(observations)
        return self.help.act(self._own_action(observations), self.progress.env_steps)

    def _own_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        shape = (self.experts, len(observations) // self.experts)
        if self.progress.env_steps < self.config.warmup:
            rng = np.random.default_rng([self.seed, self.progress.vector_step])
            return rng.uniform(-1, 1, (len(observations), self.envs.spec.action_dim)).astype(np.float32)
        obs = observations.reshape(*shape, -1)
        key = jax.random.fold_in(self.key, 2 * (self.progress.vector_step // self.config.noise_hold))
        return np.asarray(explore(self.state.agent, obs, key)).reshape(len(observations), -1)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.help.reset(env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        pass

    # -- learning ------------------------------------------------------------------------------------------

    def run(self, work: Path | None = None) -> list[Result]:
        """Trains to the end, one result an expert; with a folder, checkpoints into it and logs metrics there."""
        self.restore(work)
        if self.prior is not None and not self.progress.vector_step:
            self._learn_from(self.prior)
        with metrics_log(work, resume_at=self.progress.env_steps) as log:
            while not self.finished:
                self._segment(log)
                if work and not self.finished:
                    self.save(work)
        return [self._result(i) for i in range(self.experts)]

    def _result(self, i: int) -> Result:
        p, expert = self.progress, self.progress.experts[i]
        solved_at = expert.solved_at if self._is_solved(expert) else None
        agent = jax.tree.map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, self.best)
        return Result(agent, self.sampled[i], p.env_steps, self._seconds(), expert.best, solved_at)

    def _is_solved(self, expert: "ExpertProgress") -> bool:
        wanted = self.config.stop_evaluations
        return bool(wanted) and expert.streak >= wanted

    @property
    def solved(self) -> bool:
        return all(map(self._is_solved, self.progress.experts))

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
        result = step.result
        self.replay.add(row_of(step, self.sight, self.help.bonus(step), self.experts, cut=cut))
        self.progress.vector_step += 1
        self.progress.env_steps += int((~result.began).sum()) // self.experts
        if self.config.sac.normalize_obs:
            self._observe_statistics(step.obs)

    def _store_last(self, step: Step) -> None:
        """The observation behind a segment's last transition, in a row that is no transition."""
        self.replay.add(last_row(step, self.help.look(step.result.obs), self.experts))

    def _observe_statistics(self, obs: Float[np.ndarray, "N O"]) -> None:
        grouped = obs.reshape(self.experts, -1, obs.shape[-1])
        normalizer = _take_in(self.state.agent.normalizer, grouped)
        self.state = eqx.tree_at(lambda s: s.agent.normalizer, self.state, normalizer)

    def _learn_from(self, prior: Prior) -> None:
        """Takes a memory's observations into the running mean and deviation, row by row while all play.

        Then come the updates on it alone.
        """
        memory = prior.memory.data
        if self.config.sac.normalize_obs:
            for obs in memory.obs[memory.valid.all((1, 2))]:
                self._observe_statistics(obs.reshape(-1, obs.shape[-1]))
        for call in range(-(-prior.updates // UPDATES_PER_CALL)):
            self._update(1.0, UPDATES_PER_CALL, PRIOR, call)
            self.report(self.progress.env_steps, self.config.steps, "learning from what the mentor did")

    def _learn(self) -> dict[str, jax.Array]:
        config, p = self.config, self.progress
        if p.env_steps < config.warmup or not self.replay.ready:
            return {}
        share = 0.0
        if self.prior:
            share = self.prior.share
            if self.prior.env_steps:  # played for this learner: never drawn less often than its own steps are
                theirs, own = self.prior.memory.filled, self.replay.filled
                share = max(share, theirs / (theirs + own))
        return self._update(share, config.updates_per_step, OWN, p.vector_step)

    def _update(self, share: float, updates: int, stream: int, step: int) -> dict[str, jax.Array]:
        """So many updates on batches of which a share is the prior's; a function of stream and step."""
        weights = self.help.weights(self.progress.env_steps)
        batches = self._batches(share, updates, np.random.default_rng([self.seed, stream, step]), weights)
        key = jax.random.fold_in(self.key, 2 * step + 1)
        if stream == PRIOR:
            key = jax.random.fold_in(key, PRIOR)
        imitation = jnp.float32(weights.imitation) if weights.imitation else None
        self.state, metrics = update(self.state, batches, key, self.config.sac, imitation)
        return metrics

    def _batches(self, share: float, updates: int, rng: np.random.Generator, weights: Weights) -> Transition:
        """Transitions of axes (U, E, batch), rewards scaled."""
        sac = self.config.sac
        theirs = round(share * sac.batch_size)
        sources = [(self.replay, sac.batch_size - theirs)]
        if self.prior:
            sources.append((self.prior.memory, theirs))
        parts = [
            memory.sample(
                rng,
                (updates, count),
                n_step=sac.n_step,
                gamma=sac.gamma,
                bonus=weights.bonus,
                potential=weights.potential,
                advised=bool(weights.imitation),
            )
            for memory, count in sources
            if count
        ]
        batches = jax.tree.map(lambda *columns: np.concatenate(columns, axis=2), *parts)
        return batches._replace(reward=batches.reward * np.float32(sac.reward_scale))

    def _sample_episodes(self, step: Step) -> None:
        """Copies aside the last complete episodes of each expert, when it is time."""
        sampling, p = self.config.sampling, self.progress
        for env, episode in self.collector.add(step):
            own = self.recent[env // self.config.num_envs]
            own.append(episode)
            del own[: -max(sampling.episodes, 1)]
        for expert, own, sampled in zip(p.experts, self.recent, self.sampled, strict=True):
            due = self.finished or p.env_steps >= max(expert.next_sampling, sampling.warmup)
            if due and len(own) >= sampling.episodes:
                sampled += own[: sampling.episodes]
                own.clear()
                expert.next_sampling = p.env_steps + sampling.period

    def _evaluate(self, metrics: dict[str, jax.Array], log: MetricsLog | None) -> None:
        config, p = self.config, self.progress
        if not metrics or p.env_steps < min(p.next_evaluation, config.steps):
            return
        p.next_evaluation = p.env_steps + config.eval_every
        policy = AgentPolicy(self.state.agent)
        success, returns = self._look(policy)
        better = [self._judge(*pair) for pair in zip(p.experts, success, strict=True)]
        self.best = _where(np.array(better), self.state.agent, self.best)
        if log:
            values = metrics | {"eval/success": success, "eval/return": returns}
            log.write(p.env_steps, self._by_task(values) | {"seconds": self._seconds()})
        self.report(p.env_steps, config.steps, f"success {success.mean():.2f}")

    def _look(self, policy: Policy) -> tuple[Float[np.ndarray, "E"], Float[np.ndarray, "E"]]:
        """Success and return of `eval_episodes` episodes of each expert, in as many rounds as they take."""
        wanted = self.config.eval_episodes
        rounds = -(-wanted * self.experts // self.eval_envs.num_envs)
        seeds = np.random.SeedSequence([self.seed, 2, self.progress.env_steps]).generate_state(rounds)
        played = [first_success(self.eval_envs, policy, int(seed % 2**31)) for seed in seeds]
        success, returns = (
            np.concatenate([part.reshape(self.experts, -1) for part in parts], axis=1)[:, :wanted].mean(1)
            for parts in zip(*played, strict=True)
        )
        return success, returns

    def _by_task(self, values: Mapping[str, Float[AnyArray, "E"]]) -> dict[str, float]:
        """Each expert's figures; of several, under the names of their tasks."""
        tasks = self.envs.tasks[:: self.config.num_envs]
        prefixes = [f"{task}/" for task in tasks] if self.experts > 1 else [""]
        columns = {name: np.asarray(value) for name, value in values.items()}
        return {p + name: float(c[i]) for name, c in columns.items() for i, p in enumerate(prefixes)}

    def _judge(self, expert: "ExpertProgress", success: float) -> bool:
        """Counts an evaluation; whether the agent is the best so far, of equals the one that learned longest."""
        if self._is_solved(expert):
            return False
        expert.streak = expert.streak + 1 if success >= self.config.stop_success else 0
        if expert.streak <= 1:
            expert.solved_at = self.progress.env_steps if expert.streak else None
        if success < expert.best:
            return False
        expert.best = float(success)
        return True

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.began

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, work: Path) -> None:
        with checkpoints.checkpoint(work) as folder:
            checkpoints.save_tree(folder / "state.safetensors", self.state)
            checkpoints.save_tree(folder / "best.safetensors", self.best)
            checkpoints.save_tree(folder / "replay.safetensors", self.replay.state())
            for i, (recent, sampled) in enumerate(zip(self.recent, self.sampled, strict=True)):
                episode_files.write(folder / f"recent_{i}", recent)
                episode_files.write(folder / f"sampled_{i}", sampled)
            progress = asdict(self.progress) | {"seconds": self._seconds()}
            checkpoints.write_json(folder / "progress.json", progress)

    def restore(self, work: Path | None) -> None:
        folder = checkpoints.latest_checkpoint(work) if work else None
        if not folder:
            return
        self.state = checkpoints.load_tree(folder / "state.safetensors", self.state)
        self.best = checkpoints.load_tree(folder / "best.safetensors", self.best)
        self.replay.restore(checkpoints.load_arrays(folder / "replay.safetensors"))
        self.recent = [_read(folder / f"recent_{i}") for i in range(self.experts)]
        self.sampled = [_read(folder / f"sampled_{i}") for i in range(self.experts)]
        saved = sealed.read_json(folder / "progress.json")
        self.progress = Progress([ExpertProgress(**e) for e in saved.pop("experts")], **saved)


@dataclass
class ExpertProgress:
    """How far one expert is."""

    next_sampling: int = 0  # environment steps
    streak: int = 0  # evaluations in a row at the stopping level
    solved_at: int | None = None
    best: float = 0.0  # success of the best evaluation


@dataclass
class Progress:
    """Counters and schedules; all that a checkpoint needs beside arrays and episodes."""

    experts: list[ExpertProgress]
    segment: int = 0
    vector_step: int = 0
    env_steps: int = 0  # an expert's
    next_evaluation: int = 0
    seconds: float = 0.0


def row_of(
    step: Step, sight: MentorOutput, bonus: Float[np.ndarray, "N"], experts: int, *, cut: bool = False
) -> Row:
    """What a replay keeps of a step; `cut`: its episodes end here, since their steps to come are not kept."""
    result = step.result
    columns = (
        *(step.obs, step.action, result.reward, bonus, *sight),
        *(result.terminated, result.done | cut, ~result.began),
    )
    return Row(*(c.reshape(experts, -1, *c.shape[1:]) for c in columns))


def last_row(step: Step, sight: MentorOutput, experts: int) -> Row:
    """The observation that a step led to, in a row that is no transition."""
    obs, action = step.result.obs, np.zeros_like(step.action)
    zeros, no = np.zeros(len(obs), np.float32), np.zeros(len(obs), bool)
    columns = (obs, action, zeros, zeros, *sight, no, ~no, no)
    return Row(*(c.reshape(experts, -1, *c.shape[1:]) for c in columns))


def _where(chosen: Bool[np.ndarray, "E"], new: Agent, old: Agent) -> Agent:
    """The new agents of the chosen experts, the old ones of the others."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b) if eqx.is_array(a) else a

    return jax.tree.map(pick, new, old)


def _read(folder: Path) -> list[Episode]:
    files: Sequence[Path] = episode_files.paths(folder)
    return list(episode_files.EpisodeTable.open(folder)) if files else []
