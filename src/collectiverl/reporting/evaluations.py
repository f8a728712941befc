"""Evaluations of several policies and training seeds, read from runs and from the files of `evaluate --json`."""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectiverl.artifacts import files, paths, sealed
from collectiverl.artifacts.files import read_json
from collectiverl.artifacts.paths import CONFIG, SUMMARY
from collectiverl.evaluation.comparing import Side
from collectiverl.evaluation.statistics import Interval, seeds_interval, trials
from collectiverl.types import UserError

SEED = re.compile(r"_(seed_|s)?\d+$")  # at the end of a name: which training seed it is of
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """What one run or file says: a row for each policy and task."""

    name: str  # without the seed
    path: Path
    rows: tuple[Row, ...]
    hashed: str  # of the file that was read
    protocol: Row  # of a file; empty where it says none, and of a run, whose settings say it

    @property
    def played(self) -> dict[str, dict[str, Any]]:
        """By policy: for each task whether goals were hidden."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            found.setdefault(self.policy_of(row), {})[row["task"]] = row.get("goals", "")
        return found

    def policy_of(self, row: Row) -> str:
        """A file is of one policy, whose name says the seed."""
        return "" if self.path.is_file() else row["policy"]


@dataclass(frozen=True)
class Seeds:
    """One policy on one task, in all its training seeds."""

    name: str
    policy: str
    task: str
    rows: tuple[Row, ...]

    def mean(self, measure: str) -> float | None:
        """Over seeds; None where it was not measured."""
        found = [row.get(measure) for row in self.rows]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if len(known) == len(found) else None

    @property
    def episodes(self) -> int:
        return sum(row["episodes"] for row in self.rows)

    @property
    def interval(self) -> Interval:
        """Of the success at any step."""
        counts = [trials(row) for row in self.rows]
        successes = [round(row["success_any"] * n) for row, n in zip(self.rows, counts, strict=True)]
        return seeds_interval(successes, counts)


def read(path: Path) -> Evaluated:
    """The evaluations of a run's folder, or those of a file that `evaluate --json` wrote.

    Raises:
        UserError: there are none, or not all yet.
    """
    source = path if path.is_file() else _summary(path)
    found = read_json(source)
    rows = found.get("policies") if isinstance(found, dict) else None
    if rows and found.get("incomplete"):
        raise UserError(
            f"{source} is of a command that has not come to its end: wait for it, or begin it again"
        )
    needed = {"policy", "task", "success_any", "episodes"}
    if not rows or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise UserError(
            f"{source} holds no evaluations: name a run's folder, or what 'evaluate --json' wrote"
        )
    name = SEED.sub("", path.resolve().name.removesuffix(".json"))
    return Evaluated(name, path, tuple(rows), files.sha256(source), found.get("protocol") or {})


def _summary(run: Path) -> Path:
    for until in ("end", "collective", "experts"):
        if sealed.is_sealed(run / paths.summary(until)):
            sealed.check(run / paths.summary(until))
            return run / paths.summary(until) / SUMMARY
    if not run.exists():
        raise UserError(f"there is no {run}: name a run's folder, or a file of 'evaluate --json'")
    raise UserError(f"{run} has no summary yet: 'collectiverl run' makes one at its end")


def by_seeds(found: Sequence[Evaluated]) -> Iterator[Seeds]:
    """Each policy and task, in the order in which they are first named; runs that differ in their seed are one.

    Raises:
        UserError: those of one name are no seeds of one thing.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for name in dict.fromkeys(one.name for one in found):
        members = [one for one in found if one.name == name]
        _check_seeds(members)
        for one in members:
            for row in one.rows:
                groups.setdefault((name, one.policy_of(row), row["task"]), []).append(row)
    for (name, policy, task), rows in groups.items():
        yield Seeds(name, policy, task, tuple(rows))


def _check_seeds(members: Sequence[Evaluated]) -> None:
    """Raises if these are not evaluations of different trainings that are alike but for their seed."""
    for i, one in enumerate(members):
        for other in members[:i]:
            _check_pair(other, one)
    runs = [one.path for one in members if (one.path / CONFIG).is_file()]
    settings = [_settings(run / CONFIG) | {"seed": 0} for run in runs]
    for run, own in zip(runs[1:], settings[1:], strict=True):
        if differing := sealed.differences(own, settings[0]):
            raise UserError(f"{run} is no other seed of {runs[0]}: they differ in {'; '.join(differing[:3])}")


def _check_pair(one: Evaluated, other: Evaluated) -> None:
    if one.hashed == other.hashed:
        raise UserError(f"{other.path} is the same as {one.path}: name each training seed once")
    differing = sealed.differences(_without_seed(other.protocol), _without_seed(one.protocol), "protocol.")
    for policy in one.played.keys() & other.played.keys():
        differing += sealed.differences(other.played[policy], one.played[policy], "goals of ")
    if differing:
        raise UserError(
            f"{other.path} is no other seed of {one.path}: they differ in {'; '.join(differing[:3])}. Give files that "
            "are not of the same training names that differ in more than the number at the end"
        )


def _without_seed(protocol: Row) -> dict[str, Any]:
    """Without the environments side by side, too: they change nothing, or follow from the rest."""
    return {name: value for name, value in protocol.items() if name not in ("seed", "num_envs")}


def _settings(path: Path) -> dict[str, Any]:
    found = files.read_yaml(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no settings: they are a mapping")
    return found


def side(text: str) -> Side:
    """What `--compare` names: a file or a run, or a pattern such as `a_seed_*.json` for several training seeds.

    Raises:
        UserError: there is none, a run has no collective, or they are no seeds of one thing.
    """
    names = sorted(glob.glob(text)) if glob.has_magic(text) else [text]
    if not names:
        raise UserError(f"no file or folder fits {text!r}")
    members = [read(Path(name)) for name in names]
    _check_seeds(members)
    return Side(text, tuple(_one_policy(one) for one in members))


def _one_policy(found: Evaluated) -> dict[str, Row]:
    """The rows of a file's policy or of a run's collective, by task."""
    rows = found.rows
    if not found.path.is_file():
        rows = tuple(row for row in rows if row["policy"] == "collective")
        if not rows:
            raise UserError(
                f"{found.path} has no collective that was evaluated: name a file of 'evaluate --json'"
            )
    return {row["task"]: row for row in rows}
