"""`evaluate`: any policy, by path or name, on Meta-World's own protocol."""

from dataclasses import dataclass, field
from typing import Any

from collectiverl.artifacts.sealed import is_sealed
from collectiverl.evaluation.evaluate import EvaluateConfig, Evaluation, evaluate
from collectiverl.policies import load_policy
from collectiverl.stages.base import Stage, Work, summary


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """One policy on one task."""

    kind: str  # scripted, expert, collective, student or sac: what tables call it
    policy: str  # a folder below the run, or a name such as scripted:push
    task: str
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


def evaluate_stage(config: Evaluate, seed: int) -> Stage:
    named = ":" in config.policy
    return Stage(
        "evaluate",
        f"{config.kind} {config.task}",
        f"evaluation/{config.kind}/{config.task}/seed_{seed}",
        evaluate_policy,
        config,
        () if named else (config.policy,),
        seed,
    )


def evaluate_policy(work: Work) -> dict[str, Any]:
    config: Evaluate = work.config
    folder = work.run / config.policy
    trained = is_sealed(folder)
    policy = load_policy(folder if trained else config.policy, task=config.task)
    result = evaluate(policy, config.task, config.evaluate, seed=work.seed, report=work.report)
    training = summary(folder) if trained else {}
    return row(config.kind, result) | {
        "trained_from": training.get("trained_from", ""),
        "env_steps": training.get("env_steps", 0),
        "seconds": training.get("seconds", 0.0),
    }


def row(kind: str, result: Evaluation) -> dict[str, Any]:
    """One line of every table (issue: the main job)."""
    return {
        "policy": kind,
        "task": result.task,
        "success_any": result.rate_any,
        "success_last": result.rate_last,
        "interval": [round(float(bound), 4) for bound in result.interval],
        "return": round(result.return_mean, 2),
        "episodes": result.episodes,
    }
