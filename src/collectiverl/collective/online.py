"""Online distillation: episodes of random actions, of the teachers, then of a learner labelled by the teachers.

This is DAgger (Ross et al. 2011). One learner plays all tasks and goes on learning from round to round. It plays with
the average of its weights: at a high learning rate the latest weights can get stuck, which fills the data.
In some episodes of the learner, the teacher plays stretches. Some of the teachers' own episodes have noise in their
actions, but none in their labels. Tasks that fail get more episodes.

A round's episodes are played in a thread of their own, while the learner learns from earlier episodes. The weights that
play are fixed before both begin, so that the result does not depend on the number of cores.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collectiverl.artifacts.checkpoints import Checkpoints
from collectiverl.artifacts.files import read_json, write_json
from collectiverl.artifacts.metrics import MetricsLog, Report, metrics_log, silent
from collectiverl.collective.playing import (
    allocate,
    success_by_task,
)
from collectiverl.collective.policy import Collective
from collectiverl.collective.rounds import OnlineConfig, Rounds
from collectiverl.collective.segments import Segments
from collectiverl.collective.train import UPDATES_PER_CALL, CollectiveConfig, Training, fresh_collective
from collectiverl.data.episodes import EpisodeTable, Shard, paths, write
from collectiverl.data.split import split
from collectiverl.envs.core import VectorEnv
from collectiverl.representation.encoder import Encoder
from collectiverl.types import EnvSpec, Episode, TeachingPolicy

HELD_OUT = 0.2  # share of each round's episodes
LEARNER = 3  # stream of random numbers; those of the episodes are in `rounds`
Sides = tuple[list[EpisodeTable], list[EpisodeTable]]  # for training and for validation, one table per task


@dataclass(frozen=True)
class Rehearsal:
    """A collective that a learner begins as, and labelled episodes of its tasks, one table for each, to rehearse."""

    collective: Collective
    training: Sequence[EpisodeTable]
    validation: Sequence[EpisodeTable]
    share: float  # part of every batch for the tasks that are played


class OnlineDistillation:
    """One online distillation and its state; each round has a seed of its own and ends with a checkpoint.

    Args:
        make_envs: makes a number of environments of a task, with fresh goals that the teachers see.
        teachers: the teacher of each task.
        config: how many episodes are played, by whom.
        learning: how the learner is made and learns.
        spec: of the environments; all tasks have these shapes.
        seed: of all random numbers.
        transformer: the trajectory transformer, for a conditioning that needs it.
        goals_hidden: the learner does not see the goals.
        held_out: share of each round's episodes that the learner is not trained on; `split` puts the same episodes
            into validation if it has this fraction and seed.
        rehearsal: the collective that the learner begins as, and episodes of its tasks, which are trained on too.
        fresh: the learner begins each round with fresh networks, instead of going on from the round before.
    """

    def __init__(
        self,
        make_envs: Callable[[str, int], VectorEnv],
        teachers: Mapping[str, TeachingPolicy],
        config: OnlineConfig,
        learning: CollectiveConfig,
        spec: EnvSpec,
        *,
        seed: int,
        held_out: float = HELD_OUT,
        transformer: Encoder | None = None,
        goals_hidden: bool = False,
        rehearsal: Rehearsal | None = None,
        fresh: bool = False,
        report: Report = silent,
    ):
        self.config, self.learning, self.spec, self.seed = config, learning, spec, seed
        self.held_out, self.report = held_out, report
        self.transformer, self.goals_hidden = transformer, goals_hidden
        self.rehearsal, self.fresh = rehearsal, fresh
        self.tasks = tuple(teachers)
        self.rounds = Rounds(make_envs, teachers, config, spec, seed, learning.unrewarded, self._tell)
        self.collected: list[Episode] = []
        self.training: Training | None = None
        self.success: dict[str, float] = {}  # of the learner, in the last round
        self.failure = dict.fromkeys(self.tasks, 1.0)  # running mean
        self.done = 0  # finished rounds; the first is the teachers'

    @property
    def collective(self) -> Collective:
        """The learner, with its averaged weights."""
        assert self.training is not None
        return self.training.collective

    def run(self, work: Path | None = None) -> list[Episode]:
        """Plays all rounds and returns their episodes; `work` is a folder for checkpoints and metrics."""
        kept = Checkpoints(work)
        self._restore(kept.latest)
        with metrics_log(work, resume_at=self.done) as log, ThreadPoolExecutor(1) as player:
            if not self.done:
                self.collected = self.rounds.of_teachers()
                self.training = self._new_training()
                self._learn(self.config.first_updates)
                self._finish_round(log, kept, {})
            while self.done <= self.config.learner_rounds:
                self._round(player, log, kept)
        return self.collected

    def _round(self, player: ThreadPoolExecutor, log: MetricsLog | None, kept: Checkpoints) -> None:
        """The learner plays with its present weights, and meanwhile learns from the earlier episodes."""
        wanted = allocate(self.failure, self.config.learner_episodes)
        playing = player.submit(self.rounds.of_learner, self.collective, wanted, self.done)
        if self.fresh:
            self.training = self._new_training()
        loss = self._learn(self.config.round_updates)
        played = playing.result()
        self.collected += played
        self.success = success_by_task(played, self.tasks)
        for task, rate in self.success.items():
            self.failure[task] = 0.5 * self.failure[task] + 0.5 * (1 - rate)
        last = {f"last/{t}": _mean(e.success[-1] for e in played if e.task == t) for t in self.tasks}
        by_task = {f"success/{task}": rate for task, rate in self.success.items()}
        self._finish_round(
            log,
            kept,
            {"learner/loss": loss, "learner/success": _mean(self.success.values())} | by_task | last,
        )

    def _finish_round(self, log: MetricsLog | None, kept: Checkpoints, values: dict[str, float]) -> None:
        self.done += 1
        if log and values:
            log.write(self.done, values)
        kept.write(self._save)
        self._tell(f"success {values['learner/success']:.2f}" if values else "teachers")

    def _tell(self, note: str) -> None:
        self.report(self.done, self.config.learner_rounds + 1, note)

    # -- learning ------------------------------------------------------------------------------------------

    def sides(self) -> Sides:
        """What is rehearsed and what was collected, for training and for validation, one table per task."""
        return self._sides(self.collected)

    def _sides(self, collected: Sequence[Episode]) -> Sides:
        hidden = self.spec.goal_index if self.goals_hidden else ()
        known = (self.rehearsal.training, self.rehearsal.validation) if self.rehearsal else ((), ())
        training, validation = ([table.hiding(hidden) for table in side] for side in known)
        for task in self.tasks:
            mine = EpisodeTable([Shard.of([e for e in collected if e.task == task])]).hiding(hidden)
            learned, kept = split(mine.about, fraction=self.held_out, seed=self.seed)
            training.append(mine.subset(learned))
            validation.append(mine.subset(kept))
        return training, validation

    def _new_training(self) -> Training:
        """The training of a fresh learner, or of the rehearsed collective.

        Its statistics are those of the first round, which no learner plays, whenever it begins: a resumed one is alike.
        """
        seed = int(np.random.SeedSequence([self.seed, LEARNER]).generate_state(1)[0] >> 1)
        if self.rehearsal:
            return Training(self.rehearsal.collective, self.learning, seed=seed)
        first_round = [e for e in self.collected if e.phase != "learner"]
        fresh = fresh_collective(
            EpisodeTable.join(self._sides(first_round)[0]),
            self.learning,
            self.spec,
            transformer=self.transformer,
            goals_hidden=self.goals_hidden,
            seed=seed,
        )
        return Training(fresh, self.learning, seed=seed)

    def _learn(self, updates: int) -> float:
        """From everything collected so far; returns the last loss."""
        assert self.training is not None
        segments, loss = self._segments(), 0.0
        rates = self.training.constant(updates)
        for i in range(0, updates, UPDATES_PER_CALL):
            loss = self.training.advance(segments, rates[i : i + UPDATES_PER_CALL])
            self._tell(f"learning: {i + UPDATES_PER_CALL} of {updates} updates")
        return loss

    def _segments(self) -> Segments:
        assert self.training is not None
        table = EpisodeTable.join(self.sides()[0])
        if self.rehearsal:
            return self.training.segments(table, emphasized=self.tasks, share=self.rehearsal.share)
        return self.training.segments(table)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def _save(self, folder: Path) -> None:
        assert self.training is not None
        self.training.save(folder)
        for task in self.tasks:  # one folder per task: labels of a scripted and a learned teacher differ
            write(folder / task, [e for e in self.collected if e.task == task])
        progress = {
            "done": self.done,
            "order": [self.tasks.index(e.task) for e in self.collected],
            "success": self.success,
            "failure": self.failure,
        }
        write_json(folder / "progress.json", progress)

    def _restore(self, folder: Path | None) -> None:
        if not folder:
            return
        saved = read_json(folder / "progress.json")
        files = {i: folder / task for i, task in enumerate(self.tasks) if paths(folder / task)}
        streams = {i: iter(EpisodeTable.open(path)) for i, path in files.items()}
        self.collected = [next(streams[i]) for i in saved["order"]]
        self.training = self._new_training()
        self.training.restore(folder)
        self.done, self.success, self.failure = saved["done"], saved["success"], saved["failure"]


def _mean(values) -> float:
    found = [float(value) for value in values]
    return sum(found) / max(len(found), 1)
