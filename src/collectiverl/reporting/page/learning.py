"""How it learned: experts, the learner's rounds of distillation, and students."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from collectiverl.reporting.page import figures
from collectiverl.reporting.page.blocks import Block, Plot, Section, Table
from collectiverl.reporting.page.reading import Found, RunFolder, Sealed, short

SUCCESS, RETURN = "eval/success", "train/return"
Curve = tuple[list[int], list[float]]  # environment steps, values
HELPED, PLAIN = "with the collective's help", "plain SAC"


def section(run: RunFolder) -> Section | None:
    blocks: list[Block] = [*_experts(run), *_rounds(run), *_errors(run), *_students(run)]
    if not blocks:
        return None
    lead = "Success is that of evaluations during training, on fresh goals: they decide when training stops."
    return Section("learning", "Learning", lead, blocks)


# -- experts -----------------------------------------------------------------------------------------------


def _experts(run: RunFolder) -> Iterator[Block]:
    trained = [(s, about, run.metrics(s)) for s, about in run.of_kind("train-task")]
    trained = sorted((one for one in trained if one[2]), key=lambda one: run.place(one[0].config["task"]))
    if not trained:
        return
    lines = [
        figures.line(short(s.config["task"]), *_curve(log, about), run.place(s.config["task"]))
        for s, about, log in trained
    ]
    drawn = figures.figure(lines, x=figures.steps(), y=figures.share("success"))
    rows = [[short(s.config["task"]), *_course(about)] for s, about, _ in trained]
    said = ", ".join(f"{row[0]}: {row[1]} after {row[2]} steps" for row in rows)
    header = ["expert", "success in the end", "environment steps", "solved at", "seconds", "from"]
    yield Plot(
        "Experts: success while they learn",
        f"A line for each expert. {said}.",
        {"": drawn},
        table=Table("Experts", header, rows),
    )
    curves = {s.config["task"]: _curve(log, about, RETURN) for s, about, log in trained}
    yield from _returns(run, {task: curve for task, curve in curves.items() if curve[0]})


def _curve(log: Sequence[Found], about: Found, name: str = SUCCESS) -> Curve:
    """Steps and values; what was played before training is counted, too."""
    kept = [line for line in log if name in line]
    before = int(about.get("played_before", 0))
    return [int(line["step"]) + before for line in kept], [line[name] for line in kept]


def _course(about: Found) -> list[str]:
    solved = about.get("solved_at")
    return [
        f"{about['success']:.2f}" if about.get("success") is not None else "",
        f"{about.get('env_steps', 0):,}",
        f"{solved:,}" if solved else "not",
        f"{about.get('seconds', 0):,.0f}",
        about.get("trained_from", ""),
    ]


def _returns(run: RunFolder, curves: Mapping[str, Curve]) -> Iterator[Block]:
    """Nothing, of runs whose returns were not logged."""
    if not curves:
        return
    lines = [figures.line(short(task), *curve, run.place(task)) for task, curve in curves.items()]
    said = ", ".join(f"{short(task)} from {y[0]:,.0f} to {y[-1]:,.0f}" for task, (_, y) in curves.items())
    yield Plot(
        "Experts: return of whole training episodes",
        f"A line for each expert. {said}.",
        {"": figures.figure(lines, x=figures.steps(), y="return of an episode (sum of rewards)")},
        caption="Mean over the episodes that ended since the point before; with exploration.",
    )


# -- rounds ------------------------------------------------------------------------------------------------


def _rounds(run: RunFolder) -> Iterator[Block]:
    for stage, about in run.of_kind("online-distill"):
        log = [line for line in run.metrics(stage) if "learner/success" in line]
        for when, name in (("at any step", "success"), ("at the last step", "last")):
            if log and f"{name}/{about['tasks'][0]}" in log[0]:
                yield _by_round(run, log, about["tasks"], name, when)


def _by_round(
    run: RunFolder, log: Sequence[Mapping[str, float]], tasks: Sequence[str], name: str, when: str
) -> Plot:
    """The learner's success in each round, by task; `name` is that of the metric."""
    rounds = [int(line["step"]) - 1 for line in log]
    rates = {task: [line.get(f"{name}/{task}") for line in log] for task in tasks}
    lines = [
        figures.line(short(task), rounds, rate, run.place(task), opacity=0.75) for task, rate in rates.items()
    ]
    mean = [fmean(line[f"{name}/{task}"] for task in tasks if f"{name}/{task}" in line) for line in log]
    thick = {"line": {"color": "$ink", "width": 3.5}, "marker": {"color": "$ink", "size": 7}}
    lines.append(figures.line("mean", rounds, mean, 0, **thick) if len(tasks) > 1 else {})
    x = {"title": "round of the learner", "tickformat": "d", "dtick": max(1, len(rounds) // 12)}
    drawn = figures.figure(
        [one for one in lines if one], x=x, y=figures.share(f"success of the learner {when}")
    )
    header = ["task", *(f"round {r}" for r in rounds)]
    cells = [[short(task), *map(_two, rate)] for task, rate in rates.items()]
    return Plot(
        f"Distillation: success of the learner {when}, in each round",
        f"On average over tasks {mean[0]:.2f} in the first round and {mean[-1]:.2f} in the last, of {len(mean)}.",
        {"": drawn},
        caption="In each round the learner plays all tasks and the teachers label what it did; then it learns from "
        "all labels so far. In a part of the episodes a teacher plays some steps, and their success counts, too.",
        table=Table(f"Success of the learner {when}, by round", header, [*cells, ["mean", *map(_two, mean)]]),
    )


def _errors(run: RunFolder) -> Iterator[Block]:
    """Nothing, of collectives that were distilled before their errors were kept."""
    for _, about in run.of_kind("distill-collective"):
        if not (found := about.get("errors")):
            continue
        reached = max(i for row in found["by_task"].values() for i, e in enumerate(row) if e is not None) + 1
        begins = found["from_step"][:reached]
        by_task = {task: row[:reached] for task, row in found["by_task"].items()}
        ends = [f"{a} to {b - 1}" for a, b in pairwise(begins)] + [f"from {begins[-1]}"]
        names = [short(task) for task in by_task]
        worst, largest = max(
            ((task, error) for task, row in by_task.items() for error in row if error is not None),
            key=lambda one: one[1],
        )
        yield Plot(
            "Where the collective errs",
            f"Mean absolute difference from the teacher's action, whose entries lie between -1 and 1. The largest is "
            f"{largest:.2f}, in {short(worst)}.",
            {"": figures.heat(list(by_task.values()), ends, names, titles=("step of the episode", "task"))},
            caption="On episodes that it was not trained on, of teachers and of learners.",
            table=Table(
                "Errors by step of the episode",
                ["task", *ends],
                [
                    [short(task), *("" if e is None else f"{e:.3f}" for e in row)]
                    for task, row in by_task.items()
                ],
            ),
        )


def _two(value: Any) -> str:
    return "" if value is None else f"{value:.2f}"


# -- students ----------------------------------------------------------------------------------------------


def _students(run: RunFolder) -> Iterator[Block]:
    found: dict[str, list[tuple[Sealed, Found]]] = {}
    for stage, about in run.of_kind("train-student"):
        if stage.name.startswith(("student/", "sac/")):
            found.setdefault(stage.config["task"], []).append((stage, about))
    for task, members in found.items():
        lines, rows = [], []
        for stage, about in sorted(members, key=lambda one: one[0].name, reverse=True):
            helped = stage.name.startswith("student/")
            shade, name = figures.POLICIES["student" if helped else "sac"], HELPED if helped else PLAIN
            look = {"line": {"color": shade, "width": 2.5}, "marker": {"color": shade, "size": 7}}
            lines.append(figures.line(name, *_curve(run.metrics(stage), about), 0 if helped else 1, **look))
            rows.append([name, *_course(about)[:4]])
        yield Plot(
            f"Student of {short(task)}",
            ". ".join(f"{row[0]}: success {row[1]} after {row[2]} environment steps" for row in rows) + ".",
            {"": figures.figure(lines, x=figures.steps(), y=figures.share("success"))},
            caption="The same settings and seed. Steps that the collective played for the student are counted.",
            table=Table(
                f"Student of {short(task)}",
                ["student", "success in the end", "environment steps", "solved at", "seconds"],
                rows,
            ),
        )
