"""What a run would do, as tables for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from collectiverl.reporting.fitting import make_table

FEW = 24  # stages that are listed one by one


def forecast_tables(found: Mapping[str, Any]) -> Iterator[Table | str]:
    """The stages that are left, or of many their kinds; then the whole."""
    stages: Sequence[Mapping[str, Any]] = found["stages"]
    if stages:
        yield _each(stages) if len(stages) <= FEW else _by_kind(stages)
    times = f"{found['runs']} runs, each: " if found["runs"] > 1 else ""
    if not stages:
        yield f"{times}all {found['all']} stages are done: nothing to do."
        return
    left = f"{len(stages)} of {found['all']} stages are left" if found["done"] else f"{len(stages)} stages"
    cores = f"{found['cores']} core{'s' * (found['cores'] != 1)}"
    memory = gigabytes(found["memory"]) or "an unknown amount"
    yield f"{times}{left}: about {spent(found['seconds'])} on {cores}, with up to {memory} of memory."
    if unknown := list(dict.fromkeys(stage["kind"] for stage in stages if not stage["measured"])):
        yield f"Never measured, and not counted: {', '.join(unknown)}. The run takes longer than this."
    yield (
        f"Estimated from runs on {', '.join(found['processors'])}; trainings end when their task is solved. Nothing "
        "was done now: leave out --dry-run to begin."
    )


def _each(stages: Sequence[Mapping[str, Any]]) -> Table:
    table = make_table(title="stages to do")
    table.add_column("stage", overflow="fold")
    for name in ("minutes", "memory"):
        table.add_column(name, justify="right")
    for stage in stages:
        table.add_row(stage["label"], minutes(stage["seconds"]), gigabytes(stage["memory"]))
    return table


def _by_kind(stages: Sequence[Mapping[str, Any]]) -> Table:
    table = make_table(title="stages to do")
    table.add_column("kind")
    for name in ("stages", "minutes together", "memory of one"):
        table.add_column(name, justify="right")
    for kind in dict.fromkeys(stage["kind"] for stage in stages):
        mine = [stage for stage in stages if stage["kind"] == kind]
        seconds, memory = sum(s["seconds"] for s in mine), max(s["memory"] for s in mine)
        table.add_row(kind, str(len(mine)), minutes(seconds), gigabytes(memory))
    return table


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}" if seconds >= 3 else "0"


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count else ""


def spent(seconds: float) -> str:
    """Rounded as far as an estimate may be read."""
    if seconds < 90:
        return "a minute"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
