"""`compare-students`: what the collective's help is worth, strategy by strategy and task by task.

Every student is trained until its success rate has reached the level twice in a row, or for the most steps.
The measure is the number of environment steps, relative to plain SAC with the same settings and seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.files import read_json
from collectiverl.artifacts.metrics import read_metrics
from collectiverl.artifacts.paths import COLLECTIVE, COMPARISON
from collectiverl.artifacts.validation import MOST_EPISODES, MOST_TRAININGS, at_least, at_most, renamed
from collectiverl.envs.tasks import label, resolve
from collectiverl.evaluation.statistics import seeds_interval
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.plan import unfinished
from collectiverl.reporting.ratios import PLAIN, median_ratio, ratio
from collectiverl.sac.settings import TrainConfig
from collectiverl.stages.base import Stage, summary
from collectiverl.stages.cloning import CloneStudent, clone_student_stage
from collectiverl.stages.collective import take_collective_stage
from collectiverl.stages.evaluation import Evaluate, evaluate_stage
from collectiverl.stages.experts import BEFORE, steps_to
from collectiverl.stages.students import (
    FinetuneStudent,
    TrainStudent,
    finetune_student_stage,
    train_student_stage,
)
from collectiverl.student.finetune import FinetuningConfig
from collectiverl.student.strategies import DEFAULT, Name
from collectiverl.studies.table import write_table
from collectiverl.types import ConfigError, UserError

RESULT, PICTURE = "comparison.json", "curves.png"
ZERO_SHOT, CLONING = "zero-shot", "cloning"
FINETUNE, FINETUNE_ENCODER = "finetune", "finetune-encoder"
UNTRAINED = (ZERO_SHOT, CLONING)  # not trained by SAC: evaluated once
TIMES = 2  # evaluations in a row that must reach the level
ROWS = (ZERO_SHOT, CLONING, PLAIN, "+".join(DEFAULT))


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """Which students are compared, and how they are evaluated."""

    tasks: tuple[str, ...] = ()  # tasks of the students; none: the run's student tasks
    strategies: tuple[str, ...] = ROWS  # one row each; strategies joined by + are combined
    collective: str = "mt10"  # name of a shipped one, or a run's folder; {task} is the student's task
    seeds: int = 3  # students of each strategy and task
    steps: int = 60_000  # environment steps of a student, at most
    eval_every: int = 2_000  # environment steps between evaluations
    eval_episodes: int = 50  # of each evaluation
    success: float = 0.9  # success rate to be reached in two evaluations in a row

    def __post_init__(self) -> None:
        at_least(self, 1, "seeds", "steps", "eval_every", "eval_episodes")
        at_most(self, MOST_TRAININGS, "seeds")
        at_most(self, MOST_EPISODES, "eval_episodes")
        if not 0 < self.success <= 1:
            raise ConfigError("success", f"{self.success} is not in (0, 1]")
        combined = set(get_args(Name)) - {PLAIN}
        alone = {PLAIN, *UNTRAINED, FINETUNE, FINETUNE_ENCODER}
        unknown = [row for row in self.strategies if row not in alone and not set(row.split("+")) <= combined]
        if unknown or not self.strategies or len(set(self.strategies)) < len(self.strategies):
            raise ConfigError(
                "strategies",
                f"{' '.join(unknown or self.strategies)}: choose some of {', '.join(sorted(alone))}, and "
                f"of {', '.join(sorted(combined))}, several of these joined by +, each row once",
            )

    @property
    def name(self) -> str:
        """The folder of the comparison is named after the collective."""
        path = Path(self.collective)
        path = path.parent if path.name == COLLECTIVE else path
        return path.name.replace("{", "").replace("}", "")

    def of(self, task: str) -> str:
        """The collective that helps in a task: `push` and `push-v3` both stand for it."""
        return self.collective.replace("{task}", label(task))

    def train(self, base: TrainConfig) -> TrainConfig:
        return replace(
            base,
            steps=self.steps,
            eval_every=self.eval_every,
            eval_episodes=self.eval_episodes,
            eval_envs=self.eval_episodes,
            stop_success=self.success,
            stop_evaluations=TIMES,
        )


@dataclass(frozen=True)
class Cell:
    """One student, or one baseline."""

    strategy: str
    task: str
    seed: int
    stage: Stage


def tasks(config: RunConfig, comparison: ComparisonConfig) -> tuple[str, ...]:
    return resolve(comparison.tasks or config.student_tasks)


def cells(config: RunConfig, comparison: ComparisonConfig) -> Iterator[Cell]:
    """All students; plain SAC comes first, since it takes longest."""
    strategies = sorted(comparison.strategies, key=lambda name: name != PLAIN)
    for strategy in strategies:
        for task in tasks(config, comparison):
            for i in range(1 if strategy == ZERO_SHOT else comparison.seeds):
                seed = config.seed + 1 + i
                with renamed(train=""):
                    stage = _stage(config, comparison, strategy, task, seed)
                yield Cell(strategy, task, seed, stage)


def _stage(config: RunConfig, comparison: ComparisonConfig, strategy: str, task: str, seed: int) -> Stage:
    collective = "" if strategy == PLAIN else _taken(comparison, task).out
    of = "" if strategy == PLAIN else comparison.name
    out = paths.compared_student(strategy, task, seed, of)
    train = comparison.train(config.student)
    if strategy == ZERO_SHOT:
        evaluation = Evaluate(kind="collective", policy=collective, task=task)
        return replace(evaluate_stage(evaluation, config.seed), out=out)
    if strategy in (FINETUNE, FINETUNE_ENCODER):
        how = FinetuningConfig(encoder=strategy == FINETUNE_ENCODER)
        tuned = FinetuneStudent(task=task, backend=config.backend, train=train, finetuning=how)
        return finetune_student_stage(tuned, seed, collective=collective, out=out)
    student = TrainStudent(task=task, backend=config.backend, train=train, strategy=None)
    if strategy == CLONING:
        cloned = CloneStudent(student=student, prior_data=config.strategy.prior_data)
        return clone_student_stage(cloned, seed, collective=collective, out=out)
    if strategy != PLAIN:
        use = cast(tuple[Name, ...], tuple(strategy.split("+")))
        student = replace(student, strategy=replace(config.strategy, use=use))
    return train_student_stage(student, seed, collective=collective, out=out)


@cache
def _taken(comparison: ComparisonConfig, task: str) -> Stage:
    """The collective that helps in a task, in the run's folder."""
    source = comparison.of(task)
    name = comparison.name if source == comparison.collective else f"{comparison.name}/{task}"
    return take_collective_stage(source, paths.compared_collective(name))


