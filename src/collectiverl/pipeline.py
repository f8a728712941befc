"""A run: which stages there are, what each reads and writes, and the summary at the end."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from collectiverl import checkpoints, store
from collectiverl.collective.online import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.envs.make import Backend
from collectiverl.envs.tasks import resolve
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.sac.settings import TrainConfig
from collectiverl.stages.base import SUMMARY, Stage, is_done, summary
from collectiverl.stages.buffers import (
    OnlineDistill,
    TeacherKind,
    online_distill_stage,
    online_path,
    split_buffer_stage,
    split_online_buffer_stage,
)
from collectiverl.stages.collective import COLLECTIVE, DistillCollective, distill_collective_stage
from collectiverl.stages.evaluation import Evaluate, evaluate_stage
from collectiverl.stages.experts import (
    TrainTask,
    TrainTogether,
    demo_count,
    model_path,
    steps_to,
    take_expert_stage,
    train_task_stage,
    train_together_stage,
)
from collectiverl.stages.representation import (
    PROBE,
    Probe,
    TrainTransformer,
    probe_stage,
    train_transformer_stage,
)
from collectiverl.stages.students import TrainStudent, train_student_stage
from collectiverl.student.shaping import ShapingConfig
from collectiverl.types import UserError

CONFIG = "config.yaml"
EXPERTS = "experts.json"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole pipeline, from experts to students."""

    tasks: tuple[str, ...] = ("reach", "drawer-close", "window-close")  # names or benchmarks such as MT10
    seed: int = 0
    backend: Backend = "auto"  # of the simulators that training uses; evaluation always runs on Meta-World
    teacher: TeacherKind = "sac"  # who labels for the collective
    student_tasks: tuple[str, ...] = ("window-close",)
    validation_fraction: float = 0.2  # of the episodes of each buffer
    online_envs: int = 16  # a task, in online distillation
    demos: str = "scripted:20"  # what the experts of `demo_tasks` begin with
    demo_tasks: tuple[str, ...] = ()  # those that cost too much from scratch
    vectorize: bool = False  # experts that begin alike in one program, for a GPU; else each in its own
    expert: TrainConfig = field(default_factory=TrainConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    collective: CollectiveConfig = field(default_factory=CollectiveConfig)
    student: TrainConfig = field(default_factory=TrainConfig)
    shaping: ShapingConfig = field(default_factory=ShapingConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("--tasks is empty: name at least one task, or a benchmark such as MT10")
        demo_count(self.demos)
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"--validation-fraction={self.validation_fraction} is not between 0 and 1")
        if self.online_envs < 1 or self.seed < 0:
            raise ValueError(
                f"--online-envs={self.online_envs} must be at least 1, --seed={self.seed} at least 0"
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


def stages(config: RunConfig) -> list[Stage]:
    """All stages of a run, those that others wait for longest first."""
    c, seed = config, config.seed
    buffers = [split_buffer_stage(t, c.validation_fraction, seed) for t in c.tasks]
    transformer = train_transformer_stage(TrainTransformer(tasks=c.tasks, transformer=c.transformer), seed)
    online = [
        online_distill_stage(
            OnlineDistill(
                tasks=(t,), teacher=c.teacher, backend=c.backend, num_envs=c.online_envs, online=c.online
            ),
            seed,
        )
        for t in c.tasks
    ]
    splits = [split_online_buffer_stage(t, (t,), c.validation_fraction, seed) for t in c.tasks]
    collective = distill_collective_stage(DistillCollective(tasks=c.tasks, collective=c.collective), seed)
    return [
        *_experts(c),
        *buffers,
        transformer,
        *online,
        *splits,
        collective,
        *_students(c),
        probe_stage(Probe(tasks=c.tasks), seed),
        *_evaluations(c),
    ]


def expert_stages(config: RunConfig) -> list[Stage]:
    """The experts alone, and their evaluations."""
    return [*_experts(config), *(e for e in _evaluations(config) if e.out.startswith("evaluation/expert/"))]


def _experts(c: RunConfig) -> list[Stage]:
    """Those that begin with demonstrations first, which are the hard ones."""
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
        shaped = TrainStudent(task=task, backend=c.backend, train=c.student, shaping=c.shaping)
        plain = replace(shaped, shaping=replace(c.shaping, weight=0.0))
        found += [train_student_stage(config, c.seed + 1) for config in (shaped, plain)]
    return found


def _evaluations(c: RunConfig) -> list[Stage]:
    wanted = [Evaluate(kind="scripted", policy=f"scripted:{t}", task=t) for t in c.tasks]
    wanted += [Evaluate(kind="expert", policy=model_path(t, c.seed), task=t) for t in c.tasks]
    wanted += [Evaluate(kind="collective", policy=COLLECTIVE, task=t) for t in c.tasks]
    wanted += [
        Evaluate(kind="student" if "student/" in stage.out else "sac", policy=stage.out, task=stage.subject)
        for stage in _students(c)
    ]
    return [evaluate_stage(replace(w, evaluate=c.evaluate), c.seed) for w in wanted]


# -- the run's folder --------------------------------------------------------------------------------------


def claim(run: Path, config: RunConfig, *, overwrite: bool = False) -> None:
    """Makes `run` the folder of this configuration, or says what differs from the one it belongs to."""
    import yaml  # type: ignore[import-untyped]

    store.make_writable(run)
    path, record = run / CONFIG, store.plain(config)
    if path.is_file() and not overwrite:
        changed = store.differences(record, yaml.safe_load(path.read_text()))
        if changed:
            raise UserError(
                f"{run} belongs to another configuration ({'; '.join(changed[:3])}): "
                "choose another folder with --run, or pass --overwrite"
            )
    store.write_atomically(path, yaml.safe_dump(record, sort_keys=False).encode())


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


def summarize(run: Path, config: RunConfig) -> dict[str, Any]:
    """Every policy's row, from the sealed evaluations, written as `summary.json`; the experts' also alone."""
    summarize_experts(run, config)
    every = stages(config)
    online = [summary(run / online_path((task,), config.seed)) for task in config.tasks]
    experts = [summary(run / model_path(task, config.seed)) for task in config.tasks]
    rows = [summary(run / stage.out) for stage in every if stage.name == "evaluate"]
    for row in rows:
        if row["policy"] == "collective":  # what it took to make: its teachers' steps and its own data's
            row["env_steps"] = sum(s["env_steps"] for s in (*experts, *online))
            row["seconds"] = _seconds(run, every)
    probe = summary(run / PROBE)
    del probe["confusion"]  # thousands of numbers, of which the stage's own summary is the place
    result = {
        "tasks": list(config.tasks),
        "seed": config.seed,
        "policies": rows,
        "probe": probe,
        "solved_at": {
            f"{s.subject} ({s.out.split('/')[0]})": summary(run / s.out)["solved_at"]
            for s in _students(config)
        },
        "stage_seconds": {s.out: store.manifest(run / s.out)["seconds"] for s in every},
        "versions": store.versions(),
    }
    checkpoints.write_json(run / SUMMARY, result)
    return result


def summarize_experts(run: Path, config: RunConfig) -> dict[str, Any]:
    """The experts' rows and what they cost, written as `experts.json`."""
    every = expert_stages(config)
    trained = [summary(run / model_path(task, config.seed)) for task in config.tasks]
    result = {
        "tasks": list(config.tasks),
        "seed": config.seed,
        "policies": [summary(run / stage.out) for stage in every if stage.name == "evaluate"],
        "env_steps": sum(expert["env_steps"] for expert in trained),
        "core_seconds": round(sum(expert["seconds"] for expert in trained), 1),
        "steps_to_0.9": {task: steps_to(run / model_path(task, config.seed), 0.9) for task in config.tasks},
        "versions": store.versions(),
    }
    checkpoints.write_json(run / EXPERTS, result)
    return result


def _seconds(run: Path, every: list[Stage]) -> float:
    """Seconds of all stages that the collective is made from, as if done one after the other."""
    names = ("train-together", "train-task", "online-distill", "train-transformer", "distill-collective")
    return round(sum(store.manifest(run / s.out)["seconds"] for s in every if s.name in names), 1)
