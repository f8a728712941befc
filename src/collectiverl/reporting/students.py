"""Tables of a comparison of students, for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

from collectiverl.envs.tasks import label
from collectiverl.reporting.fitting import make_table
from collectiverl.reporting.ratios import SIGNS

HOLE = "?"  # in place of what is not done yet


def comparison_table(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Table:
    """Steps that each strategy took to reach the level, by task, and how it compares with plain SAC.

    `final` is success after the training, and `FT` the forward transfer.
    `settings` are those of the comparison: `success` and `steps`.
    """
    table = make_table(
        title=f"environment steps until success reached {settings['success']:g} twice, each seed "
        f"(more than {settings['steps']:,}: -; not done yet: {HOLE})"
    )
    table.add_column("task")
    table.add_column("strategy", overflow="fold")
    for name in ("final", "steps", "sec", "ratio", "FT"):
        table.add_column(name, justify="right", overflow="fold" if name == "steps" else "ellipsis")
    previous = None
    for row in sorted(rows, key=lambda row: row["task"]):
        if previous not in (None, row["task"]):
            table.add_section()
        shown = label(row["task"]) if previous != row["task"] else ""
        previous = row["task"]
        table.add_row(shown, row["strategy"].replace("+", " + "), _mean(row, "success"), *_course(row))
    return table


def _mean(row: Mapping[str, Any], name: str) -> str:
    """Over the seeds that are done."""
    found = row.get(name)
    return f"{sum(found) / len(found):.2f}" if found else HOLE


def _course(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Steps, seconds, ratio and forward transfer of students that were trained."""
    if not row["seeds"]:
        return (HOLE, *[""] * 3)
    holes = [HOLE] * row["holes"]
    if "steps" not in row:
        return (" ".join([*(f"{steps:,}" for steps in row.get("env_steps", [0])), *holes]), *[""] * 3)
    steps = ["-" if s is None else f"{s:,}" for s in row["steps"]]
    gain = row.get("forward_transfer")
    return (
        " ".join([*steps, *holes]),
        f"{median(row['seconds']):,.0f}",
        _ratio(row.get("ratio")),
        "" if gain is None else f"{gain:+.2f}",
    )


def _ratio(found: Mapping[str, Any] | None) -> str:
    """With the sign of a bound where one of the two never reached the level; "" where neither did."""
    if found is None or found["bound"] == "unknown":
        return ""
    return f"{SIGNS[found['bound']]}{found['value']:.2f}"


def median_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each strategy."""
    for strategy, ratio in found["median_ratio"].items():
        if ratio is not None:
            parts = [f"{ratio[name]} {what}" for name, what in NOTES.items() if ratio[name]]
            about = f" ({', '.join(parts)})" if parts else ""
            gain = ratio["forward_transfer"]
            yield (
                f"{strategy}: {_words(ratio)} times fewer steps than plain SAC, by the median over "
                f"{ratio['tasks']} tasks{about}" + ("" if gain is None else f"; forward transfer {gain:+.2f}")
            )


def _words(ratio: Mapping[str, Any]) -> str:
    """A median with what is known of it."""
    about = {"": "", "unknown": "about "}.get(ratio["bound"], f"{ratio['bound']} ")
    return f"{about}{ratio['value']:.2f}"


NOTES = {"bounds": "of them bounds", "holes": "with cells that are not done yet"}
