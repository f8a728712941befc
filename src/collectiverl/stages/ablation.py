"""`ablate`: one row of the table, a collective that differs from the run's settings in one thing.

Every row collects its own episodes with its own learner: another learner's episodes would bias the comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from collectiverl.artifacts import paths
from collectiverl.artifacts.checkpoints import part
from collectiverl.artifacts.paths import DISTILLATION, TRANSFORMER
from collectiverl.collective.online import HELD_OUT
from collectiverl.collective.playing import play_judged, success_by_task
from collectiverl.collective.policy import Collective, CollectivePolicy, Shuffled, save_collective
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.segments import played
from collectiverl.collective.train import CollectiveConfig, distil
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.make import Backend, make_envs
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.online import distillation_of, transformer_of
from collectiverl.stages.teachers import teacher_inputs
from collectiverl.types import Episode, Policy


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A collective that differs from the run's settings in one thing."""

    group: str  # what is varied
    variant: str
    tasks: tuple[str, ...]
    training_seed: int  # of this training; the stage has the seed of the run whose experts teach
    teacher: str = "sac"
    goals_hidden: bool = False
    agreed: bool = False
    online: OnlineConfig = field(default_factory=OnlineConfig)
    collective: CollectiveConfig = field(default_factory=CollectiveConfig)
    fraction: float = HELD_OUT  # of the episodes, held out for validation
    # each round begins with fresh networks; None, which older rows have: the learner goes on from the round before
    fresh: bool | None = None
    shuffled: bool = False  # evaluated with the embedding of another task's environment
    told: bool = True  # the policy sees the rewards when it is evaluated
    episodes: int = 20  # evaluation episodes per task, with fresh goals
    backend: Backend = "auto"


def ablation_stage(config: Ablation, seed: int) -> Stage[Ablation]:
    inputs = teacher_inputs(config.teacher, config.tasks, seed, agreed=config.agreed)
    if config.collective.reads:
        inputs |= {TRANSFORMER: "train-transformer"}
    return Stage(
        kind="ablate",
        subject=f"{config.variant} ({config.group}), seed {config.training_seed}",
        out=paths.ablation(config.group, config.variant, config.training_seed),
        function=ablate,
        config=config,
        inputs=inputs,
        seed=seed,
    )


def ablate(work: Work[Ablation]) -> dict[str, Any]:
    """Collects, distils the actor, and evaluates it."""
    config = work.config
    actor_alone = replace(config.collective, critic=replace(config.collective.critic, updates=0))
    online = distillation_of(
        work, seed=config.training_seed, held_out=config.fraction, fresh=bool(config.fresh)
    )
    online.run(work.folder)
    training, held_out = map(EpisodeTable.join, online.sides())
    collective, error = distil(
        online.collective,
        training,
        played(held_out),
        actor_alone,
        seed=config.training_seed,
        work=part(work.folder, DISTILLATION),
        report=work.report,
    )
    _, encoder = transformer_of(work.run, config.collective, config.goals_hidden)
    save_collective(work.folder, collective, config.collective.sac, encoder)
    return judged(play(collective, config), config.tasks) | {
        "validation_loss": error,
        "collected": len(online.collected),
        "env_steps": sum(map(len, online.collected)),
    }


def play(collective: Collective, config: Ablation) -> list[Episode]:
    """Evaluates all tasks side by side, with equally many environments each, so that `z` can be exchanged."""

    def policy(tasks: Sequence[str], seed: int) -> Policy:
        if config.shuffled:
            return Shuffled(collective, tasks, shift=len(tasks) // len(config.tasks))
        return CollectivePolicy(collective, tasks) if config.told else _Untold(collective, tasks)

    make = partial(make_envs, backend=config.backend, goals="fresh", layout=collective.spec)
    return play_judged(
        make, config.tasks, config.episodes, config.online.num_envs, policy, seed=config.training_seed
    )


class _Untold(CollectivePolicy):
    """The collective as a policy that sees no rewards."""

    def observe(self, rewards: np.ndarray) -> None:
        pass


def judged(episodes: Sequence[Episode], tasks: Sequence[str]) -> dict[str, Any]:
    """Success at any and at the last step, on average and by task."""
    last = {t: float(np.mean([e.success[-1] for e in episodes if e.task == t])) for t in tasks}
    by_task = success_by_task(episodes, tasks)
    return {
        "success_any": float(np.mean(list(by_task.values()))),
        "success_last": float(np.mean(list(last.values()))),
        "by_task": by_task,
        "last_by_task": last,
        "episodes": len(episodes),
    }
