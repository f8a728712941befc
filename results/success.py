"""The tables of success: of experts, of collectives beside their teachers, and of whole runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from collectiverl.artifacts.paths import EXPERTS_FIGURES
from collectiverl.evaluation.statistics import seeds_interval, success_interval
from collectiverl.reporting.cards import computed, seconds_of
from results import ledger
from results.students import HOLE, short

Rows = Mapping[str, dict[str, Any]]  # by task

SEEN = {"visible": "mt10", "hidden": "mt10-hidden"}  # goals, and the runs' name in the ledger
CONTROLS = {"zeros": "told nothing", "task_id": "told the task"}  # of goals hidden
MEANS = {"mean": "success_any", "mean, last step": "success_last"}
PRETRAINED = Path(__file__).parents[1] / "src/collectiverl/pretrained"


# -- collectives -----------------------------------------------------------------------------------------------


def collective(
    name: str, teacher: str = "expert", *, minutes: bool = False, untold: bool = False
) -> list[list[str]]:
    """Success of a collective task by task, beside that of its teachers; over all seeds that are in the ledger.

    Args:
        teacher: expert, of MT10 those that come with the package; or scripted. Of other tasks, what each run has
            evaluated beside, or the entries of the ledger that begin with teachers/NAME.
        minutes: a last row says how long the stages took, all together.
        untold: the last column is a policy without an encoder that is told nothing.
    """
    runs = ledger.read(f"collective/{name}_seed_")
    rows = [["task", teacher, "any step", "95 % interval", "each seed", "last step", f"{teacher}, last step"]]
    rows[0] += ["told nothing"] * untold
    if not runs:
        return rows
    tasks = list(of_kind(runs[0], "collective"))
    teachers = _experts() if teacher == "expert" else {}
    if not teachers.keys() >= set(tasks):
        teachers = of_kind(runs[0], teacher) or _judged_alone(name)
    for task in tasks:
        mine = [of_kind(run, "collective")[task] for run in runs]
        low, high = seeds_interval([_successes(row) for row in mine], [row["episodes"] for row in mine])
        rows.append(
            [
                short(task),
                _figure(teachers, [task], "success_any", 2),
                f"{_mean(row['success_any'] for row in mine):.2f}",
                f"{low:.2f} to {high:.2f}",
                ", ".join(f"{row['success_any']:.2f}" for row in mine),
                f"{_mean(row['success_last'] for row in mine):.2f}",
                _figure(teachers, [task], "success_last", 2),
                *(_untold(name, [task], 2) if untold else []),
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
            *(_untold(name, tasks, 3) if untold else []),
        ]
    )
    return rows + (_durations(runs) if minutes else [])


def _untold(name: str, tasks: Sequence[str], digits: int) -> list[str]:
    """Success at any step of the policy that is told nothing, over its seeds; or a hole."""
    found = [of_kind(run, "collective") for run in ledger.read(f"controls/{name}_zeros_seed_")]
    cells = [rows[task]["success_any"] for rows in found for task in tasks]
    return [f"{_mean(cells):.{digits}f}" if cells else HOLE]


def _durations(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    took = ", ".join(f"{sum(run['stage_seconds'].values()) / 60:.0f}" for run in runs)
    rows = [["minutes of all stages", "", "", "", took, "", ""]]
    if any("stage_core_seconds" in run for run in runs):
        rows.append(["core-minutes", "", "", "", ", ".join(map(_computed, runs)), "", ""])
    return rows


def _computed(run: Mapping[str, Any]) -> str:
    """The core-minutes of all stages, with the load of the machine; a hole if those of a stage are not known."""
    found = computed(dict(run))
    return f"{found[0] / 60:.0f} (load {found[1]:.1f} to {found[2]:.1f})" if found else HOLE


def front() -> list[list[str]]:
    """Success at any step, one column a way to see the goals: what the README shows."""
    teachers = _experts()
    runs = {goals: ledger.read(f"collective/{name}_seed_") for goals, name in SEEN.items()}
    rows = [["task", "its expert", *(f"one policy, goals {goals}" for goals in runs)]]
    for task in teachers:
        found = [[of_kind(run, "collective")[task]["success_any"] for run in of] for of in runs.values()]
        rows.append(
            [short(task), _figure(teachers, [task], "success_any", 2), *(f"{_mean(f):.2f}" for f in found)]
        )
    for title, key in MEANS.items():
        found = [[run["mean"]["collective"][key] for run in of] for of in runs.values()]
        rows.append(
            [title, _figure(teachers, list(teachers), key, 3), *(f"**{_mean(f):.3f}**" for f in found)]
        )
    return [*rows, ["training seeds", "1", *(str(len(of)) for of in runs.values())]]


def controls() -> list[list[str]]:
    """Success with goals hidden: the collective, and policies without an encoder."""
    runs = {"with `z`": ledger.read("collective/mt10-hidden_seed_")}
    runs |= {title: ledger.read(f"controls/mt10-hidden_{name}_seed_") for name, title in CONTROLS.items()}
    table = [["task", *runs]]
    for task in of_kind(runs["with `z`"][0], "collective"):
        found = ([of_kind(run, "collective")[task]["success_any"] for run in of] for of in runs.values())
        table.append([short(task), *(f"{_mean(seen):.2f}" if seen else HOLE for seen in found)])
    for title, key in MEANS.items():
        found = ([run["mean"]["collective"][key] for run in of] for of in runs.values())
        table.append([title, *(f"**{_mean(seen):.3f}**" if seen else HOLE for seen in found)])
    return [*table, ["training seeds", *(str(len(of)) for of in runs.values())]]


def of_kind(run: Mapping[str, Any], kind: str) -> Rows:
    """The figures of this kind of policy, by task."""
    return {row["task"]: row for row in run["policies"] if row["policy"] == kind}


def _experts() -> Rows:
    """Figures of the shipped experts on the goals of the collectives, by task: runs of the ledger evaluated both."""
    runs = ledger.read(f"collective/{SEEN['hidden']}_seed_")
    return next((rows for run in runs if (rows := of_kind(run, "expert"))), {})


def _judged_alone(name: str) -> Rows:
    """Figures of teachers that were evaluated by a command of their own, by task."""
    return {
        row["task"]: row
        for run in ledger.read(f"teachers/{name.removesuffix('-hidden')}")
        for row in run["policies"]
    }


# -- experts ---------------------------------------------------------------------------------------------------


def experts(collection: str) -> list[list[str]]:
    """The shipped experts of a collection: success, and what they cost."""
    heads = ["task", "from", "any step", "95 % interval", "last step"]
    rows = [[*heads, "environment steps", "to 0.9 twice", "seconds"]]
    path = PRETRAINED / collection / EXPERTS_FIGURES
    if not path.is_file():
        return rows
    card = json.loads(path.read_text())
    reached = card["steps_to_0.9"]
    for row in card["policies"]:
        costs = [row["env_steps"], reached[row["task"]], round(row["seconds"])]
        figures = (short(row["task"]), row["trained_from"], *_judged(row))
        rows.append([*figures, *map(_cost, costs)])
    means = [f"{_mean(r[key] for r in card['policies']):.3f}" for key in MEANS.values()]
    every = "" if None in reached.values() else _cost(sum(reached.values()))
    costs = [_cost(card["env_steps"]), every, _cost(round(seconds_of(card)))]
    return [*rows, ["all", "", means[0], "", means[1], *costs]]


def _cost(amount: int | None) -> str:
    return "not" if amount is None else f"{amount:,}"


# -- runs ------------------------------------------------------------------------------------------------------


def policies(name: str) -> list[list[str]]:
    """All policies of one run."""
    rows = [["policy", "task", "any step", "95 % interval", "last step", "environment steps"]]
    found = (row for run in ledger.read(f"{name}/seed_") for row in run["policies"])
    return rows + [[row["policy"], short(row["task"]), *_judged(row), _env_steps(row)] for row in found]


def original() -> list[list[str]]:
    """The thesis's sequence, one task a command, beside a run of the same tasks."""
    runs = [ledger.read(f"original/reach_push{suffix}_seed_") for suffix in ("", "_run")]
    rows = [["policy", "task", "environment steps", "one task a command", "last step", "`run`", "last step"]]
    if not all(runs):
        return rows
    alone, together = (of[0]["policies"] for of in runs)
    for row in alone:
        beside = [r for r in together if (r["policy"], r["task"]) == (row["policy"], row["task"])]
        found = [f"{r[key]:.2f}" for r in (row, *beside) for key in MEANS.values()]
        rows.append([row["policy"], short(row["task"]), _env_steps(row), *found, *[""] * (4 - len(found))])
    return rows


# -- cells -----------------------------------------------------------------------------------------------------


def _judged(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Success at any step, its interval, and success at the last step."""
    low, high = success_interval(_successes(row), row["episodes"])  # anew: the row's own is rounded
    return f"{row['success_any']:.2f}", f"{low:.2f} to {high:.2f}", f"{row['success_last']:.2f}"


def _successes(row: Mapping[str, Any]) -> int:
    return round(row["success_any"] * row["episodes"])


def _env_steps(row: Mapping[str, Any]) -> str:
    return f"{row['env_steps']:,}" if row["env_steps"] else ""


def _figure(rows: Rows, tasks: Sequence[str], key: str, digits: int) -> str:
    """The mean over these tasks, or a hole if one of them is missing."""
    return f"{_mean(rows[t][key] for t in tasks):.{digits}f}" if set(tasks) <= set(rows) else HOLE


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)
