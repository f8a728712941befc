"""The flags of the commands that do one stage: the stage's own config, with defaults from the run."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Self, TypeVar

import tyro

from collectiverl.artifacts import paths, validation
from collectiverl.artifacts.paths import BufferKind
from collectiverl.artifacts.sealed import is_sealed
from collectiverl.cli.options import RunOptions
from collectiverl.cli.settings import RunSettings
from collectiverl.envs.tasks import canonical, resolve
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages.base import Stage
from collectiverl.stages.flags import Flat
from collectiverl.stages.taking import take_expert_stage, taken
from collectiverl.stages.teachers import in_run, is_taken
from collectiverl.types import UserError

C = TypeVar("C")  # the config of a stage
MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class StageSettings(RunSettings):
    """The flags of a command that does one stage of a run."""

    # of linear algebra; other numbers round differently. A stage goes on with those it began with
    threads: int = 1

    def __post_init__(self) -> None:
        validation.at_least(self, 1, "threads")
        validation.at_most(self, MOST_THREADS, "threads")

    @abstractmethod
    def stage(self) -> Stage:
        """The stage that these flags stand for."""

    def before(self) -> list[Stage]:
        """Stages that are done first, if they are not done yet: experts from elsewhere are copied into the run."""
        return []


@dataclass(frozen=True, kw_only=True)
class SeededSettings(StageSettings):
    """The flags of a stage that depends on random numbers."""

    seed: int = 0  # of all random numbers

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.seed(self)

    def before(self) -> list[Stage]:
        config = getattr(self, "config", None)
        teacher = getattr(config, "teacher", None)
        if teacher is None or not is_taken(teacher):
            return []
        tasks = getattr(config, "tasks", None) or (getattr(config, "task"),)  # noqa: B009  it has the one or the other
        run = self.options.folder
        missing = [t for t in tasks if in_run(teacher, t) and not taken(run, teacher, t, self.seed)]
        return [take_expert_stage(teacher, task, self.seed) for task in missing]


def seeded(config_type: type[C], make: Callable[[C, int], Stage]) -> type[SeededSettings]:
    """The flags of a stage that depends on its config and a seed alone; its docstring is the command's help."""

    @dataclass(frozen=True, kw_only=True)
    class OfStage(SeededSettings):
        config: Flat[config_type]  # type: ignore[valid-type]

        @classmethod
        def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
            every: Any = {f.name: f for f in fields(config_type)}  # type: ignore[arg-type]
            given: dict[str, Any] = {
                name: tyro.MISSING for name, f in every.items() if f.default is f.default_factory is MISSING
            }
            if "backend" in every:
                given["backend"] = run.backend
            return cls(options=options, seed=run.seed, config=config_type(**given))

        def resolved(self) -> Self:
            config: Any = self.config
            task = getattr(config, "task", None)
            return replace(self, config=replace(config, task=canonical(task))) if task else self

        def stage(self) -> Stage:
            return make(self.config, self.seed)

    OfStage.__doc__ = config_type.__doc__
    return OfStage


def tasks_or_those_of_run(
    names: tuple[str, ...], options: RunOptions, kind: BufferKind, seed: int
) -> tuple[str, ...]:
    """The tasks that are named; without names, those of the run.

    These are the tasks that its settings name. Where they name none, since each stage was made by its own command,
    they are the tasks whose buffers are there.

    Raises:
        UserError: one is unknown.
    """
    settings = options.base()
    if not names and settings.tasks == RunConfig().tasks:
        found = options.folder.glob(paths.buffer(kind, "*", seed))
        names = tuple(sorted(folder.parent.name for folder in found if is_sealed(folder)))
    return resolve_tasks(names or settings.tasks)


def resolve_tasks(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks that these names stand for.

    Raises:
        UserError: none is named, or one is unknown.
    """
    if not names:
        raise UserError("name at least one task, such as reach, or a benchmark such as MT10")
    return resolve(names)
