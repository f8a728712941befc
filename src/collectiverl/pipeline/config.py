"""The settings of a run, and its folder."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import yaml  # type: ignore[import-untyped]

from collectiverl.artifacts import configs, files, locks, sealed
from collectiverl.artifacts.files import write_atomically
from collectiverl.artifacts.paths import CONFIG
from collectiverl.artifacts.validation import MOST_EPISODES, at_least, at_most, fraction, seed
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.envs.make import Backend
from collectiverl.envs.registry import suite_of
from collectiverl.envs.tasks import resolve
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.sac.settings import ExpertConfig, TrainConfig, student_training
from collectiverl.stages.experts import demo_count
from collectiverl.stages.recording import Record
from collectiverl.stages.teachers import check_teacher, in_run
from collectiverl.student.strategies import StrategyConfig
from collectiverl.types import ConfigError, UserError

NOISE_LEVELS = 24  # environments, each with a share of random actions, in which other experts are recorded


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole pipeline, from experts to students."""

    renamed: ClassVar[dict[str, str]] = {
        "experts": "teacher (sac in place of trained; scripted and shipped as before)"
    }
    # names, benchmarks such as MT10, or your own as package.module:name
    tasks: tuple[str, ...] = ("reach", "drawer-close", "window-close")
    seed: int = 0  # of all random numbers
    backend: Backend = "auto"  # simulator of all training; auto: EnvPool where it agrees with the suite's own
    # who teaches: sac, scripted, shipped, shipped-or-scripted, package.module:function, or a path with {task}
    teacher: str = "sac"
    agreed: bool = False  # experts of tasks that begin alike play each other's, and one that can labels both
    goals_hidden: bool = False  # the collective does not see the goals, which its teachers do
    # beside the collective: one without an encoder, told neither task nor rewards, with episodes and updates of its own
    told_nothing: bool = False
    student_tasks: tuple[str, ...] = ("window-close",)  # one student for each
    validation_fraction: float = 0.2  # share of each buffer's episodes that is held out for validation
    mixed_skill: int = 48  # episodes recorded of an expert that is not trained here, from random to skilled
    demos: str = "scripted:20"  # demonstrations that the experts of `demo_tasks` begin with
    demo_tasks: tuple[str, ...] = ()  # tasks whose experts begin with demonstrations
    # tasks whose scripts would label those of others, as push-wall would push's, where these are taught too: their
    # experts learn them as well; None: no task
    shared: tuple[str, ...] | None = None
    vectorize: bool = False  # train the experts in one program, for a GPU
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    collective: CollectiveConfig = field(default_factory=CollectiveConfig)
    student: TrainConfig = field(default_factory=student_training)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("tasks", "is empty: name at least one task, or a benchmark such as MT10")
        demo_count(self.demos)
        check_teacher(self)
        if self.told_nothing and self.collective.conditioning == "zeros":
            raise ConfigError(
                "told_nothing", "makes a second one like the collective, which is told nothing itself"
            )
        fraction(self, "validation_fraction")
        at_least(self, 2, "mixed_skill")
        at_most(self, MOST_EPISODES, "mixed_skill")
        seed(self)

    @property
    def has_experts(self) -> bool:
        """Whether experts lie in the run, trained or copied; others are asked for when they are needed."""
        return bool(self.expert_tasks)

    @property
    def expert_tasks(self) -> tuple[str, ...]:
        """The tasks whose experts lie in the run."""
        return tuple(task for task in self.tasks if in_run(self.teacher, task))

    @property
    def trains_experts(self) -> bool:
        """Whether the experts are trained in the run, and leave episodes of their training."""
        return self.teacher == "sac"

    @property
    def reads(self) -> bool:
        """Whether the collective needs the trajectory transformer, and with it the experts' samples."""
        return self.collective.reads

    def mixed_skill_of(self, task: str) -> Record:
        """The recording of an expert that is not trained here, in place of the episodes of its training."""
        return Record(
            task=task,
            policy="mixed-skill",
            teacher=self.teacher,
            episodes=self.mixed_skill,
            num_envs=min(NOISE_LEVELS, self.mixed_skill),
            horizon=self.expert.horizon,
            backend=self.backend,
        )

    def demos_of(self, task: str) -> str:
        """The demonstrations that the expert of `task` begins with, such as scripted:20, or ""."""
        return self.demos if task in self.demo_tasks else ""

    def also_of(self, task: str) -> tuple[str, ...] | None:
        """The other tasks in which the expert of `task` learns: those that it labels if the suite's table is right."""
        if task not in (self.shared or ()):
            return None
        suite = suite_of(task)
        alike = (t for t in self.tasks if t != task)
        return tuple(t for t in alike if suite.labeller(t, self.tasks) == task) or None

    def resolved(self) -> "RunConfig":
        """With canonical names of all tasks, benchmarks expanded."""
        return replace(
            self,
            tasks=resolve(self.tasks),
            student_tasks=resolve(self.student_tasks),
            demo_tasks=resolve(self.demo_tasks) if self.demo_tasks else (),
            shared=_labelling(resolve(self.shared)) if self.shared else None,
        )


def _labelling(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks, if the script of each labels another task of its suite too.

    Raises:
        ConfigError: one's does not.
    """
    for task in tasks:
        suite = suite_of(task)
        if not any(suite.labeller(other, suite.tasks) == task for other in suite.tasks if other != task):
            raise ConfigError("shared", f"no other task is labelled by the script of {suite.label(task)}")
    return tasks


def claim(run: Path, config: RunConfig, *, overwrite: bool = False) -> None:
    """Makes `run` the folder of this configuration, or says what differs from the one it belongs to."""
    check_claim(run, config, overwrite=overwrite)
    path = run / CONFIG
    if path.is_file() and not overwrite:
        return
    locks.make_writable(run)
    write_atomically(path, yaml.safe_dump(sealed.to_jsonable(config), sort_keys=False).encode())


def check_claim(run: Path, config: RunConfig, *, overwrite: bool = False) -> None:
    """Changes nothing.

    Raises:
        UserError: the folder belongs to another configuration, or its settings cannot be read.
    """
    path = run / CONFIG
    if not path.is_file() or overwrite:
        return
    found = files.read_yaml(path)
    configs.change(config, found, str(path))  # refuses unknown names: without a value they are no difference
    changed = sealed.differences(sealed.to_jsonable(config), found)
    if changed:
        raise UserError(
            f"{run} belongs to another configuration ({'; '.join(changed[:3])}): "
            "choose another folder with --run, or pass --overwrite"
        )
