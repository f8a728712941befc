"""Several runs side by side."""

from collections.abc import Sequence
from typing import Any

from collectiverl.reporting.page import figures
from collectiverl.reporting.page.about import flat
from collectiverl.reporting.page.blocks import Block, Plot, Section, Table
from collectiverl.reporting.page.reading import RunFolder, short
from collectiverl.reporting.page.seconds import duration
from collectiverl.reporting.page.success import interval, named, rows_of

JUDGED = ("collective", "expert")  # the policy of a run that is compared: the first that it has


def section(runs: Sequence[RunFolder], names: Sequence[str]) -> Section:
    blocks: list[Block] = [*_success(runs, names), _table(runs, names), *_settings(runs, names)]
    lead = f"{len(runs)} runs: {', '.join(names)}. Below, each has its own part."
    return Section("sides", "Side by side", lead, blocks)


def distinct_names(runs: Sequence[RunFolder]) -> list[str]:
    """The names of the runs' folders; where they are the same, their paths."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _judged(run: RunFolder) -> str:
    kinds = {row["policy"] for row in rows_of(run)}
    return next((kind for kind in JUDGED if kind in kinds), "")


def _success(runs: Sequence[RunFolder], names: Sequence[str]) -> list[Block]:
    groups, tasks = {}, []
    for run, name in zip(runs, names, strict=True):
        mine = [row for row in rows_of(run) if row["policy"] == _judged(run)]
        tasks += [short(row["task"]) for row in mine]
        if mine:
            groups[name] = [
                (short(row["task"]), row["success_any"], interval(row, "success_any")) for row in mine
            ]
    if not groups:
        return []
    means = {name: sum(value for _, value, _ in found) / len(found) for name, found in groups.items()}
    drawn = figures.dots(groups, list(dict.fromkeys(tasks)), title="success at any step (share of goals)")
    said = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    text = f"Dots with 95 % intervals, one row for each task. On average over each run's tasks: {said}."
    return [
        Plot(
            "Success at any step",
            text,
            {"": drawn},
            caption="Of each run's collective; of its experts, where it has none.",
        )
    ]


def _table(runs: Sequence[RunFolder], names: Sequence[str]) -> Table:
    rows = []
    for run, name in zip(runs, names, strict=True):
        mine = [row for row in rows_of(run) if row["policy"] == _judged(run)]
        means = [_mean([row[measure] for row in mine]) for measure in ("success_any", "success_last")]
        spent = sum(one.manifest.get("seconds", 0) for one in run.stages)
        state = f"{len(run.missing)} stages missing" if run.missing else "finished"
        rows.append(
            [
                name,
                named(_judged(run)),
                *means,
                str(len(mine)),
                str(run.config.get("seed", "")),
                duration(spent),
                state,
            ]
        )
    header = ["run", "policy", "any step", "last step", "tasks", "seed", "work", "state"]
    return Table("Means over tasks", header, rows, text_columns=2)


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else ""


def _settings(runs: Sequence[RunFolder], names: Sequence[str]) -> list[Block]:
    found: list[dict[str, Any]] = [dict(flat(run.config)) for run in runs]
    every = list(dict.fromkeys(name for settings in found for name in settings))
    differing = [name for name in every if len({repr(settings.get(name)) for settings in found}) > 1]
    rows = [[name, *(_cell(settings.get(name)) for settings in found)] for name in differing]
    if not rows:
        return []
    return [Table("Settings that differ", ["setting", *names], rows, text_columns=1 + len(runs))]


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
