"""What a run found, from its sealed stages: every policy's row, means, and what they cost."""

from pathlib import Path
from typing import Any

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.pipeline.plan import KINDS, MET, RunConfig, Until, stages
from collectiverl.stages.base import SUMMARY, Stage, summary
from collectiverl.stages.experts import model_path, steps_to
from collectiverl.stages.online import online_path
from collectiverl.stages.representation import probe_path

EXPERTS = "experts.json"
COLLECTIVE_FROM = (  # the stages whose time counts as the collective's
    *("train-together", "train-task", "take-expert", "record"),
    *("train-transformer", "online-distill", "distill-collective"),
)


def summarize(run: Path, config: RunConfig, until: Until = "end") -> dict[str, Any]:
    """Every policy's row, from the sealed evaluations, written as `summary.json`; the experts' also alone."""
    learned = config.experts != "scripted"
    if learned and until == "end":
        summarize_experts(run, config)
    every = stages(config, until)
    online = summary(run / online_path(config.tasks, config.seed))
    experts = [summary(run / model_path(task, config.seed)) for task in config.tasks if learned]
    rows = [summary(run / stage.out) for stage in every if stage.name == "evaluate"]
    for row in rows:
        if row["policy"] == "collective":  # what it took to make: its teachers' steps and its own data's
            row["env_steps"] = sum(s["env_steps"] for s in (*experts, online))
            row["seconds"] = _seconds(run, every)
    rows.sort(key=lambda row: KINDS.index(row["policy"]))
    probe = summary(run / probe_path(config.encoder, MET))
    del probe["confusion"]  # thousands of numbers, of which the stage's own summary is the place
    probe["folder"] = probe_path(config.encoder, MET)
    result = {
        "tasks": list(config.tasks),
        "seed": config.seed,
        "policies": rows,
        "probe": probe,
        "mean": {kind: _mean(rows, kind) for kind in KINDS if any(row["policy"] == kind for row in rows)},
        "solved_at": {
            f"{s.subject} ({s.out.split('/')[0]})": summary(run / s.out)["solved_at"]
            for s in every
            if s.name == "train-student"
        },
        "stage_seconds": {s.out: sealed.manifest(run / s.out)["seconds"] for s in every},
        "versions": sealed.versions(),
    }
    checkpoints.write_json(run / SUMMARY, result)
    return result


def _mean(rows: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Over tasks, each counting alike."""
    mine = [row for row in rows if row["policy"] == kind]
    return {name: sum(row[name] for row in mine) / len(mine) for name in ("success_any", "success_last")}


def summarize_experts(run: Path, config: RunConfig) -> dict[str, Any]:
    """The experts' rows and what they cost, written as `experts.json`."""
    every = stages(config, "experts")
    trained = [summary(run / model_path(task, config.seed)) for task in config.tasks]
    result = {
        "tasks": list(config.tasks),
        "seed": config.seed,
        "policies": [summary(run / stage.out) for stage in every if stage.name == "evaluate"],
        "env_steps": sum(expert["env_steps"] for expert in trained),
        "core_seconds": round(sum(expert["seconds"] for expert in trained), 1),
        "steps_to_0.9": {task: steps_to(run / model_path(task, config.seed), 0.9) for task in config.tasks},
        "versions": sealed.versions(),
    }
    checkpoints.write_json(run / EXPERTS, result)
    return result


def _seconds(run: Path, every: list[Stage]) -> float:
    """Seconds of all stages that the collective is made from, as if done one after the other."""
    return round(sum(sealed.manifest(run / s.out)["seconds"] for s in every if s.name in COLLECTIVE_FROM), 1)
