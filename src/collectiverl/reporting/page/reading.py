"""A run as its page reads it: sealed folders alone, each file compared with its checksum, and what is missing."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from collectiverl.artifacts import sealed
from collectiverl.artifacts.attempts import INTENT
from collectiverl.artifacts.files import parse_json, read_yaml
from collectiverl.artifacts.manifests import PARTIAL
from collectiverl.artifacts.paths import CONFIG, LOGS, MANIFEST, METRICS, SUMMARY
from collectiverl.envs.tasks import label
from collectiverl.types import UserError

Found = Mapping[str, Any]  # JSON


class Expected(NamedTuple):
    """A stage that the run would have, were it finished."""

    label: str
    out: str


@dataclass(frozen=True)
class Origin:
    """What the run's settings are a variation of."""

    preset: str = ""  # the nearest; "": not known
    changed: tuple[tuple[str, Any, Any], ...] = ()  # setting, the preset's value, the run's


class Sealed(NamedTuple):
    """One sealed folder of a run."""

    name: str  # relative to the run
    manifest: Found

    @property
    def kind(self) -> str:
        return self.manifest.get("stage", "")

    @property
    def config(self) -> Found:
        return self.manifest["config"]


@dataclass
class RunFolder:
    """The folder of one run. What cannot be read is left out and said in `problems`.

    Args:
        path: of the run.
        expected: the stages that it would have in the end; (): not known.
        origin: of its settings.
    """

    path: Path
    expected: Sequence[Expected] = ()
    origin: Origin = field(default_factory=Origin)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def config(self) -> Found:
        """The settings of the run; {} where it has none that can be read."""
        path = self.path / CONFIG
        if not path.is_file():
            return {}
        try:
            found = read_yaml(path)
        except UserError:
            found = None
        if not isinstance(found, dict):
            self.problems.append(f"{CONFIG} cannot be read")
            return {}
        return found

    @cached_property
    def stages(self) -> list[Sealed]:
        """All sealed folders, those that were sealed first coming first."""
        found = []
        for path in sorted(self.path.rglob(MANIFEST)):
            name = str(path.parent.relative_to(self.path))
            if PARTIAL in name:
                continue
            try:
                found.append(Sealed(name, sealed.manifest(path.parent)))
            except UserError as error:
                self.problems.append(str(error))
        return sorted(found, key=lambda one: one.manifest.get("created", ""))

    @property
    def interrupted(self) -> list[str]:
        """Stages that were begun and are not sealed."""
        folders = (p for p in self.path.rglob(f"*{PARTIAL}") if p.is_dir() and (p / INTENT).is_file())
        return sorted(str(p.relative_to(self.path)).removesuffix(PARTIAL) for p in folders)

    @property
    def missing(self) -> list[Expected]:
        """The expected stages that are not sealed."""
        done = {one.name for one in self.stages}
        return [stage for stage in self.expected if stage.out not in done]

    @property
    def tasks(self) -> list[str]:
        """Of the collective, or of whatever was trained."""
        named = self.config.get("tasks") or [one.config.get("task") for one in self.stages]
        return list(dict.fromkeys(task for task in named if isinstance(task, str)))

    def place(self, task: str) -> int:
        """Of a task among all: it decides on its colour, which is the same in all figures."""
        return self.tasks.index(task) if task in self.tasks else len(self.tasks)

    def of_kind(self, *kinds: str) -> Iterator[tuple[Sealed, Found]]:
        """The sealed folders of these stages, with their summaries."""
        for stage in self.stages:
            if stage.kind in kinds and isinstance(found := self.json(stage, SUMMARY), dict):
                yield stage, found

    def json(self, stage: Sealed, name: str) -> Any:
        """A JSON file of a sealed folder; None if there is no whole one."""
        data = self.data(stage, name)
        try:
            return None if data is None else parse_json(data)
        except ValueError:
            self.problems.append(f"{stage.name}/{name} is not readable JSON")
            return None

    def metrics(self, stage: Sealed) -> list[Found]:
        """What a stage logged; [] if there is no whole log."""
        data = self.data(stage, METRICS)
        return [] if data is None else [parse_json(line) for line in data.splitlines()]

    def data(self, stage: Sealed, name: str) -> bytes | None:
        """A file of a sealed folder, if it has one and its checksum fits."""
        expected = stage.manifest["files"].get(name)
        if expected is None:
            return None
        path = self.path / stage.name / name
        try:
            data = path.read_bytes()
        except OSError:
            self._problem(f"{stage.name}/{name} is missing")
            return None
        if hashlib.sha256(data).hexdigest() != expected:
            self._problem(f"{stage.name}/{name} is damaged: its checksum does not fit")
            return None
        return data

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


def exists(run: Path) -> None:
    """Checks that there is a run.

    Raises:
        UserError: there is none.
    """
    if not run.is_dir():
        raise UserError(f"there is no run {str(run)!r}: name its folder, such as runs/quickstart")
    is_run = (run / CONFIG).is_file() or (run / LOGS).is_dir() or any(run.rglob(MANIFEST))
    if not is_run:
        raise UserError(f"{run} holds no run: name its folder, such as runs/quickstart")


def short(task: str) -> str:
    """The label of a task, also of one that is not registered here."""
    try:
        return label(task)
    except UserError:
        return task
