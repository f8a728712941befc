"""`extend-collective`: one more task for the collective, evaluated on all tasks before and after."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from collectiverl.artifacts import paths
from collectiverl.artifacts.paths import COLLECTIVE, EPISODES, ONLINE_BUFFER
from collectiverl.artifacts.validation import fraction
from collectiverl.collective.extension import ExtensionConfig, Learning, extend, forgetting
from collectiverl.collective.playing import play_judged, success_by_task
from collectiverl.collective.policy import (
    Collective,
    CollectivePolicy,
    check_shapes,
    load_collective,
    save_collective,
)
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.data.episodes import write
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.stages.base import Stage, Work, summary
from collectiverl.stages.buffers import buffer_inputs, open_buffers
from collectiverl.stages.teachers import seeing, teacher_inputs, teachers
from collectiverl.types import ConfigError, Policy, TeachingPolicy


@dataclass(frozen=True, kw_only=True)
class ExtendCollective:
    """The collective of `base`, and one more task."""

    task: str
    known: tuple[str, ...]  # tasks of the base, in the order in which they were learned
    base: str  # folder in the run that holds the base: the first collective, or an extension
    teacher: str = "sac"
    backend: Backend = "auto"
    fraction: float  # share of each round's episodes that is held out for validation
    online: OnlineConfig = field(default_factory=OnlineConfig)
    collective: CollectiveConfig = field(default_factory=CollectiveConfig)
    extension: ExtensionConfig = field(default_factory=ExtensionConfig)

    def __post_init__(self) -> None:
        fraction(self, "fraction")
        if self.collective.conditioning == "task_id":
            raise ConfigError(
                "collective.conditioning",
                "a collective conditioned on task_id has an input for each task and cannot take one more: "
                "distil it with another --conditioning",
            )
        _ = self.learning  # raises if the settings do not fit

    @property
    def learning(self) -> Learning:
        return Learning.of(self.extension, self.online, self.collective)

    @property
    def tasks(self) -> tuple[str, ...]:
        return (*self.known, self.task)


def extend_collective_stage(config: ExtendCollective, seed: int) -> Stage[ExtendCollective]:
    inputs = {config.base: "distill-collective" if config.base == COLLECTIVE else "extend-collective"}
    inputs |= buffer_inputs(ONLINE_BUFFER, config.known, seed)
    inputs |= teacher_inputs(config.teacher, (config.task,), seed)
    return Stage(
        kind="extend-collective",
        subject=config.task,
        out=paths.extension(config.task, len(config.tasks), seed),
        function=extend_collective,
        config=config,
        inputs=inputs,
        seed=seed,
    )


def extend_collective(work: Work[ExtendCollective]) -> dict[str, Any]:
    config = work.config
    base, sac, encoder_config = load_collective(work.run / config.base)
    check_shapes(base, spec(config.task))
    before = _before(work, base)
    extended = extend(
        base,
        seeing({config.task: _teacher(work)}, base.spec),
        open_buffers(work.run, ONLINE_BUFFER, config.known, work.seed, base.spec),
        config.learning,
        partial(
            make_envs, backend=config.backend, goals="fresh", horizon=config.online.horizon, layout=base.spec
        ),
        base.spec,
        seed=work.seed,
        held_out=config.fraction,
        work=work.folder,
        report=work.report,
    )
    save_collective(work.folder, extended.collective, replace(sac, **extended.unit._asdict()), encoder_config)
    write(work.folder / config.task / EPISODES, extended.collected)
    after = _judged(work, extended.collective, config.tasks)
    lost = forgetting(before, after)
    return {
        "task": config.task,
        "tasks": list(config.tasks),
        "success": after[config.task],
        "before": before,
        "after": after,
        "forgetting": sum(lost.values()) / len(lost),
        "worst": max(lost, key=lost.__getitem__),
        "worst_forgetting": max(lost.values()),
        "episodes": len(extended.collected),
        "env_steps": sum(map(len, extended.collected)),
        "validation_loss": extended.validation_loss,
    }


def _teacher(work: Work[ExtendCollective]) -> TeachingPolicy:
    """The new task's; where it looks like a task that is known, scripts agree on one that labels both."""
    config = work.config
    among = config.tasks if config.teacher == "scripted" else (config.task,)
    return teachers(work.run, among, config.teacher, work.seed)[config.task]


def _before(work: Work[ExtendCollective], base: Collective) -> dict[str, float]:
    """Success of the base on its tasks; an extension was evaluated when it was made."""
    config = work.config
    if config.base == COLLECTIVE:
        return _judged(work, base, config.known)
    return summary(work.run / config.base)["after"]


def _judged(work: Work[ExtendCollective], collective: Collective, tasks: Sequence[str]) -> dict[str, float]:
    """Success by task: deterministic actions, the whole time limit, fresh goals."""
    config = work.config
    episodes = config.extension.episodes
    work.report(0, 1, f"playing {len(tasks)} tasks, {episodes} episodes each")

    def policy(of_envs: Sequence[str], seed: int) -> Policy:
        return CollectivePolicy(collective, of_envs)

    make = partial(make_envs, backend=config.backend, goals="fresh", layout=collective.spec)
    played = play_judged(make, tasks, episodes, config.online.num_envs, policy, seed=work.seed)
    return success_by_task(played, tasks)
