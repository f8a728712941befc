"""Stage 2, online distillation: random actions, the experts, then a learner labelled by them (DAgger).

One learner acts in all tasks together, and what it lacks decides what is played next: tasks that fail more get
more episodes. Told its task (`task_id`) it needs nothing else. Conditioned on `z` it acts on the embedding of its
own trajectory, and the encoder that gives it is refreshed on what the learner met: the policy has to know its own
`z` on its own mistakes, and the encoder what mistakes look like (Ross et al. 2011; SPEC, stage 2).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.artifacts.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.collective.conditioning import CONDITIONINGS, ConditioningName
from collectiverl.collective.distill import DistillLoss
from collectiverl.collective.playing import PerTaskPolicy, allocate, play_together, success_by_task
from collectiverl.collective.policy import Collective, CollectivePolicy
from collectiverl.collective.train import CollectiveConfig, Emphasis, distillation
from collectiverl.data.episodes import EpisodeTable, Shard, paths, write
from collectiverl.data.split import split
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import RandomPolicy
from collectiverl.nn.gaussian import Actor
from collectiverl.representation.encoder import Encoder
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.sac.agent import SACConfig, init_agent
from collectiverl.types import EnvSpec, Episode, Policy, TeachingPolicy

PLAY, LEARNER, ENCODER = 0, 1, 2  # streams of random numbers
Sides = tuple[list[EpisodeTable], list[EpisodeTable]]  # for training and for validation, one table a task


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """How `online_buffer` is collected."""

    conditioning: ConditioningName = "cls"  # what tells the learner its tasks apart
    random_episodes: int = 2  # a task
    expert_episodes: int = 10  # a task
    learner_rounds: int = 5  # rounds of DAgger
    learner_episodes: int = 10  # a task and round, on average
    horizon: int | None = 300  # steps of an episode, at most; None: the environment's own limit
    num_envs: int = 100  # alive at once, at most; each plays one episode
    updates: int = 2_000  # of the learner, before each round
    batch_size: int = 512
    learning_rate: float = 1e-3
    width: int = 400
    depth: int = 3
    loss: DistillLoss = "mse"
    refresh: int = 1_000  # updates of the encoder on what the learner met, after each round; 0: it stays

    def __post_init__(self) -> None:
        for name in ("random_episodes", "learner_rounds", "learner_episodes", "expert_episodes", "refresh"):
            if getattr(self, name) < 0:
                raise ValueError(f"online.{name.replace('_', '-')}={getattr(self, name)} is negative")
        if self.learner_rounds and not self.random_episodes + self.expert_episodes:
            raise ValueError(
                "online.random-episodes=0 and online.expert-episodes=0: the learner needs something to learn from"
            )
        for name in ("updates", "batch_size", "width", "depth", "num_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"online.{name.replace('_', '-')}={getattr(self, name)} must be at least 1")
        if self.horizon is not None and self.horizon < 1:
            raise ValueError(f"online.horizon={self.horizon} must be at least 1")
        if self.learning_rate <= 0:
            raise ValueError(f"online.learning-rate={self.learning_rate} must be positive")

    @property
    def reads(self) -> bool:
        """Whether the learner is conditioned on its trajectory."""
        return CONDITIONINGS[self.conditioning].reads

    @property
    def distillation(self) -> CollectiveConfig:
        """The learner's own."""
        return CollectiveConfig(
            conditioning=self.conditioning,
            loss=self.loss,
            actor_updates=self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            sac=SACConfig(width=self.width, depth=self.depth),
        )


@dataclass(frozen=True)
class EncoderTraining:
    """The encoder that a learner is conditioned on, and the buffers that it was trained on, one a task."""

    encoder: Encoder
    refresh: TransformerConfig  # how it is trained on after each round
    training: Sequence[EpisodeTable]
    validation: Sequence[EpisodeTable]


@dataclass(frozen=True)
class Rehearsal:
    """What a learner knows already and is not to forget: its actor, and stored labelled episodes, a table a task."""

    actor: Actor
    training: Sequence[EpisodeTable]
    validation: Sequence[EpisodeTable]
    share: float  # of every batch, for the tasks that are played


