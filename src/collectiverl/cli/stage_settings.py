"""The flags of the commands that do one stage: the stage's own config, with defaults from the run."""

from abc import abstractmethod
from dataclasses import dataclass

from collectiverl.cli.settings import RunSettings
from collectiverl.envs.tasks import resolve
from collectiverl.stages.base import Stage
from collectiverl.types import UserError


@dataclass(frozen=True, kw_only=True)
class StageSettings(RunSettings):
    """The flags of a command that does one stage of a run."""

    @abstractmethod
    def stage(self) -> Stage:
        """The stage that these flags stand for."""


@dataclass(frozen=True, kw_only=True)
class SeededSettings(StageSettings):
    """The flags of a stage that depends on random numbers."""

    seed: int = 0  # of all random numbers


def resolve_tasks(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks that these names stand for.

    Raises:
        UserError: none is named, or one is unknown.
    """
    if not names:
        raise UserError("name at least one task, such as reach, or a benchmark such as MT10")
    return resolve(names)
