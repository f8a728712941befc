"""`evaluate`: any policy, by path or name, on Meta-World's own protocol."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.sealed import is_sealed
from collectiverl.evaluation.evaluate import SCHEMA, EvaluateConfig, Evaluation, evaluate
from collectiverl.policies import load_policy
from collectiverl.stages.base import Stage, Work, summary

PolicyKind = Literal["scripted", "expert", "told-nothing", "collective", "student", "sac"]
KINDS: tuple[PolicyKind, ...] = get_args(PolicyKind)  # in the order of tables


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """One policy on one task."""

    kind: PolicyKind
    policy: str  # a folder of the run, or a name such as scripted:push
    task: str
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


def evaluate_stage(config: Evaluate, seed: int) -> Stage[Evaluate]:
    named = ":" in config.policy
    return Stage(
        kind="evaluate",
        subject=f"{config.kind} {config.task}",
        out=paths.evaluation(config.kind, config.task, seed),
        function=evaluate_policy,
        config=config,
        inputs={} if named else {config.policy: ""},
        seed=seed,
    )


def evaluate_policy(work: Work[Evaluate]) -> dict[str, Any]:
    config = work.config
    folder = work.run / config.policy
    trained = is_sealed(folder)
    policy = load_policy(folder if trained else config.policy, task=config.task)
    result = evaluate(policy, config.task, config.evaluate, seed=work.seed, report=work.report)
    training = summary(folder) if trained else {}
    return detailed_row(config.kind, result) | {
        "trained_from": training.get("trained_from", ""),
        "env_steps": training.get("env_steps", 0),
        "seconds": training.get("seconds", 0.0),
    }


EACH_GOAL = "each_goal"  # a key of rows: what happened at each goal


def evaluation_report(policy: str, config: EvaluateConfig, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `evaluate` found, as JSON has it: the protocol, a row for each task, and the means."""
    measures = ("success_any", "success_last", "return")
    means = {name: sum(row[name] for row in rows) / len(rows) for name in measures} if rows else {}
    protocol = {"name": "each goal once, deterministic, to the time limit", **sealed.to_jsonable(config)}
    return {"schema": SCHEMA, "policy": policy, "protocol": protocol, "policies": rows, "mean": means}


def detailed_row(policy: str, result: Evaluation) -> dict[str, Any]:
    """A row that also says what happened at each goal."""
    of_goals = zip(
        *(result.goals, result.success_any, result.success_last, result.returns, result.first_success),
        strict=True,
    )
    names = ("goal", "success_any", "success_last", "return", "first_success")
    each = [dict(zip(names, values, strict=True)) for values in of_goals]
    return row(policy, result) | {EACH_GOAL: each}


def row(kind: str, result: Evaluation) -> dict[str, Any]:
    """One row of a table: `kind` is what the table calls the policy."""
    return {
        "policy": kind,
        "task": result.task,
        "success_any": result.rate_any,
        "success_last": result.rate_last,
        "interval": [round(float(bound), 4) for bound in result.interval],
        "return": round(result.return_mean, 2),
        "episodes": result.episodes,
        "goals": "hidden" if result.goals_hidden else "visible",
    }
