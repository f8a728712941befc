"""Ablations, comparisons of students, and tasks that were added: from their sealed stages."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from collectiverl.artifacts.paths import ABLATION, COMPARISON
from collectiverl.evaluation.statistics import seeds_interval
from collectiverl.reporting.page import figures
from collectiverl.reporting.page.blocks import Block, Plot, Section, Table
from collectiverl.reporting.page.reading import Found, RunFolder, short
from collectiverl.reporting.ratios import PLAIN


def section(run: RunFolder) -> Section | None:
    blocks: list[Block] = [*_ablation(run), *_comparison(run), *_extensions(run)]
    if not blocks:
        return None
    return Section(
        "studies", "Studies", "Made by commands of their own, with this run's experts or collective.", blocks
    )


# -- ablation ----------------------------------------------------------------------------------------------


def _ablation(run: RunFolder) -> Iterator[Block]:
    rows: dict[str, list[Found]] = {}
    for stage, about in run.of_kind("ablate"):
        if stage.name.startswith(f"{ABLATION}/") and "success_any" in about:
            group, variant = stage.name.split("/")[1:3]
            rows.setdefault(f"{group}: {variant.replace('_', ' ')}", []).append(about)
    if not rows:
        return
    ordered = sorted(rows, key=lambda name: (not name.startswith("default"), name))
    found = [(name, _mean(rows[name], "success_any"), _interval(rows[name])) for name in ordered]
    cells = [
        [
            name,
            f"{value:.3f}",
            f"{low:.2f} to {high:.2f}",
            f"{_mean(rows[name], 'success_last'):.3f}",
            f"{min(min(about['by_task'].values()) for about in rows[name]):.2f}",
            str(len(rows[name])),
        ]
        for name, value, (low, high) in found
    ]
    header = ["variant", "any step", "95 % interval", "last step", "least task", "seeds"]
    best, worst = (pick(found, key=lambda one: one[1]) for pick in (max, min))
    yield Plot(
        "Ablation: what each choice is worth",
        f"From {worst[0]} ({worst[1]:.2f}) to {best[0]} ({best[1]:.2f}).",
        {"": figures.dots({"": found}, ordered, title="success, mean over tasks")},
        caption="Each row differs from the run's settings in one thing. Intervals are over seeds where there are "
        "three, and else over episodes.",
        table=Table("Ablation", header, cells),
    )


def _mean(rows: Sequence[Found], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


def _interval(rows: Sequence[Found]) -> tuple[float, float]:
    low, high = seeds_interval(
        [round(row["success_any"] * row["episodes"]) for row in rows], [row["episodes"] for row in rows]
    )
    return low, high


# -- comparison --------------------------------------------------------------------------------------------


class Student(NamedTuple):
    """One training of a comparison."""

    strategy: str  # with the collective that helped, where the run has students of several
    task: str
    steps: tuple[int, ...]
    success: tuple[float, ...]
    about: Found


def _comparison(run: RunFolder) -> Iterator[Block]:
    students = list(_students(run))
    for task in dict.fromkeys(one.task for one in students):
        mine = [one for one in students if one.task == task]
        strategies = sorted(dict.fromkeys(one.strategy for one in mine), key=lambda name: name != PLAIN)
        lines, rows = [], []
        for i, strategy in enumerate(strategies):
            members = [one for one in mine if one.strategy == strategy]
            for k, one in enumerate(members):
                if one.steps:
                    more = {"legendgroup": strategy, "showlegend": k == 0, "opacity": 0.85}
                    lines.append(figures.line(_shown(strategy), one.steps, one.success, i, **more))
            spent = [one.about["env_steps"] for one in members if "env_steps" in one.about]
            success = [one.about.get("success", one.about.get("success_any")) for one in members]
            known = [value for value in success if value is not None]
            rows.append(
                [
                    _shown(strategy),
                    f"{sum(known) / len(known):.2f}" if known else "",
                    f"{median(spent):,.0f}" if spent else "",
                    str(len(members)),
                ]
            )
        yield Plot(
            f"Comparison: students of {short(task)}",
            "; ".join(
                f"{row[0]}: success {row[1]} after {row[2] or 0} steps (median of {row[3]} seeds)"
                for row in rows
            )
            + ".",
            {"": figures.figure(lines, x=figures.steps(), y=figures.share("success"))},
            caption="A line for each seed.",
            table=Table(
                f"Students of {short(task)}", ["strategy", "success", "environment steps", "seeds"], rows
            ),
        )


def _shown(strategy: str) -> str:
    """`none@8` is plain SAC with an unusual number of updates."""
    row, of, collective = strategy.partition(" of ")
    name, _, updates = row.partition("@")
    shown = ("plain SAC" if name == PLAIN else name.replace("+", " + ")) + of + collective
    return f"{shown}, {updates} updates a step" if updates else shown


def _students(run: RunFolder) -> Iterator[Student]:
    found = [
        (stage, about, stage.name.split("/")[1:])
        for stage, about in run.of_kind("train-student", "clone-student", "evaluate")
        if stage.name.startswith(f"{COMPARISON}/")
    ]
    collectives = {_collective(parts) for *_, parts in found} - {""}
    for stage, about, parts in found:
        log = [line for line in run.metrics(stage) if "eval/success" in line]
        before = int(about.get("played_before", 0))
        steps = tuple(int(line["step"]) + before for line in log)
        *_, strategy, task, _ = parts
        helper = f" of {_collective(parts)}" if len(collectives) > 1 and _collective(parts) else ""
        success = tuple(line["eval/success"] for line in log)
        yield Student(f"{strategy}{helper}", task, steps, success, about)


def _collective(parts: Sequence[str]) -> str:
    """Whose help a student had, by its folder; "" of plain SAC."""
    return "/".join(parts[:-3])


# -- added tasks -------------------------------------------------------------------------------------------


def _extensions(run: RunFolder) -> Iterator[Block]:
    found = [about for _, about in run.of_kind("extend-collective")]
    if not found:
        return
    rows = [
        [
            short(about["task"]),
            str(len(about["tasks"])),
            f"{about['success']:.2f}",
            f"{sum(about['before'].values()) / len(about['before']):.3f}",
            f"{sum(about['after'][task] for task in about['before']) / len(about['before']):.3f}",
            f"{about['forgetting']:+.3f}",
            f"{short(about['worst'])} {about['worst_forgetting']:+.2f}",
        ]
        for about in found
    ]
    header = [
        "added",
        "tasks then",
        "success on it",
        "old tasks before",
        "old tasks after",
        "forgotten",
        "most forgotten",
    ]
    yield Table("One task after another", header, rows)
