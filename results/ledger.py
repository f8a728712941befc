"""The ledger: one JSON file for each finished run that a page quotes.

    python -m results.ledger runs/mt10_s0 --name collective/mt10_seed_0 --command "collectiverl run --preset mt10 ..."

copies what a run found into `results/<name>.json`, with the command, the commit of the code, the machine, and the
core-seconds of every stage beside the machine's load, where its manifest has them. In place of a run's folder it takes
what `collectiverl evaluate`, `evaluate-meta` or `transfer` wrote with `--json`. A run whose stages were made one at a
time has no summary: `--until evaluated` takes what `evaluate --json` left in its folder `evaluated`, as in
examples/original.sh.

    python -m results.ledger runs/students --cells --name students --command "collectiverl compare-students ..."

copies every finished cell of a comparison of students that lies below the folder, or every finished row of an ablation,
each into a file of its own. Those that are in the ledger already stay as they are.

    python -m results.ledger runs/mt50 --stage online_distill/MT50/seed_1 --name memory/mt50_seed_1 --command "..."

copies the peak of memory of one stage, of a run that went no further; of a probe or of cross-play, also what it found.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from benchmarks.results import facts

from collectiverl.artifacts import paths, provenance, sealed
from collectiverl.artifacts.files import read_json
from collectiverl.cli import exits
from collectiverl.stages.base import core_seconds, load, peak_memory, seconds
from collectiverl.stages.base import summary as stage_summary
from collectiverl.stages.evaluation import KINDS
from collectiverl.stages.summary import mean
from collectiverl.studies.cells import cell_result
from collectiverl.studies.comparison import ComparisonConfig
from collectiverl.types import UserError

FOLDER = Path(__file__).parent
EVALUATED = "evaluated"  # folder of a run
CHANGED = "-dirty"  # behind the commit of a manifest
ROW = "ablate"  # a kind of stages
VARIED = ("group", "variant", "tasks", "goals_hidden", "teacher")  # of a row of an ablation
FOUND = {  # by a stage of this kind
    "probe": ("linear_probe", "reconstruction", "goals"),
    "cross-play": ("episodes", "groups", "labeller"),
}
COSTS = ("core_seconds", "load")  # of a stage, in its manifest
STAGES = ("wall_seconds", "stage_core_seconds", "stage_load", "stage_memory")  # of a run, in its summary


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished run, as an entry of the ledger."""

    run: Annotated[Path, tyro.conf.Positional]  # the run's folder, or the JSON file of an evaluation
    name: str  # of the entry, such as collective/mt10_seed_0
    command: str  # that made the run
    code: Path = Path()  # a clean checkout of the code; of its last commit, if the run's manifest names none
    until: str = "collective"  # which of the run's summaries; or evaluated
    cells: bool = (
        False  # each finished cell of a comparison of students, or row of an ablation, below the folder
    )
    stage: str = ""  # one stage of the run, whose peak of memory is kept


def entry(config: Entry) -> dict[str, Any]:
    """What a run found, and how.

    Raises:
        UserError: the run has no such summary, the file does not say what was evaluated, or the code is not that of
            a commit.
    """
    if config.stage:
        commit, found = _of_stage(config.run, config.stage)
    elif config.run.is_file():
        commit, found = None, _evaluated(config.run)
    else:
        commit, found = _summarized(config.run, config.until)
    return _about(config, commit) | found


def cells(config: Entry) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every finished cell of a study below the run's folder, each with the name of its entry.

    Raises:
        UserError: there is none, or the code is not that of a commit.
    """
    manifests = [path for path in sorted(config.run.rglob(paths.MANIFEST)) if _is_cell(path.parent)]
    if not manifests:
        raise UserError(
            f"below {config.run} is no finished cell of a comparison of students or of an ablation"
        )
    for path in manifests:
        record = sealed.verify(path.parent)
        name, found = _row(path.parent, record) if record["stage"] == ROW else _student(path.parent)
        made = {"made": record["created"], "versions": record["versions"]} | _cost(record)
        about = _about(config, record.get("commit"))
        yield f"{config.name}/{name}", about | made | found


def _student(folder: Path) -> tuple[str, dict[str, Any]]:
    found = cell_result(folder)
    parts = (
        found["collective"],
        found["strategy"],
        found["task"],
        _unusual(found),
        f"seed_{found['seed']}",
    )
    return "_".join(filter(None, parts)), found


def _row(folder: Path, record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A row of an ablation: what is varied, and what it found."""
    about = {name: record["config"][name] for name in VARIED}
    seed = int(folder.name.removeprefix("seed_"))  # of this training; the manifest has the run's
    about |= {"seed": seed, "seconds": record["seconds"]}
    return f"{about['group']}_{about['variant']}_seed_{seed}", about | stage_summary(folder)


def _unusual(cell: Mapping[str, Any]) -> str:
    """How many steps a student was allowed, if they are not as many as usual."""
    limit = cell.get("limit", ComparisonConfig().steps)
    return "" if limit == ComparisonConfig().steps else f"{limit}_steps"


