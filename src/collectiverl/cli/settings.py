"""The flags of the commands that are not one stage: of the whole pipeline, of studies, and of single policies."""

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Generic, Self, TypeVar

import tyro

from collectiverl.artifacts.validation import at_least, at_most, check_seed
from collectiverl.cli.options import RunOptions
from collectiverl.envs.tasks import resolve
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.evaluation.metalearning import MetaConfig
from collectiverl.evaluation.video import VideoConfig
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.executors.choice import ExecutorName
from collectiverl.pipeline.plan import Until
from collectiverl.policies import tasks_of
from collectiverl.stages.flags import Flat, Tasks
from collectiverl.studies.ablation import AblationConfig
from collectiverl.studies.comparison import ComparisonConfig
from collectiverl.studies.lifelong import LifelongConfig
from collectiverl.studies.transfer import TransferConfig
from collectiverl.types import ConfigError

S = TypeVar("S")  # the settings of a study
MOST_CORES = 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The flags of a command."""

    # settings of its configs that are no flags, since something else decides; `--sac.`: all that begin so
    decided: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        """The flags before they are read, with `tyro.MISSING` for those that must be given.

        `run` holds the settings of the run, where the command is about one.
        """
        return cls()

    def resolved(self) -> Self:
        """With canonical names of tasks, and with what follows from other flags."""
        return self

    def positionals(self) -> dict[str, str]:
        """Settings that were given without their flag: `{"config.train.steps": "STEPS"}`."""
        return {}


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """The flags of a command about a run."""

    options: Flat[RunOptions] = field(default_factory=RunOptions)


@dataclass(frozen=True, kw_only=True)
class ManyStages(RunSettings):
    """The flags of a command that runs many stages side by side."""

    cores: int = 0  # stages side by side in processes here; 0: one for each core
    executor: ExecutorName = "processes"  # processes here, a Ray cluster, or Slurm
    address: str = ""  # of the Ray cluster, which is otherwise this machine's own; or Slurm's partition
    # where all machines read and write results: s3://bucket/folder, or file:///a/shared/folder
    store: str = ""

    def __post_init__(self) -> None:
        at_least(self, 0, "cores")
        at_most(self, MOST_CORES, "cores")
        here = self.executor == "processes"
        if here and (self.address or self.store):
            name = "address" if self.address else "store"
            raise ConfigError(name, "is for --executor ray or slurm; processes here need none")
        if not here and not self.store:
            raise ConfigError("store", f"--executor {self.executor} needs one, such as s3://bucket/folder")
        if not here and self.cores:
            raise ConfigError("cores", f"is for processes here; {self.executor} has a queue of its own")


@dataclass(frozen=True, kw_only=True)
class Run(ManyStages):
    """The whole pipeline: experts, collective, students, evaluation; a trajectory transformer if it is read.

    By default the collective has an encoder of its own and needs no transformer (--collective.conditioning own).
    A second run of a finished folder does nothing, and a killed run goes on where it was. The folder is named
    after the preset unless --run is given; with --seeds there is one for each seed: mt10_seed_0, mt10_seed_1, ...
    """

    until: Until = "end"  # stop when these are trained and evaluated
    seeds: tuple[int, ...] = ()  # a run for each of these seeds, side by side
    open: bool = False  # show the page of the run in a browser when it ends
    dry_run: bool = False  # say which stages there are to do, with minutes and memory, and do nothing
    settings: Flat[RunConfig] = field(default_factory=RunConfig)

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options, settings=run)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("seeds", f"{' '.join(map(str, self.seeds))} names a seed twice")
        for seed in self.seeds:
            check_seed(seed, "seeds")

    def resolved(self) -> Self:
        return replace(self, settings=self.settings.resolved())


@dataclass(frozen=True, kw_only=True)
class StudySettings(ManyStages, Generic[S]):
    """The flags of a study."""

    study: Flat[S]


@dataclass(frozen=True, kw_only=True)
class Ablate(StudySettings[AblationConfig]):
    """Measure what each choice in the design of the collective is worth, with the experts of a run as teachers.

    Each row of the table is a collective with one choice changed. It is trained on episodes of its own. What is done
    already is not done again.
    """

    study: Flat[AblationConfig] = field(default_factory=AblationConfig)

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options)


@dataclass(frozen=True, kw_only=True)
class CompareStudents(StudySettings[ComparisonConfig]):
    """Compare students that a collective helps with plain SAC: strategies, tasks and seeds.

    Strategies are none (plain SAC); finetune, finetune-encoder, finetune-held (SAC on the collective's own networks);
    likelihood, potential, jump-start, prior-data and imitation, several joined by +; random, a control: the default
    help of a collective with untrained networks; and two that are not trained by SAC, zero-shot and cloning. none@8 is
    none with 8 updates after each step of the environments. What is done already is not done again. If it is stopped,
    the table shows what is done.
    """

    study: Flat[ComparisonConfig] = field(default_factory=ComparisonConfig)

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options)


@dataclass(frozen=True, kw_only=True)
class ExtendCollective(StudySettings[LifelongConfig]):
    """Add tasks to the run's collective, one after another; each has a teacher, and old tasks are rehearsed.

    The teachers are of the kind that the run's settings name (--teacher). Name the whole sequence of tasks: those that
    were added before are not added again.
    """

    study: Flat[LifelongConfig]

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options, study=LifelongConfig(tasks=tyro.MISSING))

    def resolved(self) -> Self:
        return replace(self, study=replace(self.study, tasks=resolve(self.study.tasks)))


@dataclass(frozen=True, kw_only=True)
class Transfer(StudySettings[TransferConfig]):
    """Play a collective, without training, in tasks that it never saw: the map of where its help may be worth most.

    COLLECTIVE is the name of one that comes with the package, or a run's folder. Without --tasks it plays all tasks
    of its suite that it was not trained for, each goal once. What is done already is not done again.
    """

    study: Flat[TransferConfig]
    json: str | None = None  # file for the results

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options, study=TransferConfig(collective=tyro.MISSING))

    def resolved(self) -> Self:
        return replace(self, study=replace(self.study, tasks=resolve(self.study.tasks)))


@dataclass(frozen=True, kw_only=True)
class Evaluate(Settings):
    """Play a policy on the fixed goals of each task, whatever its suite, by Meta-World's protocol.

    Actions are deterministic, and each goal is played once, up to the time limit. POLICY is a folder (runs/demo for
    its collective, runs/demo/model/reach-v3/seed_0 for an expert), a name (mt10, mt10/push, scripted:push,
    random:push, hf:owner/name), a .zip of Stable-Baselines3 or SBX, or package.module:name: your own policy, with the
    methods of Meta-World's Agent, or a function that makes it; {task} in it stands for the name of each task
    ('scripted:{task}', 'mt10/{task}', 'experts/{task}.zip'). Without a TASK it plays the tasks that it was made for.
    With --compare nothing is played: files that were written with --json are compared.
    """

    # a folder, a name, a .zip, or package.module:name
    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[POLICY]")] = ""
    tasks: Tasks = ()  # tasks, benchmarks or your own tasks; none: those that the policy was made for
    json: str | None = None  # file for the results
    # files of --json, or runs; the first is compared with each other one. 'a_seed_*.json', quoted: training seeds
    compare: tuple[str, ...] = ()
    # folder for a film of each task; or a file, .mp4 or .gif, in which all tasks play side by side
    video: str | None = None
    film: VideoConfig = field(default_factory=VideoConfig)  # of the first goals that are evaluated
    settings: Flat[EvaluateConfig] = field(default_factory=EvaluateConfig)

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls()

    def __post_init__(self) -> None:
        if bool(self.policy) == bool(self.compare):
            raise ConfigError("", "name a POLICY to evaluate, or two or more files with --compare")
        if len(self.compare) == 1:
            raise ConfigError("compare", f"{self.compare[0]} is compared with nothing: name two or more")
        if self.video is None and self.film != VideoConfig():
            raise ConfigError("video", "nothing is filmed without it: name a folder or a file")
        played = len(self.settings.goal_indices) // self.settings.envs_used
        if self.video is not None and self.film.episodes > played:
            episodes = f"{self.film.episodes} exceeds the {played} that the filmed environment plays"
            raise ConfigError("film.episodes", f"{episodes}: choose a smaller --num-envs")

    def resolved(self) -> Self:
        if not self.policy:
            return self
        return replace(self, tasks=resolve(self.tasks) or tasks_of(self.policy))


@dataclass(frozen=True, kw_only=True)
class EvaluateMeta(Settings):
    """Play a collective by Meta-World's meta-learning protocol: ML10 or ML45, training and test tasks, goals hidden.

    POLICY is a run's folder, such as runs/ml10, a collective by name (mt10-hidden), or package.module:name, an object
    that acts as Meta-World's MetaLearningAgent does, or a function that makes it. In each round the collective
    adapts to one goal in each environment, in ten episodes whose rewards are told; then episodes without rewards
    count. `evaluate POLICY ML10 ML10-test --goals-hidden` plays the same tasks in single episodes, rewards told.
    """

    # a run's folder, the name of a collective, or package.module:name
    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    json: str | None = None  # file for the results
    settings: Flat[MetaConfig] = field(default_factory=MetaConfig)

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(policy=tyro.MISSING)
