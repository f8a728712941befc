"""A run: which stages there are, what each reads and writes, and the summary at the end."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from collectiverl.artifacts import sealed
from collectiverl.collective.online import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.envs.make import Backend
from collectiverl.envs.scripted import has_script
from collectiverl.envs.tasks import resolve
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.sac.settings import TrainConfig
from collectiverl.stages.base import Stage, is_done
from collectiverl.stages.buffers import split_buffer_stage, split_online_buffer_stage
from collectiverl.stages.collective import COLLECTIVE, DistillCollective, distill_collective_stage
from collectiverl.stages.evaluation import Evaluate, evaluate_stage
from collectiverl.stages.experts import (
    Record,
    TakeShipped,
    TrainTask,
    TrainTogether,
    demo_count,
    model_path,
    record_path,
    record_stage,
    take_expert_stage,
    take_shipped_stage,
    train_task_stage,
    train_together_stage,
)
from collectiverl.stages.online import OnlineDistill, TeacherKind, online_distill_stage, online_path
from collectiverl.stages.representation import (
    TRANSFORMER,
    Probe,
    TrainTransformer,
    probe_stage,
    train_transformer_stage,
)
from collectiverl.stages.students import TrainStudent, train_student_stage
from collectiverl.student.strategies import StrategyConfig
from collectiverl.types import UserError

CONFIG = "config.yaml"
Until = Literal["experts", "collective", "end"]
Experts = Literal["trained", "shipped", "scripted"]
MET = "online_buffer"  # whose held-out episodes the encoder is judged on
KINDS = ("scripted", "expert", "collective", "student", "sac")  # of policies, in the order of tables
GRADES = 24  # environments, and so grades of skill, in which an expert that is not trained here is recorded


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole pipeline, from experts to students."""

    tasks: tuple[str, ...] = ("reach", "drawer-close", "window-close")  # names or benchmarks such as MT10
    seed: int = 0
    backend: Backend = "auto"  # of the simulators that training uses; evaluation always runs on Meta-World
    experts: Experts = "trained"  # here; or shipped with the package; or Meta-World's scripted policies
    student_tasks: tuple[str, ...] = ("window-close",)
    validation_fraction: float = 0.2  # of the episodes of each buffer
    mixed_skill: int = 48  # episodes, clumsy to skilled, of an expert that is not trained here
    demos: str = "scripted:20"  # what the experts of `demo_tasks` begin with
    demo_tasks: tuple[str, ...] = ()  # those that cost too much from scratch
    vectorize: bool = False  # experts that begin alike in one program, for a GPU; else each in its own
    expert: TrainConfig = field(default_factory=TrainConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    collective: CollectiveConfig = field(default_factory=CollectiveConfig)
    student: TrainConfig = field(default_factory=TrainConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("--tasks is empty: name at least one task, or a benchmark such as MT10")
        demo_count(self.demos)
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"--validation-fraction={self.validation_fraction} is not between 0 and 1")
        if self.mixed_skill < 2 or self.seed < 0:
            raise ValueError(
                f"--mixed-skill={self.mixed_skill} must be at least 2, --seed={self.seed} at least 0"
            )

    @property
    def teacher(self) -> TeacherKind:
        """Who labels for the collective."""
        return "scripted" if self.experts == "scripted" else "sac"

    @property
    def encoder(self) -> str:
        """The folder of the encoder that the collective is conditioned on."""
        refreshed = self.online.reads and self.online.refresh
        return online_path(self.tasks, self.seed) if refreshed else TRANSFORMER

    def mixed_skill_of(self, task: str) -> Record:
        """What is recorded of an expert that is not trained here, in place of what it left while it learned."""
        return Record(
            task=task,
            policy="mixed-skill",
            episodes=self.mixed_skill,
            num_envs=min(GRADES, self.mixed_skill),
            horizon=self.expert.horizon,
            backend=self.backend,
        )

    def demos_of(self, task: str) -> str:
        """What the expert of `task`, by its one name, begins with."""
        return self.demos if task in self.demo_tasks else ""

    def resolved(self) -> "RunConfig":
        """With every task by its one name, benchmarks expanded."""
        return replace(
            self,
            tasks=resolve(self.tasks),
            student_tasks=resolve(self.student_tasks),
            demo_tasks=resolve(self.demo_tasks) if self.demo_tasks else (),
        )


def stages(config: RunConfig, until: Until = "end") -> list[Stage]:
    """The stages of a run, those that others wait for longest first; all of them, or as far as asked for."""
    if until == "experts":
        return [*experts(config), *_evaluations(config, "expert")]
    if until == "collective":
        return [*_collective(config), *_evaluations(config, "collective")]
    return [
        *_collective(config),
        *_students(config),
        *_evaluations(config, *reversed(KINDS)),
    ]


def _collective(config: RunConfig) -> list[Stage]:
    """All that the collective is made from, and the judgement of its encoder."""
    c, seed = config, config.seed
    buffers = [split_buffer(c, task, seed) for task in c.tasks]
    transformer = train_transformer_stage(TrainTransformer(tasks=c.tasks, transformer=c.transformer), seed)
    online = online_distill_stage(online_distill(c), seed)
    splits = [split_online_buffer(c, task, c.tasks, seed) for task in c.tasks]
    collective = distill_collective_stage(
        DistillCollective(tasks=c.tasks, encoder=c.encoder, collective=c.collective), seed
    )
    return [
        *experts(c),
        *buffers,
        transformer,
        online,
        *splits,
        collective,
        probe_stage(run_probe(c), seed),
    ]


def run_probe(c: RunConfig) -> Probe:
    """The encoder that the collective is conditioned on, judged on what a learner meets."""
    return Probe(tasks=c.tasks, encoder=c.encoder, buffer=MET)


def split_buffer(c: RunConfig, task: str, seed: int) -> Stage:
    """Of what the task's expert left while it learned, or of what was recorded in its place."""
    source, command = model_path(task, seed), f"train-task {task}"
    if c.experts == "scripted":
        source, command = record_path(c.mixed_skill_of(task), seed), f"record {task} --policy mixed-skill"
    return split_buffer_stage(task, source, command, c.validation_fraction, seed)


def split_online_buffer(c: RunConfig, task: str, tasks: tuple[str, ...], seed: int) -> Stage:
    """`tasks` are all that were distilled together."""
    source, command = online_path(tasks, seed), f"online-distill {' '.join(tasks)}"
    return split_online_buffer_stage(task, source, command, c.validation_fraction, seed)


def online_distill(c: RunConfig) -> OnlineDistill:
    return OnlineDistill(
        tasks=c.tasks,
        teacher=c.teacher,
        backend=c.backend,
        fraction=c.validation_fraction,
        online=c.online,
        transformer=c.transformer if c.online.reads else None,
    )


def experts(c: RunConfig) -> list[Stage]:
    """Those that begin with demonstrations first, which are the hard ones."""
    if c.experts == "scripted":
        return [record_stage(c.mixed_skill_of(task), c.seed) for task in c.tasks]
    if c.experts == "shipped":
        taken = [TakeShipped(task=task, record=c.mixed_skill_of(task)) for task in c.tasks]
        return [take_shipped_stage(expert, c.seed) for expert in taken]
    begin = {task: c.demos_of(task) for task in c.tasks}
    tasks = sorted(c.tasks, key=lambda task: task not in c.demo_tasks)
    experts = [TrainTask(task=t, backend=c.backend, demos=begin[t], train=c.expert) for t in tasks]
    if not c.vectorize:
        return [train_task_stage(expert, c.seed) for expert in experts]
    found = []
    for demos in sorted(set(begin.values())):
        alike = tuple(expert for expert in experts if expert.demos == demos)
        if len(alike) == 1:
            found.append(train_task_stage(alike[0], c.seed))
            continue
        together = train_together_stage(
            TrainTogether(experts=alike),
            c.seed,
            f"together/{demos.replace(':', '_') or 'scratch'}/seed_{c.seed}",
        )
        found += [together, *(take_expert_stage(expert, together.out, c.seed) for expert in alike)]
    return found


def _students(c: RunConfig) -> list[Stage]:
    """Each student, and plain SAC with the same settings and seed beside it."""
    found = []
    for task in c.student_tasks:
        helped = TrainStudent(task=task, backend=c.backend, train=c.student, strategy=c.strategy.active)
        plain = replace(helped, strategy=None)
        found += [train_student_stage(config, c.seed + 1) for config in (helped, plain)]
    return found


def _evaluations(c: RunConfig, *kinds: str) -> list[Stage]:
    """Of these kinds of policies, in this order."""
    wanted = [Evaluate(kind="scripted", policy=f"scripted:{t}", task=t) for t in c.tasks if has_script(t)]
    if c.experts != "scripted":
        wanted += [Evaluate(kind="expert", policy=model_path(t, c.seed), task=t) for t in c.tasks]
    wanted += [Evaluate(kind="collective", policy=COLLECTIVE, task=t) for t in c.tasks]
    wanted += [
        Evaluate(kind="student" if "student/" in stage.out else "sac", policy=stage.out, task=stage.subject)
        for stage in _students(c)
    ]
    chosen = sorted((w for w in wanted if w.kind in kinds), key=lambda w: kinds.index(w.kind))
    return [evaluate_stage(replace(w, evaluate=c.evaluate), c.seed) for w in chosen]


# -- the run's folder --------------------------------------------------------------------------------------


def claim(run: Path, config: RunConfig, *, overwrite: bool = False) -> None:
    """Makes `run` the folder of this configuration, or says what differs from the one it belongs to."""
    import yaml  # type: ignore[import-untyped]

    sealed.make_writable(run)
    path, record = run / CONFIG, sealed.to_jsonable(config)
    if path.is_file() and not overwrite:
        changed = sealed.differences(record, yaml.safe_load(path.read_text()))
        if changed:
            raise UserError(
                f"{run} belongs to another configuration ({'; '.join(changed[:3])}): "
                "choose another folder with --run, or pass --overwrite"
            )
    sealed.write_atomically(path, yaml.safe_dump(record, sort_keys=False).encode())


def unfinished(run: Path, every: list[Stage], *, overwrite: bool = False) -> list[Stage]:
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
