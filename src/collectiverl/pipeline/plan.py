"""The stages of a run, each with what it reads and writes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from collectiverl.artifacts import paths
from collectiverl.artifacts.paths import COLLECTIVE, ONLINE_BUFFER
from collectiverl.artifacts.validation import renamed
from collectiverl.envs.scripted import has_script
from collectiverl.envs.tasks import resolve
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages import taking
from collectiverl.stages.ablation import Ablation, ablation_stage
from collectiverl.stages.base import Stage, is_done
from collectiverl.stages.buffers import Split, split_buffer_stage, split_online_buffer_stage
from collectiverl.stages.collective import DistillCollective, distill_collective_stage
from collectiverl.stages.cross_play import CrossPlay, cross_play_stage
from collectiverl.stages.evaluation import KINDS, Evaluate, PolicyKind, evaluate_stage
from collectiverl.stages.experts import TrainTask, train_task_stage
from collectiverl.stages.films import film_stages
from collectiverl.stages.online import OnlineDistill, online_distill_stage, online_path
from collectiverl.stages.recording import record_stage
from collectiverl.stages.representation import (
    Probe,
    TrainTransformer,
    probe_stage,
    train_transformer_stage,
)
from collectiverl.stages.students import TrainStudent, train_student_stage
from collectiverl.stages.summary import summary_of_experts, summary_of_run
from collectiverl.stages.teachers import is_called, is_taken, source_of
from collectiverl.stages.together import TrainTogether, take_expert_stage, train_together_stage
from collectiverl.types import ConfigError, UserError

Until = Literal["experts", "collective", "end"]


def stages(config: RunConfig, until: Until = "end") -> list[Stage]:
    """The stages of a run, up to this point, and its summary. Those that others wait for longest come first.

    Raises:
        ConfigError: there is nothing to be done up to this point.
        UserError: the students' tasks are of another suite than the collective's.
    """
    learned = config.has_experts
    trained = tuple(paths.expert(task, config.seed) for task in config.expert_tasks)
    if until == "experts":
        if not learned:
            raise ConfigError(
                "until",
                f"{config.teacher} experts are neither trained nor copied, so no experts can be summarized",
            )
        every = [*experts(config), *_evaluations(config, ["expert"])]
        last = summary_of_experts(config.expert_tasks, trained, every, config.seed)
        return [*every, *film_stages(every, "expert", config.seed), last]
    if until == "collective":
        kinds: list[PolicyKind] = ["collective", "told-nothing", _teacher(config)]
        every = [*_collective(config), *_evaluations(config, kinds)]
    else:
        resolve((*config.tasks, *config.student_tasks))
        every = [*_collective(config), *_students(config), *_evaluations(config, KINDS[::-1])]
    films = film_stages(every, "collective", config.seed)
    found = [*every, *films, summary_of_run(until, config.tasks, every, config.seed)]
    if until == "end" and learned:
        found.append(summary_of_experts(config.expert_tasks, trained, every, config.seed))
    return found


def _collective(c: RunConfig) -> list[Stage]:
    """All that the collective is made from, itself, and the probe of its encoder, if it has one."""
    seed = c.seed
    collective = distill_collective_stage(distill_collective(c), seed)
    return [
        *experts(c),
        *([cross_play_stage(cross_play(c), seed)] if c.agreed else []),
        *(trajectory_transformer(c) if c.reads else ()),
        online_distill_stage(online_distill(c), seed),
        *([told_nothing_stage(c)] if c.told_nothing else []),
        *(split_online_buffer(c, task, c.tasks, seed) for task in c.tasks),
        collective,
        *([probe_stage(probe(c), seed)] if c.reads or c.collective.learns else []),
    ]


def trajectory_transformer(c: RunConfig) -> list[Stage]:
    """The experts' samples, and the encoder that is trained on them, self-supervised."""
    recorded = () if c.trains_experts else (record_stage(c.mixed_skill_of(task), c.seed) for task in c.tasks)
    return [
        *recorded,
        *(split_buffer(c, task, c.seed) for task in c.tasks),
        train_transformer_stage(train_transformer(c), c.seed),
    ]


