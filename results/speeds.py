"""The tables of speeds, from the files of the benchmarks; a hole where a figure is missing or cannot be trusted."""

import json
from typing import Any

from benchmarks import time_to_success
from benchmarks.results import RESULTS, Table, shortcomings

SPEEDS = (
    *("learner", "loop", "cores", "environments", "scaling", "encoder", "phases"),
    *("schedule", "gpu", "machines"),
)
# figures that a busy machine does not change: in seconds that the process itself computed, or simulated; and those of
# Ray's machines, which are no children of the process, so that they count as other work
CORE_SECONDS = ("encoder", "time_to_success", "schedule", "machines")


def speed(name: str) -> str:
    """What a benchmark found, and on which machine; a hole if it was not measured, or not so that it can be trusted."""
    path = RESULTS / f"{name}.json"
    document = json.loads(path.read_text()) if path.exists() else None
    if document is None or shortcomings(document, core_seconds=name in CORE_SECONDS):
        return f"(not measured on an idle machine yet: `python -m benchmarks.{name}`)\n"
    about = document["about"]
    busy = f"load before {about['load']}, of others meanwhile {about.get('beside', 'not noted')}"
    where = f"{_machine(about)}, {busy}; commit {about['commit']}, {about['date']}"
    return f"{Table(**document['table']).markdown()}\n\n`{about['command']}` ({where})\n"


def arrivals() -> str:
    """Time to success, from the cells that were measured under the present rules, with holes for the others."""
    config = time_to_success.TimeToSuccess(out=RESULTS)
    cells = time_to_success.on_disk(config)
    found = {cell: v for cell, v in cells.items() if not shortcomings(v, core_seconds=True)}
    if not found:
        return "(not measured under the present rules yet: `python -m benchmarks.time_to_success`)\n"
    about = [verdict["about"] for verdict in found.values()]
    where = "; ".join(sorted({_machine(one) for one in about}))
    commits = ", ".join(sorted({one["commit"] for one in about}))
    shown = time_to_success.table(config, found).markdown()
    return f"{shown}\n\n`python -m benchmarks.time_to_success` ({where}; commits {commits})\n"


def _machine(about: dict[str, Any]) -> str:
    return f"{about['cpu']}, {about['cores']} cores"
