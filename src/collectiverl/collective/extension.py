"""Lifelong learning: one more task for a collective, from one more teacher, while the old tasks are rehearsed.

The encoder is trained on with the new task's buffer beside the old ones. A learner that begins as the base's actor
plays the new task alone, labelled by its teacher, and is trained on the stored episodes of the old tasks too. Then
actor and critic are distilled, from where the base's are, from all that is stored (experience replay against
forgetting: Robins 1995, Rolnick et al. 2019).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from collectiverl.artifacts.metrics import Report, silent
from collectiverl.collective.dataset import played
from collectiverl.collective.online import EncoderTraining, OnlineConfig, OnlineDistillation, Rehearsal, Sides
from collectiverl.collective.policy import Collective
from collectiverl.collective.train import CollectiveConfig, Emphasis, distillation
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.core import VectorEnv
from collectiverl.representation.encoder import Encoder
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.types import EnvSpec, Episode, TeachingPolicy


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig:
    """What one more task may cost; all else is as in the run."""

    encoder_updates: int = 500  # of the base's encoder, with the new expert's buffer beside the old ones
    learner_rounds: int = 3  # rounds of DAgger, in the new task alone
    learner_episodes: int = 20  # a round
    learner_updates: int = 700  # before each round
    refresh: int = 300  # updates of the encoder after each round; 0: it stays
    actor_updates: int = 2_000
    critic_updates: int = 500
    share: float = 0.3  # of every batch of learner, actor and critic, for the new task; the rest is rehearsed
    episodes: int = 50  # a task, when it is judged before and after

    def __post_init__(self) -> None:
        for name in (
            *("encoder_updates", "learner_rounds", "learner_episodes", "learner_updates"),
            *("actor_updates", "critic_updates", "episodes"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')}={getattr(self, name)} must be at least 1")
        if self.refresh < 0:
            raise ValueError(f"--refresh={self.refresh} is negative")
        if not 0 < self.share < 1:
            raise ValueError(f"--share={self.share} is not between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How one task is added: a run's settings, for as long as its extension says."""

    online: OnlineConfig
    encoder: TransformerConfig
    refresh: TransformerConfig  # of the encoder, after each round
    collective: CollectiveConfig
    share: float  # of every batch, for the new task

    @classmethod
    def of(
        cls,
        extension: ExtensionConfig,
        online: OnlineConfig,
        transformer: TransformerConfig,
        collective: CollectiveConfig,
    ) -> "Learning":
        """The learner is conditioned as the collective is, whose actor it begins as."""
        e = extension
        return cls(
            online=replace(
                online,
                conditioning=collective.conditioning,
                learner_rounds=e.learner_rounds,
                learner_episodes=e.learner_episodes,
                updates=e.learner_updates,
                refresh=e.refresh,
            ),
            encoder=transformer.lasting(e.encoder_updates),
            refresh=transformer.lasting(e.refresh),
            collective=replace(collective, actor_updates=e.actor_updates, critic_updates=e.critic_updates),
            share=e.share,
        )


class Memory(NamedTuple):
    """What is stored of each task, one table a task."""

    left: Sides  # by experts while they learned: of the old tasks, then of the new one
    met: Sides  # by learners, and labelled: of the old tasks


class Extended(NamedTuple):
    """What adding a task gives."""

    collective: Collective
    collected: list[Episode]  # of the new task, labelled
    validation_loss: float


def extend(
    base: Collective,
    teachers: Mapping[str, TeachingPolicy],
    memory: Memory,
    learning: Learning,
    make_envs: Callable[[str, int], VectorEnv],
    spec: EnvSpec,
    *,
    seed: int,
    held_out: float,
    work: Path | None = None,
    report: Report = silent,
) -> Extended:
    """The base, and the tasks of `teachers` (one, as a rule) beside those that it knows.

    Args:
        held_out: share of each round's episodes that nothing is trained on, those that `split` holds out.
        work: rounds of the learner are checkpointed there.
    """
    encoder_training = None
    if base.encoder is not None:
        report(0, 1, "encoder: training on")
        encoder = _trained_on(base.encoder, memory, learning.encoder, spec, seed)
        encoder_training = EncoderTraining(encoder, learning.refresh, *memory.left)
    online = OnlineDistillation(
        make_envs,
        teachers,
        learning.online,
        spec,
        seed=seed,
        held_out=held_out,
        encoder_training=encoder_training,
        rehearsal=Rehearsal(base.agent.actor, *memory.met, share=learning.share),
        report=report,
    )
    collected = online.run(work)
    training, validation = map(EpisodeTable.join, online.sides())
    last = distillation(
        training,
        played(validation),
        online.encoder,
        learning.collective,
        spec,
        seed=seed,
        actor=base.agent.actor,
        critic=base.agent.critic,
        emphasis=Emphasis(online.tasks, learning.share),
        report=report,
    )
    return Extended(last.run(_below(work)), collected, float(last.best))


def _trained_on(
    encoder: Encoder, memory: Memory, config: TransformerConfig, spec: EnvSpec, seed: int
) -> Encoder:
    """On all that is stored, each task one buffer."""
    training, validation = (
        [EpisodeTable.join([mine, *met[i : i + 1]]) for i, mine in enumerate(left)]
        for left, met in zip(memory.left, memory.met, strict=True)
    )
    return train(training, validation, config, state_index=spec.state_index, seed=seed, begin=encoder)


def _below(work: Path | None) -> Path | None:
    """A folder for the last distillation's metrics: the learner's rounds have theirs in `work`."""
    if work is None:
        return None
    folder = work / "distillation"
    folder.mkdir(exist_ok=True)
    return folder


def forgetting(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Success that each old task lost; negative where it gained (Lopez-Paz & Ranzato 2017, backward transfer)."""
    return {task: rate - after[task] for task, rate in before.items()}