def cross_play(c: RunConfig) -> CrossPlay:
    """The settings of the run's cross-play, in episodes as long as those of its online distillation."""
    return CrossPlay(
        tasks=c.tasks,
        teacher=c.teacher,
        horizon=c.online.horizon,
        goals_hidden=c.goals_hidden,
        backend=c.backend,
    )


def train_transformer(c: RunConfig) -> TrainTransformer:
    """The settings of the run's trajectory transformer, which sees what the collective sees."""
    return TrainTransformer(tasks=c.tasks, goals_hidden=c.goals_hidden, transformer=c.transformer)


def distill_collective(c: RunConfig) -> DistillCollective:
    """The settings of the run's collective, which goes on from the learner of its online distillation."""
    return DistillCollective(
        tasks=c.tasks,
        learner=online_path(c.tasks, c.seed),
        goals_hidden=c.goals_hidden,
        collective=c.collective,
    )


def ablation(c: RunConfig, group: str, variant: str, **changes: Any) -> Ablation:
    """The settings of a row of the ablation, which differs from the run in `changes`."""
    settings: dict[str, Any] = {
        "tasks": c.tasks,
        "training_seed": c.seed,
        "teacher": c.teacher,
        "backend": c.backend,
    }
    settings |= {
        "goals_hidden": c.goals_hidden,
        "agreed": c.agreed,
        "online": c.online,
        "collective": c.collective,
        "fraction": c.validation_fraction,
    }
    return Ablation(group=group, variant=variant, **(settings | changes))


def told_nothing_stage(c: RunConfig) -> Stage[Ablation]:
    """Made as the row `zeros` of the ablation: as many episodes and updates as the collective, all of its own."""
    config = ablation(c, "conditioning", "zeros", collective=replace(c.collective, conditioning="zeros"))
    subject = online_distill_stage(online_distill(c), c.seed).subject
    return replace(
        ablation_stage(config, c.seed), kind="told-nothing", subject=subject, out=paths.told_nothing(c.seed)
    )


def probe(c: RunConfig) -> Probe:
    """The collective's encoder, judged on the episodes that a learner met."""
    return Probe(tasks=c.tasks, encoder=COLLECTIVE, buffer=ONLINE_BUFFER)


def split_buffer(c: RunConfig, task: str, seed: int) -> Stage[Split]:
    """Splits the episodes that the task's expert left while it learned, or what was recorded in their place."""
    source, command = paths.expert(task, seed), f"train-task {task}"
    if not c.trains_experts:
        record = record_stage(c.mixed_skill_of(task), seed)
        source, command = record.out, f"record {task} --policy mixed-skill --teacher {c.teacher}"
    return split_buffer_stage(task, source, command, c.validation_fraction, seed)


def split_online_buffer(c: RunConfig, task: str, tasks: tuple[str, ...], seed: int) -> Stage[Split]:
    """`tasks` are all that were distilled together."""
    source, command = online_path(tasks, seed), f"online-distill {' '.join(tasks)}"
    return split_online_buffer_stage(task, source, command, c.validation_fraction, seed)


def online_distill(c: RunConfig) -> OnlineDistill:
    """The settings of the run's online distillation."""
    return OnlineDistill(
        tasks=c.tasks,
        teacher=c.teacher,
        backend=c.backend,
        fraction=c.validation_fraction,
        goals_hidden=c.goals_hidden,
        agreed=c.agreed,
        online=c.online,
        collective=c.collective,
    )


