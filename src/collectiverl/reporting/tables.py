"""Tables for the terminal, made from the rows of summaries."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from collectiverl.envs.tasks import label
from collectiverl.reporting.fitting import in_sections, make_table

NEW = "*"  # marks a task that the policy was not made for


def policies_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Every policy on every task, success as a share of the goals played."""
    kinds = {row["policy"] for row in rows}
    whose = f"{kinds.pop()}: " if len(kinds) == 1 else ""  # no column for what is the same in every row
    demos = {row.get("trained_from", "") for row in rows} - {"", "scratch"}
    hidden = ", hidden from the collective" if any(row.get("goals") == "hidden" for row in rows) else ""
    new = f"{NEW} a task that the policy was not made for" if any(row.get("new") for row in rows) else None
    table = make_table(
        title=f"{whose}success over each task's goals{hidden}, deterministic (steps: of environments, in training)",
        caption=new,
    )
    for name in (*([] if whose else ["policy"]), "task", *(["from"] if demos else [])):
        table.add_column(name, overflow="fold")
    for name in ("any", "95 %", "last", *([] if demos else ["return"]), "steps", "sec"):
        table.add_column(name, justify="right")
    for row in in_sections(table, rows, "policy"):
        low, high = row["interval"]
        table.add_row(
            *([] if whose else [row["policy"]]),
            row["task"] + (f" {NEW}" if row.get("new") else ""),
            *([_origin(row)] if demos else []),
            f"{row['success_any']:.2f}",
            f"{low:.2f}-{high:.2f}",
            f"{row['success_last']:.2f}",
            *([] if demos else [f"{row['return']:,.0f}"]),
            f"{row['env_steps'] / 1000:,.0f}k" if row.get("env_steps") else "",
            f"{row['seconds']:,.0f}" if row.get("seconds") else "",
        )
    return table


def verified_table(found: Sequence[Any]) -> Table:
    """Folders that were read, with the number of files that are wrong; see `stages.verification.Verified`."""
    table = make_table(title="every file, compared with its checksum")
    for name in ("folder", "what"):
        table.add_column(name, overflow="fold")
    for name in ("files", "MB"):
        table.add_column(name, justify="right")
    table.add_column("damaged", justify="right")
    for one in found:
        figures = str(one.files), f"{one.size / 1e6:,.1f}", str(len(one.wrong) or "")
        table.add_row(str(one.folder), one.kind, *figures)
    return table


def meta_table(found: Mapping[str, Any]) -> Table:
    """A collective on each task of a benchmark of meta-learning."""
    table = make_table(
        title=f"{found['policy']} on {found['benchmark']}, goals hidden: success after adaptation, no rewards told"
    )
    table.add_column("tasks", no_wrap=True)
    table.add_column("task", no_wrap=True)
    for name in ("success", "episodes"):
        table.add_column(name, justify="right")
    for row in in_sections(table, found["policies"], "split"):
        table.add_row(row["split"], label(row["task"]), f"{row['success_any']:.2f}", str(row["episodes"]))
    return table


def _origin(row: Mapping[str, Any]) -> str:
    """`scripted:20` as a table has room for it."""
    kind, _, count = row.get("trained_from", "").partition(":")
    return f"{count} demos" if count else kind


def ablation_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Success of each variant, at any and at the last step, and the task that succeeds least."""
    table = make_table(title="what each choice is worth: success on fresh goals, mean over seeds")
    for name in ("varied", "variant"):
        table.add_column(name)
    for name in ("any step", "last step", "least", "episodes", "sec"):
        table.add_column(name, justify="right")
    for row in in_sections(table, rows, "group"):
        found = [_average(row["seeds"], name) for name in ("success_any", "success_last")]
        least = min(min(seed["by_task"].values()) for seed in row["seeds"])
        collected = sum(seed["collected"] for seed in row["seeds"]) / len(row["seeds"])
        seconds = sum(row["seconds"]) / len(row["seconds"])
        table.add_row(
            row["group"], row["variant"], *found, f"{least:.3f}", f"{collected:,.0f}", f"{seconds:,.0f}"
        )
    return table


def _average(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return f"{sum(values) / len(values):.3f}" if values else ""


def cross_play_tables(found: Mapping[str, Any]) -> Iterator[Table | str]:
    """For each group of tasks that begin alike, what every expert does in each task, and who labels it."""
    if not found["groups"]:
        yield "no two tasks begin alike: each is labelled by its own expert"
    for group in found["groups"]:
        tasks = group["tasks"]
        table = make_table(
            title=f"experts in each other's tasks: success at any step, {found['episodes']} episodes"
        )
        table.add_column("expert of")
        for task in tasks:
            table.add_column(label(task), justify="right")
        for task, row in zip(tasks, group["success_any"], strict=True):
            table.add_row(label(task), *(f"{share:.2f}" for share in row))
        table.add_section()
        table.add_row("labelled by", *(label(found["labeller"][task]) for task in tasks))
        yield table


def extensions_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table | str]:
    """What each added task did to the earlier ones; then the success on all tasks in the end."""
    table = make_table(
        title="one task after another: success on fresh goals (before, after: mean of the old tasks)"
    )
    table.add_column("added")
    for name in ("tasks", "new", "before", "after", "forgot"):
        table.add_column(name, justify="right")
    table.add_column("worst", overflow="fold")  # the only column that may take several lines
    for row in rows:
        before = row["before"]
        table.add_row(
            row["task"],
            str(len(row["tasks"])),
            f"{row['success']:.2f}",
            f"{_mean(before.values()):.3f}",
            f"{_mean(row['after'][task] for task in before):.3f}",
            f"{row['forgetting']:+.3f}",
            f"{label(row['worst'])} {row['worst_forgetting']:+.2f}",
        )
    yield table
    last = rows[-1]["after"]
    yield f"in the end {_mean(last.values()):.3f} on average over {len(last)} tasks"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def places(run: Path, names: Mapping[str, str]) -> Table:
    """Where files and folders of a run lie."""
    table = make_table(title="where things lie", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a path must not be cut short
    for what, path in names.items():
        table.add_row(what, str(run / path))
    return table
