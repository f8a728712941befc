"""`make tables`: writes the tables of README and docs from the ledger, between their markers.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is one of `TABLES`.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from collectiverl.evaluation.statistics import seeds_interval
from collectiverl.reporting.cards import computed
from results import ledger
from results.encoders import reconstruction
from results.memory import less_memory, memory
from results.meta import meta
from results.speeds import SPEEDS, arrivals, speed
from results.students import HOLE, ratios, settings, shaping, students

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md")))
MARKED = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
EMPTY = "(no run of this table is in the ledger yet)\n"
CHINESE = {
    "task": "任务",
    "its expert": "该任务的专家",
    "one policy, goals visible": "一个策略，目标可见",
    "one policy, goals hidden": "一个策略，目标隐藏",
    "mean": "平均",
    "mean, last step": "平均，最后一步",
    "training seeds": "训练种子数",
}
SEEN = {"visible": "mt10", "hidden": "mt10-hidden"}  # goals, and the runs' name in the ledger
EXPERTS = ROOT / "src/collectiverl/pretrained/mt10/experts.json"


def collective(name: str, teacher: str = "expert", minutes: bool = False) -> str:
    """Success of a collective task by task, beside that of its teachers; over all seeds that are in the ledger.

    Args:
        teacher: expert, those that come with the package; or scripted, which each run has evaluated beside, or the
            entries of the ledger that begin with teachers/NAME.
        minutes: a last row says how long the stages took, all together.
    """
    runs = ledger.read(f"collective/{name}_seed_")
    if not runs:
        return EMPTY
    teachers = _teachers() if teacher == "expert" else _rows(runs[0], teacher) or _judged_alone(name)
    rows = [["task", teacher, "any step", "95 % interval", "each seed", "last step", f"{teacher}, last step"]]
    tasks = list(_rows(runs[0], "collective"))
    for task in tasks:
        mine = [_rows(run, "collective")[task] for run in runs]
        low, high = seeds_interval(
            [round(row["success_any"] * row["episodes"]) for row in mine], [row["episodes"] for row in mine]
        )
        rows.append(
            [
                f"`{task.removesuffix('-v3')}`",
                _figure(teachers, [task], "success_any", 2),
                f"{_mean(row['success_any'] for row in mine):.2f}",
                f"{low:.2f} to {high:.2f}",
                ", ".join(f"{row['success_any']:.2f}" for row in mine),
                f"{_mean(row['success_last'] for row in mine):.2f}",
                _figure(teachers, [task], "success_last", 2),
            ]
        )
    means = [run["mean"]["collective"] for run in runs]
    rows.append(
        [
            "mean",
            _figure(teachers, tasks, "success_any", 3),
            f"**{_mean(mean['success_any'] for mean in means):.3f}**",
            "",
            ", ".join(f"{mean['success_any']:.3f}" for mean in means),
            f"{_mean(mean['success_last'] for mean in means):.3f}",
            _figure(teachers, tasks, "success_last", 3),
        ]
    )
    if minutes:
        took = ", ".join(f"{sum(run['stage_seconds'].values()) / 60:.0f}" for run in runs)
        rows.append(["minutes of all stages", "", "", "", took, "", ""])
        if any("stage_core_seconds" in run for run in runs):
            rows.append(["core-minutes", "", "", "", ", ".join(map(_computed, runs)), "", ""])
    return markdown(rows)


CONTROLS = {"zeros": "told nothing", "task_id": "told the task"}  # of goals hidden


def controls() -> str:
    """Success with goals hidden: the collective, and policies without an encoder."""
    runs = {"with `z`": ledger.read("collective/mt10-hidden_seed_")}
    runs |= {title: ledger.read(f"controls/mt10-hidden_{name}_seed_") for name, title in CONTROLS.items()}
    tasks = list(_rows(runs["with `z`"][0], "collective"))
    table = [["task", *runs]]
    for task in tasks:
        found = ([_rows(run, "collective")[task]["success_any"] for run in mine] for mine in runs.values())
        table.append(
            [f"`{task.removesuffix('-v3')}`", *(f"{_mean(seen):.2f}" if seen else HOLE for seen in found)]
        )
    for title, key in (("mean", "success_any"), ("mean, last step", "success_last")):
        found = ([run["mean"]["collective"][key] for run in mine] for mine in runs.values())
        table.append([title, *(f"**{_mean(seen):.3f}**" if seen else HOLE for seen in found)])
    return markdown([*table, ["training seeds", *(str(len(mine)) for mine in runs.values())]])


def _computed(run: dict[str, Any]) -> str:
    """The core-minutes of all stages, with the load of the machine; a hole if those of a stage are not known."""
    found = computed(run)
    return f"{found[0] / 60:.0f} (load {found[1]:.1f} to {found[2]:.1f})" if found else HOLE


def _figure(rows: dict[str, dict[str, Any]], tasks: Sequence[str], key: str, digits: int) -> str:
    """The mean over these tasks, or a hole if one of them is missing."""
    return f"{_mean(rows[t][key] for t in tasks):.{digits}f}" if set(tasks) <= set(rows) else HOLE


def _rows(run: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The figures of this kind of policy, by task."""
    return {row["task"]: row for row in run["policies"] if row["policy"] == kind}


def _teachers() -> dict[str, dict[str, Any]]:
    """Figures of the shipped experts, by task."""
    return {row["task"]: row for row in json.loads(EXPERTS.read_text())["policies"]}


def _judged_alone(name: str) -> dict[str, dict[str, Any]]:
    """Figures of teachers that were evaluated by a command of their own, by task."""
    return {
        row["task"]: row
        for run in ledger.read(f"teachers/{name.removesuffix('-hidden')}")
        for row in run["policies"]
    }