def _is_cell(folder: Path) -> bool:
    if not sealed.is_sealed(folder):
        return False
    return sealed.manifest(folder)["stage"] == ROW or paths.COMPARISON in folder.resolve().parts


def _about(config: Entry, commit: str | None) -> dict[str, Any]:
    """The command, the code and the machine; `commit` is that of the run's manifest."""
    if commit and commit.endswith(CHANGED):
        raise UserError(f"{config.run} was made with changes of {commit} that are in no commit")
    if changed := provenance.git(config.code, "status", "--porcelain", "--untracked-files=no"):
        raise UserError(f"{config.code} has changes that are in no commit: {changed.splitlines()[0]}")
    commit = commit or provenance.git(config.code, "rev-parse", "HEAD")
    return {
        "command": config.command,
        "commit": commit,
        "sources": provenance.git(config.code, "rev-parse", f"{commit}:src"),
        "machine": {
            name: value for name, value in facts().items() if name in ("cpu", "cores", "load", "python")
        },
    }


Found = tuple[str | None, dict[str, Any]]  # the commit of the run's manifest, and what is kept


def _cost(record: dict[str, Any]) -> dict[str, Any]:
    """What a stage computed, and how busy its machine was, where its manifest says."""
    return {name: record[name] for name in COSTS if name in record}


def _of_stage(run: Path, stage: str) -> Found:
    record = sealed.verify(run / stage)
    kept = {name: record[name] for name in ("versions", "seed")} | _cost(record)
    if names := FOUND.get(record["stage"]):
        found = stage_summary(run / stage)
        kept |= {name: found[name] for name in names if name in found}
    memory = {stage: peak_memory(run / stage)}
    return record.get("commit"), {"made": record["created"], **kept, "stage_memory": memory}


def _summarized(run: Path, until: str) -> Found:
    alone = until == EVALUATED
    folder = run / (paths.COLLECTIVE if alone else paths.summary(until))
    record = sealed.verify(folder)
    found = one_at_a_time(run, record["seed"]) if alone else read_json(folder / paths.SUMMARY)
    kept = {name: found[name] for name in ("seed", "policies", "mean", "stage_seconds")}
    kept |= {name: found[name] for name in STAGES if name in found}  # older runs have fewer
    return record.get("commit"), {"made": record["created"], "versions": record["versions"], **kept}


def _evaluated(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if missing := {"made", "versions", "policies"} - found.keys():
        raise UserError(f"{path} does not say {', '.join(sorted(missing))}: write it with --json")
    if found.get("incomplete"):
        raise UserError(
            f"{path} is of a command that has not come to its end: wait for it, or begin it again"
        )
    for part in (found, *found["policies"]):
        if Path(str(part.get("policy"))).is_absolute():  # where it lay says nothing to others
            part["policy"] = os.path.relpath(part["policy"], path.resolve().parent)
    return found


def one_at_a_time(run: Path, seed: int) -> dict[str, Any]:
    """What a summary would say of the policies of a run that were evaluated one at a time.

    Raises:
        UserError: none were.
    """
    rows = []
    for file in sorted((run / EVALUATED).glob("*.json")):
        for row in read_json(file)["policies"]:
            folder = Path(row["policy"]).resolve().relative_to(run.resolve())
            kind = {paths.EXPERTS: "expert", paths.STUDENTS: "student"}.get(
                folder.parts[0] if folder.parts else ""
            )
            trained = stage_summary(run / folder) if kind else {}
            about = {"policy": kind or "collective", "env_steps": trained.get("env_steps", 0)}
            rows.append(row | about)
    if not rows:
        raise UserError(f"{run / EVALUATED} holds no file of 'collectiverl evaluate --json'")
    rows.sort(key=lambda row: KINDS.index(row["policy"]))
    stages = sorted(path.parent for path in run.rglob(paths.MANIFEST))
    return {
        "seed": seed,
        "policies": rows,
        "mean": {kind: mean(rows, kind) for kind in KINDS if any(row["policy"] == kind for row in rows)},
        **{
            f"stage_{name}": {str(stage.relative_to(run)): cost(stage) for stage in stages}
            for name, cost in (("seconds", seconds), ("core_seconds", core_seconds), ("load", load))
        },
    }


def read(name: str) -> list[dict[str, Any]]:
    """The entries whose names begin with `name`, in the order of their seeds."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"{name}*.json"))]
    return sorted(found, key=lambda one: one.get("seed", 0))  # a script has none


def main() -> int:
    config = tyro.cli(Entry)
    try:
        every = list(cells(config)) if config.cells else [(config.name, entry(config))]
    except UserError as error:
        print(f"results.ledger: {error}", file=sys.stderr)
        return exits.USER
    for name, found in every:
        path = FOLDER / f"{name}.json"
        if config.cells and path.exists() and read_json(path)["made"] == found["made"]:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_lines(found) if config.cells else json.dumps(found, indent=1) + "\n")
        print(path)
    return 0


def _lines(found: dict[str, Any]) -> str:
    """A line for each value: a curve has hundreds of numbers."""
    return "{\n" + ",\n".join(f' "{name}": {json.dumps(value)}' for name, value in found.items()) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
