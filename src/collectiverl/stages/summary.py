"""The summary of a run: every policy's row, means, and what they cost, from the sealed stages."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectiverl.artifacts import paths, provenance, sealed
from collectiverl.stages.base import (
    Stage,
    Work,
    core_seconds,
    load,
    peak_memory,
    seconds,
    summary,
    wall_seconds,
)
from collectiverl.stages.evaluation import EACH_GOAL, KINDS
from collectiverl.stages.experts import BEFORE, steps_to
from collectiverl.stages.students import TrainStudent

EXPERTS_FROM = ("train-together", "train-task", "take-expert")
COLLECTIVE_FROM = (  # the stages whose time counts as the collective's
    *(*EXPERTS_FROM, "record"),
    *("train-transformer", "online-distill", "distill-collective"),
)


@dataclass(frozen=True, kw_only=True)
class SummarizeExperts:
    """The experts of a run; `experts` and `evaluations` are their folders, one per task."""

    tasks: tuple[str, ...]
    experts: tuple[str, ...]
    evaluations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SummarizeRun:
    """All policies of a run; every string but a task or a label is a folder of the run."""

    tasks: tuple[str, ...]
    probe: str  # "": the collective has no encoder to be judged
    evaluations: tuple[str, ...]
    students: Mapping[str, str]  # label -> folder
    made_from: tuple[str, ...]  # the stages whose time counts as the collective's
    stages: tuple[str, ...]  # all


def summary_of_experts(
    tasks: tuple[str, ...], experts: tuple[str, ...], every: Sequence[Stage], seed: int
) -> Stage[SummarizeExperts]:
    """`experts` are the folders of the experts, `every` the stages that train and evaluate them."""
    found = tuple(s.out for s in every if s.kind == "evaluate" and s.config.kind == "expert")
    return Stage(
        kind="summary",
        subject="experts",
        out=paths.summary("experts"),
        function=summarize_experts,
        config=SummarizeExperts(tasks=tasks, experts=experts, evaluations=found),
        inputs=dict.fromkeys((*experts, *found), ""),
        seed=seed,
    )


def summary_of_run(
    until: str, tasks: tuple[str, ...], every: Sequence[Stage], seed: int
) -> Stage[SummarizeRun]:
    """`every`: the stages of the run, at most one probe among them."""
    probe = next((s.out for s in every if s.kind == "probe"), "")
    students = (s for s in every if isinstance(s.config, TrainStudent))
    config = SummarizeRun(
        tasks=tasks,
        probe=probe,
        evaluations=tuple(s.out for s in every if s.kind == "evaluate"),
        students={f"{s.config.task} ({s.config.kind})": s.out for s in students},
        made_from=tuple(s.out for s in every if s.kind in COLLECTIVE_FROM),
        stages=tuple(s.out for s in every),
    )
    return Stage(
        kind="summary",
        subject=until,
        out=paths.summary(until),
        function=summarize_run,
        config=config,
        inputs=dict.fromkeys(config.stages, ""),
        seed=seed,
    )


def summarize_experts(work: Work[SummarizeExperts]) -> dict[str, Any]:
    """The experts' rows and what they cost."""
    config = work.config
    trained = [summary(work.run / folder) for folder in config.experts]
    reached = {
        task: None if (steps := steps_to(work.run / folder, 0.9)) is None else steps + own.get(BEFORE, 0)
        for task, folder, own in zip(config.tasks, config.experts, trained, strict=True)
    }
    return {
        "tasks": list(config.tasks),
        "seed": work.seed,
        "policies": [_row(work.run, folder) for folder in config.evaluations],
        "env_steps": sum(expert["env_steps"] for expert in trained),
        "seconds": round(sum(expert["seconds"] for expert in trained), 1),
        **_costs(work.run, config.experts),
        "steps_to_0.9": reached,
        "versions": provenance.versions(),
    }


def summarize_run(work: Work[SummarizeRun]) -> dict[str, Any]:
    """Every policy's row; what is learned from the experts has their environment steps beside its own."""
    config = work.config
    rows = [_row(work.run, folder) for folder in config.evaluations]
    rows.sort(key=lambda row: KINDS.index(row["policy"]))
    return {
        "tasks": list(config.tasks),
        "seed": work.seed,
        "policies": [_with_experts(row, work.run, config) for row in rows],
        "probe": _probe(work.run, config.probe) if config.probe else None,
        "mean": {kind: mean(rows, kind) for kind in KINDS if any(row["policy"] == kind for row in rows)},
        "solved_at": {
            label: summary(work.run / folder)["solved_at"] for label, folder in config.students.items()
        },
        **_costs(work.run, config.stages),
        "versions": provenance.versions(),
    }


def _costs(run: Path, stages: Sequence[str]) -> dict[str, Any]:
    """What each stage took and computed, the machine's load before and after it, the most memory; and the clock's time.

    Films are drawn beside, and leave nothing that others wait for.
    """
    worked = [run / folder for folder in stages if sealed.manifest(run / folder)["stage"] != "film"]
    of = {"seconds": seconds, "core_seconds": core_seconds, "load": load, "memory": peak_memory}
    each = {f"stage_{name}": {folder: cost(run / folder) for folder in stages} for name, cost in of.items()}
    return {"wall_seconds": wall_seconds(worked), **each}


def _row(run: Path, folder: str) -> dict[str, Any]:
    """Without what happened at each goal, which stands in the evaluation's own summary."""
    return {name: value for name, value in summary(run / folder).items() if name != EACH_GOAL}


def _with_experts(row: dict[str, Any], run: Path, config: SummarizeRun) -> dict[str, Any]:
    """A row that counts the experts, if its policy learned from them; seconds as if stages ran in turn."""

    def steps(folders: Iterable[str]) -> int:
        return sum(summary(run / folder).get("env_steps", 0) for folder in folders)

    if row["policy"] == "collective":
        took = sum(seconds(run / folder) for folder in config.made_from)
        return row | {"env_steps": steps(config.made_from), "seconds": round(took, 1)}
    if row["policy"] == "told-nothing":
        experts = (f for f in config.made_from if sealed.manifest(run / f)["stage"] in EXPERTS_FROM)
        return row | {"env_steps": row["env_steps"] + steps(experts)}
    return row


def _probe(run: Path, folder: str) -> dict[str, Any]:
    """Without the confusions: thousands of numbers that stand in the probe's own summary."""
    found = summary(run / folder)
    del found["confusion"]
    return found | {"folder": folder}


def mean(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, float]:
    """The mean over tasks, all with the same weight."""
    mine = [row for row in rows if row["policy"] == kind]
    return {name: sum(row[name] for row in mine) / len(mine) for name in ("success_any", "success_last")}
