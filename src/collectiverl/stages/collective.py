"""`distill-collective`: from the `online_buffer` of all tasks to one policy for all tasks.

And `take-collective`, which copies a collective that was made elsewhere, and `random-collective`, a control.
"""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from collectiverl.artifacts import manifests, sealed
from collectiverl.artifacts.paths import COLLECTIVE, ONLINE_BUFFER, TRANSFORMER
from collectiverl.collective.errors import errors
from collectiverl.collective.policy import ABOUT, WEIGHTS, Collective, load_collective, save_collective
from collectiverl.collective.segments import played
from collectiverl.collective.train import CollectiveConfig, distil, fresh_collective, unit_of
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.make import layout_of
from collectiverl.nn.keys import seeded_key
from collectiverl.policies import shipped, summary_of
from collectiverl.sac.agent import init_agent
from collectiverl.stages.base import Stage, Work
from collectiverl.stages.buffers import buffer_inputs, open_buffers
from collectiverl.stages.flags import Flat
from collectiverl.stages.online import transformer_of
from collectiverl.types import UserError


@dataclass(frozen=True, kw_only=True)
class DistillCollective:
    """The collective of a run."""

    tasks: tuple[str, ...]  # tasks or benchmarks; none: those of the run
    # folder in the run of the online distillation whose learner it begins from; auto: that of these tasks, if there
    # is one; "": from random weights
    learner: str = ""
    goals_hidden: bool = False  # the collective does not see the goals
    collective: Flat[CollectiveConfig] = field(default_factory=CollectiveConfig)


def distill_collective_stage(config: DistillCollective, seed: int) -> Stage[DistillCollective]:
    inputs = buffer_inputs(ONLINE_BUFFER, config.tasks, seed)
    if config.learner:
        inputs |= {config.learner: f"online-distill {' '.join(config.tasks)}"}
    if config.collective.reads:
        inputs |= {TRANSFORMER: "train-transformer (or pass --conditioning own)"}
    return Stage(
        kind="distill-collective",
        subject=f"{len(config.tasks)} tasks",
        out=COLLECTIVE,
        function=distill_collective,
        config=config,
        inputs=inputs,
        seed=seed,
    )


def distill_collective(work: Work[DistillCollective]) -> dict[str, Any]:
    config = work.config
    layout = layout_of(config.tasks)
    hidden = layout.goal_index if config.goals_hidden else ()
    buffers = open_buffers(work.run, ONLINE_BUFFER, config.tasks, work.seed, layout)
    training, held_out = (EpisodeTable.join(tables).hiding(hidden) for tables in buffers)
    held_out = played(held_out)
    last, error = distil(
        _begun(work, training),
        training,
        held_out,
        config.collective,
        seed=work.seed,
        work=work.folder,
        report=work.report,
    )
    _, encoder = transformer_of(work.run, config.collective, config.goals_hidden)
    unit = unit_of(training, config.collective)  # its critic says values as the teachers do
    sac = replace(config.collective.sac, **unit._asdict())
    save_collective(work.folder, last, sac, encoder)
    return {
        "tasks": list(config.tasks),
        "episodes": len(training) + sum(map(len, buffers[1])),
        "validation_loss": error,
        "errors": errors(last, held_out),
        "begun_from": config.learner or "random weights",
    }


def _begun(work: Work[DistillCollective], training: EpisodeTable) -> Collective:
    """The collective that the distillation begins from: the online learner, or fresh networks."""
    config = work.config
    if not config.learner:
        transformer, _ = transformer_of(work.run, config.collective, config.goals_hidden)
        return fresh_collective(
            training,
            config.collective,
            layout_of(config.tasks),
            transformer=transformer,
            goals_hidden=config.goals_hidden,
            seed=work.seed,
        )
    learner, networks, encoder = load_collective(work.run / config.learner)
    wanted = config.collective.conditioning
    if learner.conditioning.name != wanted or learner.goals_hidden != config.goals_hidden:
        raise UserError(
            f"the learner in {work.run / config.learner} is conditioned on {learner.conditioning.name}"
            f"{', goals hidden' if learner.goals_hidden else ''}: distil a collective of that kind, "
            "or pass --learner '' to begin from nothing"
        )
    made = _networks(encoder, networks, learner.probing, bool(learner.scales.points))
    if changed := sealed.differences(_asked_for(work), made):
        raise UserError(
            f"the learner in {work.run / config.learner} has other networks ({'; '.join(changed[:3])}): pass the "
            "same settings here, or --learner '' to begin from nothing"
        )
    return learner


def _asked_for(work: Work[DistillCollective]) -> dict[str, Any]:
    """The networks that the settings of the stage ask for, as JSON."""
    config = work.config.collective
    _, encoder = transformer_of(work.run, config, work.config.goals_hidden)
    has_points = bool(layout_of(work.config.tasks).points)
    return _networks(encoder, config.sac, config.probing, config.differences and has_points)


def _networks(*parts: Any) -> dict[str, Any]:
    names = ("encoder", "sac", "probing", "differences")
    return {name: sealed.to_jsonable(part) for name, part in zip(names, parts, strict=True)}


# -- a collective from elsewhere ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TakeCollective:
    """A collective from elsewhere: of another run, or one that comes with the package."""

    source: str
    identity: str  # a hash of its files


def take_collective_stage(source: str, out: str = COLLECTIVE) -> Stage[TakeCollective]:
    """`source`: a run's folder, a collective's, or a name such as mt10.

    Raises:
        UserError: there is none.
    """
    folder = _found(source)
    config = TakeCollective(source=str(source), identity=manifests.identity(folder))
    return Stage(kind="take-collective", subject=source, out=out, function=take_collective, config=config)


def _found(source: str) -> Path:
    folder = shipped(source) or Path(source)
    folder = folder / COLLECTIVE if sealed.is_sealed(folder / COLLECTIVE) else folder
    if not sealed.holds(folder, ABOUT):
        raise UserError(
            f"there is no collective at {source}: name one that comes with the package, such as mt10, "
            "or the folder of a run that has one ('collectiverl run --until collective' makes it)"
        )
    return folder


def take_collective(work: Work[TakeCollective]) -> dict[str, Any]:
    folder = _found(work.config.source)
    collective, *_ = load_collective(folder)
    for name in (WEIGHTS, ABOUT):
        shutil.copy(folder / name, work.folder / name)
    return summary_of(folder) | {"tasks": list(collective.tasks)}


# -- a control ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RandomCollective:
    """A collective whose actor and critics are fresh networks, behind the trained encoder: it knows nothing."""


def random_collective_stage(collective: str, seed: int) -> Stage[RandomCollective]:
    """`collective`: the folder in the run of the collective whose networks are drawn anew, for each seed others."""
    return Stage(
        kind="random-collective",
        subject=collective,
        out=f"{collective}-random-{seed}",
        function=random_collective,
        config=RandomCollective(),
        inputs={collective: ""},
        seed=seed,
    )


def random_collective(work: Work[RandomCollective]) -> dict[str, Any]:
    [folder] = work.inputs
    collective, networks, encoder = load_collective(work.run / folder)
    sizes = collective.agent.normalizer.feature_dim, collective.agent.actor.action_dim
    fresh = init_agent(*sizes, networks, seeded_key(work.seed))
    agent = replace(fresh, normalizer=collective.agent.normalizer)
    save_collective(work.folder, replace(collective, agent=agent), networks, encoder)
    return {"tasks": list(collective.tasks)}