def stages(run: Path, config: RunConfig, comparison: ComparisonConfig) -> list[Stage]:
    """The collectives that help, then all students."""
    every = list(cells(config, comparison))
    taken = {}
    if set(comparison.strategies) != {PLAIN}:
        taken = {(s := _taken(comparison, task)).out: s for task in tasks(config, comparison)}
    return [*taken.values(), *(cell.stage for cell in every)]


# -- the table ----------------------------------------------------------------------------------------------


def summarize(run: Path, config: RunConfig, comparison: ComparisonConfig) -> dict[str, Any]:
    """One row per strategy and task, with curves and the ratio to plain SAC; written as `comparison.json`.

    Tasks and strategies of earlier calls stay in it, as long as all else is asked for as it was then.
    """
    comparison = _with_earlier(run, config, comparison)
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells(config, comparison):
        found.setdefault((cell.strategy, cell.task), []).append(cell)
    missing = {stage.out for stage in unfinished(run, stages(run, config, comparison), overwrite=True)}
    made = [mine for mine in found.values() if not missing & {cell.stage.out for cell in mine}]
    rows = [_row(run, mine, comparison) for mine in made]
    plain = {row["task"]: row for row in rows if row["strategy"] == PLAIN}
    for row in rows:
        if row["strategy"] not in UNTRAINED and row["task"] in plain:
            row["ratio"] = ratio(plain[row["task"]], row, comparison.steps)
    medians = {name: median_ratio(rows, name) for name in comparison.strategies}
    return write_table(result_path(run, comparison), rows, comparison, median_ratio=medians)


def _with_earlier(run: Path, config: RunConfig, comparison: ComparisonConfig) -> ComparisonConfig:
    """The same, with the tasks and strategies of earlier calls added."""
    comparison = replace(comparison, tasks=tasks(config, comparison))
    path = result_path(run, comparison)
    mine = ("tasks", "strategies")
    try:
        before = read_json(path)["settings"]
        if any(
            before[name] != value
            for name, value in sealed.to_jsonable(comparison).items()
            if name not in mine
        ):
            return comparison
        both = {name: tuple(dict.fromkeys((*getattr(comparison, name), *before[name]))) for name in mine}
        wider = replace(comparison, **both)
        stages(run, config, wider)
    except (UserError, KeyError, TypeError, ValueError):
        return comparison  # there is no earlier result, it is damaged, or its collective is gone
    return wider


def result_path(run: Path, comparison: ComparisonConfig) -> Path:
    """The picture of the curves lies beside it."""
    return run / COMPARISON / comparison.name / RESULT


def _row(run: Path, mine: Sequence[Cell], comparison: ComparisonConfig) -> dict[str, Any]:
    folders = [run / cell.stage.out for cell in mine]
    summaries = [summary(path) for path in folders]
    row: dict[str, Any] = {"strategy": mine[0].strategy, "task": mine[0].task}
    row["seeds"] = [cell.seed for cell in mine]
    if mine[0].strategy == ZERO_SHOT:
        return row | {"success": [summaries[0]["success_any"]], "interval": summaries[0]["interval"]}
    if mine[0].strategy == CLONING:
        row["success"] = [s["success"] for s in summaries]
        row["env_steps"] = [s["env_steps"] for s in summaries]
        return row | {"interval": _interval(row["success"], comparison.eval_episodes)}
    row["mentor_success"] = [s.get("mentor_success") for s in summaries]
    before = [s.get(BEFORE, 0) for s in summaries]
    reached = [steps_to(path, comparison.success, TIMES) for path in folders]
    row["steps"] = [None if s is None else s + b for s, b in zip(reached, before, strict=True)]
    row["seconds"] = [s["seconds"] for s in summaries]
    row["curves"] = [
        {"steps": [int(line["step"]) + b for line in log], "success": [line["eval/success"] for line in log]}
        for log, b in zip(map(read_metrics, folders), before, strict=True)
    ]
    row["success"] = [s["success"] for s in summaries]  # on goals that no evaluation in training had
    return row


def _interval(rates: Sequence[float], episodes: int) -> list[float]:
    successes = [round(rate * episodes) for rate in rates]
    return [round(bound, 4) for bound in seeds_interval(successes, [episodes] * len(rates))]
