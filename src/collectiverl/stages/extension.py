"""`extend-collective`: one more task for the collective, judged on all tasks before and after."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from collectiverl.collective.extension import ExtensionConfig, Learning, Memory, extend, forgetting
from collectiverl.collective.online import OnlineConfig
from collectiverl.collective.playing import play_judged, success_by_task
from collectiverl.collective.policy import Collective, CollectivePolicy, load_collective, save_collective
from collectiverl.collective.train import CollectiveConfig
from collectiverl.data.episodes import write
from collectiverl.envs.make import Backend, make_envs, spec
from collectiverl.representation.encoder import save_encoder
from collectiverl.representation.train import TransformerConfig
from collectiverl.stages.base import Stage, Work, summary
from collectiverl.stages.buffers import BUFFER, open_buffers, split_path
from collectiverl.stages.collective import COLLECTIVE
from collectiverl.stages.experts import model_path
from collectiverl.stages.online import TeacherKind, teachers
from collectiverl.types import Policy


@dataclass(frozen=True, kw_only=True)
class ExtendCollective:
    """The collective of `base`, and one more task."""

    task: str
    known: tuple[str, ...]  # tasks of the base, in the order in which they were learned
    base: str  # the run's folder that holds it: the first collective, or an extension
    teacher: TeacherKind = "sac"
    backend: Backend = "auto"
    fraction: float = 0.2  # of each round's episodes, held out; as in the split of what comes out
    online: OnlineConfig = field(default_factory=OnlineConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    collective: CollectiveConfig = field(default_factory=CollectiveConfig)
    extension: ExtensionConfig = field(default_factory=ExtensionConfig)

    def __post_init__(self) -> None:
        if self.collective.conditioning == "task_id":
            raise ValueError(
                "a collective conditioned on task_id has an input for each task and cannot take one more: "
                "distil it with --conditioning cls, last_state, cluster or zeros"
            )
        _ = self.learning  # which says what does not fit

    @property
    def learning(self) -> Learning:
        return Learning.of(self.extension, self.online, self.transformer, self.collective)

    @property
    def tasks(self) -> tuple[str, ...]:
        return (*self.known, self.task)


def extension_path(task: str, count: int, seed: int) -> str:
    """`count` tasks are known in the end."""
    return f"extended/{count}_{task}/seed_{seed}"


def extend_collective_stage(config: ExtendCollective, seed: int) -> Stage:
    makes = {split_path("online_buffer", t, seed): f"split-online-buffer {t}" for t in config.known}
    makes |= {split_path("buffer_distill", t, seed): f"split-buffer {t}" for t in config.tasks}
    if config.teacher == "sac":
        makes |= {model_path(config.task, seed): f"train-task {config.task}"}
    return Stage(
        "extend-collective",
        config.task,
        extension_path(config.task, len(config.tasks), seed),
        extend_collective,
        config,
        (config.base, *makes),
        seed,
        makes | {config.base: "distill-collective" if config.base == COLLECTIVE else "extend-collective"},
    )


def extend_collective(work: Work) -> dict[str, Any]:
    config: ExtendCollective = work.config
    base, sac, encoder_config = load_collective(work.run / config.base)
    before = _before(work, base)
    extended = extend(
        base,
        teachers(work.run, (config.task,), config.teacher, work.seed),
        Memory(
            left=open_buffers(work.run, "buffer_distill", config.tasks, work.seed),
            met=open_buffers(work.run, "online_buffer", config.known, work.seed),
        ),
        config.learning,
        partial(make_envs, backend=config.backend, goals="fresh", horizon=config.online.horizon),
        spec(config.task),
        seed=work.seed,
        held_out=config.fraction,
        work=work.folder,
        report=work.report,
    )
    save_collective(work.folder, extended.collective, sac, encoder_config)
    if extended.collective.encoder is not None and encoder_config is not None:
        save_encoder(work.folder, extended.collective.encoder, encoder_config)
    write(work.folder / config.task / BUFFER, extended.collected)
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


def _before(work: Work, base: Collective) -> dict[str, float]:
    """Success of the base on what it knows: an extension has been judged already."""
    config: ExtendCollective = work.config
    if config.base == COLLECTIVE:
        return _judged(work, base, config.known)
    return summary(work.run / config.base)["after"]


def _judged(work: Work, collective: Collective, tasks: Sequence[str]) -> dict[str, float]:
    """Success by task: deterministic, the whole time limit, goals that no training had."""
    config: ExtendCollective = work.config
    episodes = config.extension.episodes
    work.report(0, 1, f"playing {len(tasks)} tasks, {episodes} episodes each")

    def policy(of_envs: Sequence[str], seed: int) -> Policy:
        return CollectivePolicy(collective, of_envs)

    make = partial(make_envs, backend=config.backend, goals="fresh")
    played = play_judged(make, tasks, episodes, config.online.num_envs, policy, seed=work.seed)
    return success_by_task(played, tasks)