class OnlineDistillation:
    """The state of one stage-2 run; each round begins from a seed of its own and ends with a checkpoint.

    Args:
        make_envs: so many environments of a task, with fresh goals; they are closed after their round.
        encoder_training: for a learner conditioned on `z`; its encoder is refreshed, and `encoder` is the last one. Its
            buffers are those of the rehearsed tasks, then of the teachers'.
        rehearsal: for a learner that goes on from other tasks, which it is trained on beside what it plays.
        held_out: share of each round's episodes that neither learner nor encoder is trained on; those that
            `split` with the same fraction and seed puts into validation.
    """

    def __init__(
        self,
        make_envs: Callable[[str, int], VectorEnv],
        teachers: Mapping[str, TeachingPolicy],
        config: OnlineConfig,
        spec: EnvSpec,
        *,
        seed: int,
        held_out: float = 0.2,
        encoder_training: EncoderTraining | None = None,
        rehearsal: Rehearsal | None = None,
        report: Report = silent,
    ):
        if config.reads and encoder_training is None:
            raise ValueError(f"a learner conditioned on {config.conditioning} needs an encoder to read with")
        self.make_envs, self.teachers, self.config, self.spec = make_envs, teachers, config, spec
        self.seed, self.held_out, self.encoder_training, self.report = (
            seed,
            held_out,
            encoder_training,
            report,
        )
        self.rehearsal, self.tasks = rehearsal, tuple(teachers)
        self.encoder = encoder_training.encoder if encoder_training else None
        self.actor = rehearsal.actor if rehearsal else None  # of the last round's learner
        self.collected: list[Episode] = []
        self.success = dict.fromkeys(self.tasks, 0.0)  # in the last round
        self.phases = ["random", "expert", *["learner"] * config.learner_rounds]
        self.done = 0

    def run(self, work: Path | None = None) -> list[Episode]:
        """Plays all rounds; with a folder, checkpoints into it and logs metrics there."""
        self._restore(work)
        with metrics_log(work, resume_at=self.done) as log:
            while self.done < len(self.phases):
                self._round(log)
                if work:
                    self._save(work)
        return self.collected

    def _round(self, log: MetricsLog | None) -> None:
        phase, metrics = self.phases[self.done], {}
        learner = None
        if phase == "learner":
            learner, metrics["learner/validation"] = self._learn()
        played = self._play(phase, learner)
        self.collected += played
        self.success = success_by_task(played, self.tasks)
        if phase == "learner" and self.config.refresh and self.encoder is not None:
            self._tell(f"{phase}: refreshing the encoder")
            self._refresh()
        self.done += 1
        mean = float(np.mean(list(self.success.values())))
        if log:
            by_task = {f"success/{task}": rate for task, rate in self.success.items()}
            log.write(self.done, metrics | {f"{phase}/success": mean, **by_task})
        self._tell(f"{phase}: success {mean:.2f}")

    def _seed(self, purpose: int) -> int:
        """Of this round."""
        return int(np.random.SeedSequence([self.seed, self.done, purpose]).generate_state(1)[0] >> 1)

    def _tell(self, note: str) -> None:
        self.report(self.done, len(self.phases), note)

    # -- playing -------------------------------------------------------------------------------------------

    def _play(self, phase: str, learner: Collective | None) -> list[Episode]:
        """One round of labelled episodes, ordered by task."""
        per_task = {
            "random": self.config.random_episodes,
            "expert": self.config.expert_episodes,
            "learner": self.config.learner_episodes,
        }[phase]
        known = phase == "learner" and self.phases[self.done - 1] == "learner"
        wanted = allocate(self.success, per_task) if known else dict.fromkeys(self.tasks, per_task)
        seed = self._seed(PLAY)

        def actor(tasks: Sequence[str], own_seed: int) -> Policy:
            if learner is not None:
                return CollectivePolicy(learner, tasks)
            if phase == "expert":
                return PerTaskPolicy(self.teachers, tasks)
            return RandomPolicy(self.spec.action_dim, own_seed)

        played: list[Episode] = []
        size = self.config.num_envs
        for part in play_together(self.make_envs, wanted, size, actor, phase=phase, seed=seed):
            played += [self._labelled(e, seed) for e in part]
            self._tell(f"{phase}: {len(played)} of {sum(wanted.values())} episodes")
        return sorted(played, key=lambda e: self.tasks.index(e.task))

    def _labelled(self, e: Episode, seed: int) -> Episode:
        """With what the teacher says. All episodes of a round carry one seed, by which it is split."""
        return replace(e, seed=seed, labels=self.teachers[e.task].label(e.obs[:-1], e.action))

    # -- learning ------------------------------------------------------------------------------------------

    def sides(self) -> Sides:
        """What is rehearsed and what was collected, for training and for validation, one table a task."""
        known = self.rehearsal
        training, validation = (list(known.training), list(known.validation)) if known else ([], [])
        for task in self.tasks:
            mine = EpisodeTable([Shard.of([e for e in self.collected if e.task == task])])
            learned, kept = split(mine.about, fraction=self.held_out, seed=self.seed)
            training.append(mine.subset(learned))
            validation.append(mine.subset(kept))
        return training, validation

    def _learn(self) -> tuple[Collective, float]:
        """Distils everything collected so far into the learner; returns it and its validation loss."""
        self._tell("learner: learning")
        c = self.config.distillation
        training, validation = map(EpisodeTable.join, self.sides())
        learning = distillation(
            training,
            validation,
            self.encoder,
            c,
            self.spec,
            seed=self._seed(LEARNER),
            actor=self.actor,
            emphasis=Emphasis(self.tasks, self.rehearsal.share) if self.rehearsal else None,
        )
        learning.train_actor()
        self.actor = learning.collective.agent.actor
        return learning.collective, float(learning.best)

    def _refresh(self) -> None:
        """Trains the encoder on, on its buffers and everything rehearsed and collected."""
        encoder_training = self.encoder_training
        assert encoder_training is not None
        sides = zip(self.sides(), (encoder_training.training, encoder_training.validation), strict=True)
        training, validation = (
            [EpisodeTable.join([buffer, own]) for buffer, own in zip(buffers, collected, strict=True)]
            for collected, buffers in sides
        )
        self.encoder = train(
            training,
            validation,
            encoder_training.refresh,
            state_index=self.spec.state_index,
            seed=self._seed(ENCODER),
            begin=self.encoder,
        )

    # -- checkpoints ---------------------------------------------------------------------------------------

    def _save(self, work: Path) -> None:
        with checkpoints.checkpoint(work) as folder:
            if self.actor is not None:
                checkpoints.save_tree(folder / "actor.safetensors", self.actor)
            if self.encoder is not None:
                checkpoints.save_tree(folder / "encoder.safetensors", self.encoder)
            for task in self.tasks:  # one folder a task: labels of a scripted and a learned teacher differ
                write(folder / task, [e for e in self.collected if e.task == task])
            order = [self.tasks.index(e.task) for e in self.collected]
            features = self.actor.mlp.layers[0].weight.shape[0] if self.actor is not None else 0
            progress = {
                "done": self.done,
                "order": order,
                "success": self.success,
                "features": features,
            }
            checkpoints.write_json(folder / "progress.json", progress)

    def _restore(self, work: Path | None) -> None:
        folder = checkpoints.latest_checkpoint(work) if work else None
        if not folder:
            return
        saved = sealed.read_json(folder / "progress.json")
        files = {i: folder / task for i, task in enumerate(self.tasks) if paths(folder / task)}
        streams = {i: iter(EpisodeTable.open(path)) for i, path in files.items()}
        self.collected = [next(streams[i]) for i in saved["order"]]
        self.done, self.success = saved["done"], saved["success"]
        if self.encoder is not None:
            self.encoder = checkpoints.load_tree(folder / "encoder.safetensors", self.encoder)
        if saved["features"]:
            sizes = saved["features"], self.spec.action_dim
            fresh = eqx.filter_eval_shape(
                init_agent, *sizes, self.config.distillation.sac, jax.random.key(0)
            ).actor
            like = self.rehearsal.actor if self.rehearsal else fresh
            self.actor = checkpoints.load_tree(folder / "actor.safetensors", like)
