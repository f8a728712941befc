"""The ledger: one JSON file for each finished run that a page quotes.

    python -m results.ledger runs/mt10_s0 --name collective/mt10_seed_0 --command "collectiverl run --preset mt10 ..."

copies what a run found into `results/<name>.json`, with the command, the commit of the code and the machine. In place
of a run's folder it takes what `collectiverl evaluate` or `evaluate-meta` wrote with `--json`.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from benchmarks.results import facts

from collectiverl.artifacts import paths, sealed
from collectiverl.types import UserError

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished run, as an entry of the ledger."""

    run: Annotated[Path, tyro.conf.Positional]  # the run's folder, or the JSON file of an evaluation
    name: str  # of the entry, such as collective/mt10_seed_0
    command: str  # that made the run
    code: Path = Path()  # the checkout that the run was made with; its working tree must be clean
    until: str = "collective"  # which of the run's summaries


def entry(config: Entry) -> dict[str, Any]:
    """What a run found, and how.

    Raises:
        UserError: the run has no such summary, the file does not say what was evaluated, or the code is not that of
            a commit.
    """
    found = _evaluated(config.run) if config.run.is_file() else _summarized(config.run, config.until)
    if changed := _git(config.code, "status", "--porcelain", "--untracked-files=no"):
        raise UserError(f"{config.code} has changes that are in no commit: {changed.splitlines()[0]}")
    return {
        "command": config.command,
        "commit": _git(config.code, "rev-parse", "HEAD"),
        "sources": _git(config.code, "rev-parse", "HEAD:src"),
        "machine": {
            name: value for name, value in facts().items() if name in ("cpu", "cores", "load", "python")
        },
        **found,
    }


def _summarized(run: Path, until: str) -> dict[str, Any]:
    folder = run / paths.summary(until)
    record = sealed.verify(folder)
    found = sealed.read_json(folder / paths.SUMMARY)
    kept = {name: found[name] for name in ("seed", "policies", "mean", "stage_seconds")}
    return {"made": record["created"], "versions": record["versions"], **kept}


def _evaluated(path: Path) -> dict[str, Any]:
    found = sealed.read_json(path)
    if missing := {"made", "versions", "seed", "policies"} - found.keys():
        raise UserError(
            f"{path} does not say {', '.join(sorted(missing))}: write it with --json of a trained policy"
        )
    return found


def _git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", folder, *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def read(name: str) -> list[dict[str, Any]]:
    """The entries whose names begin with `name`, in the order of their seeds."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"{name}*.json"))]
    return sorted(found, key=lambda one: one["seed"])


def main() -> None:
    config = tyro.cli(Entry)
    path = FOLDER / f"{config.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entry(config), indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