def experts(c: RunConfig) -> list[Stage]:
    """The experts; those that begin with demonstrations come first, since they take longest."""
    if not c.has_experts:
        return []
    if is_taken(c.teacher):
        return [taking.take_expert_stage(c.teacher, task, c.seed) for task in c.expert_tasks]
    begin = {task: c.demos_of(task) for task in c.tasks}
    tasks = sorted(c.tasks, key=lambda task: task not in c.demo_tasks)
    with renamed(also="shared", train="expert"):
        experts = [
            TrainTask(task=t, backend=c.backend, demos=begin[t], also=c.also_of(t), train=c.expert)
            for t in tasks
        ]
    if not c.vectorize:
        return [train_task_stage(expert, c.seed) for expert in experts]
    found = [train_task_stage(expert, c.seed) for expert in experts if expert.also]
    for demos in sorted(set(begin.values())):
        alike = tuple(expert for expert in experts if expert.demos == demos and not expert.also)
        if len(alike) < 2:
            found += [train_task_stage(expert, c.seed) for expert in alike]
            continue
        together = train_together_stage(TrainTogether(experts=alike), c.seed)
        found += [together, *(take_expert_stage(expert, together.out, c.seed) for expert in alike)]
    return found


def _students(c: RunConfig) -> list[Stage[TrainStudent]]:
    """Each student, and plain SAC with the same settings and seed beside it.

    Not with the expert's seed: plain SAC would then be the expert's training once more.
    """
    found = []
    for task in c.student_tasks:
        with renamed(train="student"):
            helped = TrainStudent(task=task, backend=c.backend, train=c.student, strategy=c.strategy.active)
        found += [
            train_student_stage(config, c.seed + 1) for config in (helped, replace(helped, strategy=None))
        ]
    return found


def _teacher(c: RunConfig) -> PolicyKind:
    """The kind of policies that the collective learns from."""
    return "expert" if c.has_experts or is_called(c.teacher) else "scripted"


def _evaluations(c: RunConfig, kinds: Sequence[PolicyKind]) -> list[Stage[Evaluate]]:
    """The evaluations of these kinds of policies, in this order."""
    wanted = [Evaluate(kind="scripted", policy=f"scripted:{t}", task=t) for t in c.tasks if has_script(t)]
    if _teacher(c) == "expert":
        mine = c.expert_tasks
        where = {t: paths.expert(t, c.seed) if t in mine else source_of(c.teacher, t) for t in c.tasks}
        wanted += [Evaluate(kind="expert", policy=where[t], task=t) for t in c.tasks]
    wanted += [Evaluate(kind="collective", policy=COLLECTIVE, task=t) for t in c.tasks]
    if c.told_nothing:
        untold = told_nothing_stage(c).out
        wanted += [Evaluate(kind="told-nothing", policy=untold, task=t) for t in c.tasks]
    wanted += [Evaluate(kind=s.config.kind, policy=s.out, task=s.config.task) for s in _students(c)]
    chosen = sorted((w for w in wanted if w.kind in kinds), key=lambda w: kinds.index(w.kind))

    def how(kind: PolicyKind) -> EvaluateConfig:
        # the others learned with goals that they see
        sees_as_trained = kind in ("collective", "told-nothing")
        hidden = c.goals_hidden if sees_as_trained else c.evaluate.goals_hidden
        return replace(c.evaluate, goals_hidden=hidden)

    return [evaluate_stage(replace(w, evaluate=how(w.kind)), c.seed) for w in chosen]


# -- what is left to do ------------------------------------------------------------------------------------


def unfinished(run: Path, every: Sequence[Stage], *, overwrite: bool = False) -> list[Stage]:
    """The stages still to do; with `overwrite` also those whose result does not fit.

    A stage whose inputs are to be made anew is to do as well.
    """
    todo: list[Stage] = []
    pending: set[str] = set()
    for stage in every:
        if any(name in pending for name in stage.inputs) or not _fits(run, stage, overwrite):
            todo.append(stage)
            pending.add(stage.out)
    return todo


def _fits(run: Path, stage: Stage, overwrite: bool) -> bool:
    try:
        return is_done(run, stage)
    except UserError:
        if overwrite:
            return False
        raise