def experts() -> str:
    """The shipped experts of MT10: success, and what they cost."""
    card = json.loads(EXPERTS.read_text())
    rows = [
        [
            "task",
            "from",
            "any step",
            "95 % interval",
            "last step",
            "environment steps",
            "to 0.9 twice",
            "seconds",
        ]
    ]
    for row in card["policies"]:
        low, high = row["interval"]
        figures = [f"{row['success_any']:.2f}", f"{low:.2f} to {high:.2f}", f"{row['success_last']:.2f}"]
        costs = [row["env_steps"], card["steps_to_0.9"][row["task"]], round(row["seconds"])]
        name = row["task"].removesuffix("-v3")
        rows.append([f"`{name}`", row["trained_from"], *figures, *(f"{cost:,}" for cost in costs)])
    means = [f"{_mean(r[key] for r in card['policies']):.3f}" for key in ("success_any", "success_last")]
    costs = [card["env_steps"], sum(card["steps_to_0.9"].values()), round(card["core_seconds"])]
    return markdown([*rows, ["all", "", means[0], "", means[1], *(f"{cost:,}" for cost in costs)]])


def front() -> str:
    """Success at any step, one column a way to see the goals: what the README shows."""
    teachers = _teachers()
    runs = {goals: ledger.read(f"collective/{name}_seed_") for goals, name in SEEN.items()}
    rows = [["task", "its expert", *(f"one policy, goals {goals}" for goals in runs)]]
    for task, teacher in teachers.items():
        found = [[_rows(run, "collective")[task]["success_any"] for run in of] for of in runs.values()]
        rows.append(
            [
                f"`{task.removesuffix('-v3')}`",
                f"{teacher['success_any']:.2f}",
                *(f"{_mean(f):.2f}" for f in found),
            ]
        )
    for name, key in (("mean", "success_any"), ("mean, last step", "success_last")):
        found = [[run["mean"]["collective"][key] for run in of] for of in runs.values()]
        teacher = _mean(row[key] for row in teachers.values())
        rows.append([name, f"{teacher:.3f}", *(f"**{_mean(f):.3f}**" for f in found)])
    rows.append(["training seeds", "1", *(str(len(of)) for of in runs.values())])
    return markdown(rows)


def policies(name: str) -> str:
    """All policies of one run."""
    runs = ledger.read(f"{name}/seed_")
    if not runs:
        return EMPTY
    (run,) = runs
    rows = [["policy", "task", "any step", "95 % interval", "last step", "environment steps"]]
    for row in run["policies"]:
        low, high = row["interval"]
        steps = f"{row['env_steps']:,}" if row["env_steps"] else ""
        figures = [
            f"{row['success_any']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{row['success_last']:.2f}",
            steps,
        ]
        rows.append([row["policy"], f"`{row['task'].removesuffix('-v3')}`", *figures])
    return markdown(rows)


def original() -> str:
    """The thesis's sequence, one task a command, beside a run of the same tasks."""
    runs = [ledger.read(f"original/reach_push{suffix}_seed_") for suffix in ("", "_run")]
    if not all(runs):
        return EMPTY
    alone, together = (of[0]["policies"] for of in runs)
    rows = [["policy", "task", "environment steps", "one task a command", "last step", "`run`", "last step"]]
    for row in alone:
        beside = [r for r in together if (r["policy"], r["task"]) == (row["policy"], row["task"])]
        found = [f"{r[key]:.2f}" for r in (row, *beside) for key in ("success_any", "success_last")]
        steps = f"{row['env_steps']:,}" if row["env_steps"] else ""
        rows.append(
            [row["policy"], f"`{row['task'].removesuffix('-v3')}`", steps, *found, *[""] * (4 - len(found))]
        )
    return markdown(rows)


def in_chinese(table: str) -> str:
    """The table with those of its cells that are words in Chinese."""
    return re.sub(r"(?<=\| )[^|]+(?= \|)", lambda cell: CHINESE.get(cell[0], cell[0]), table)


TABLES: dict[str, Callable[[], str]] = {
    "front": front,
    "front-zh": lambda: in_chinese(front()),
    "experts": experts,
    "original": original,
    "quickstart": lambda: policies("quickstart"),
    "reference": lambda: policies("reference"),
    "memory": lambda: markdown(memory()),
    "less-memory": lambda: markdown(less_memory()),
    "scratch": lambda: policies("scratch"),
    "mt10": lambda: collective("mt10"),
    "mt10-hidden": lambda: collective("mt10-hidden"),
    "controls": controls,
    "mt50": lambda: collective("mt50", "scripted"),
    "fetch": lambda: collective("fetch", "scripted", minutes=True),
    "fetch-hidden": lambda: collective("fetch-hidden", "scripted", minutes=True),
    "students": lambda: markdown(students("mt10")),
    "students-settings": lambda: markdown(settings("mt10")),
    "students-shaping": lambda: markdown(shaping("mt10")),
    "reconstruction": lambda: markdown(reconstruction()),
    "students-ratios": lambda: markdown(ratios("mt10")),
    "ml10": lambda: markdown(meta("ml10")),
    "ml45": lambda: markdown(meta("ml45")),
    "speed-time-to-success": arrivals,
    **{f"speed-{name}": partial(speed, name) for name in SPEEDS},
}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head; a head alone is no table."""
    if len(rows) < 2:
        return EMPTY
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def written(page: str) -> str:
    """The page with its tables as the ledger has them."""

    def table(found: re.Match[str]) -> str:
        begin, name, _, end = found.groups()
        return begin + TABLES[name]() + end

    return MARKED.sub(table, page)


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)


def main() -> int:
    for page in PAGES:
        text = page.read_text()
        if (new := written(text)) != text:
            page.write_text(new)
            print(f"{page.relative_to(ROOT)} has new tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
