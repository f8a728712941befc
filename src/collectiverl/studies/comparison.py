"""`compare-students`: what the collective's help is worth, strategy by strategy and task by task.

Every student is trained until its success rate has reached the level twice in a row, or for the most steps.
The measure is the number of environment steps, relative to plain SAC with the same settings and seeds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.files import read_json
from collectiverl.artifacts.paths import COMPARISON
from collectiverl.artifacts.validation import (
    MOST_ENVS,
    MOST_EPISODES,
    MOST_STEPS,
    MOST_TRAININGS,
    at_least,
    at_most,
    renamed,
)
from collectiverl.envs.tasks import label, resolve
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.plan import unfinished
from collectiverl.reporting.ratios import PLAIN, median_ratio
from collectiverl.sac.settings import STUDENT_UPDATES, TrainConfig
from collectiverl.stages.base import Stage
from collectiverl.stages.cloning import CloneStudent, clone_student_stage
from collectiverl.stages.collective import random_collective_stage, take_collective_stage
from collectiverl.stages.evaluation import Evaluate, evaluate_stage
from collectiverl.stages.students import TrainStudent, train_student_stage
from collectiverl.student.strategies import ALONE, DEFAULT, Name, StrategyConfig
from collectiverl.studies.cells import (
    CLONING,
    RANDOM,
    TIMES,
    UNTRAINED,
    ZERO_SHOT,
    cell_result,
    compared,
    named,
    parsed,
    row_of,
)
from collectiverl.studies.table import write_table
from collectiverl.types import ConfigError, UserError

RESULT, PICTURE = "comparison.json", "curves.png"
FINETUNE_ENCODER, FINETUNE_HELD = "finetune-encoder", "finetune-held"
HOLD = 6_400  # steps for which a student of that row is held by default: an episode in each environment
ROWS = (ZERO_SHOT, PLAIN, "+".join(DEFAULT))


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """Which students are compared, and how they are evaluated."""

    tasks: tuple[str, ...] = ()  # tasks of the students; none: the run's student tasks
    strategies: tuple[str, ...] = ROWS  # one row each; joined by + they are combined; none@8 makes 8 updates
    collective: str = "mt10"  # name of a shipped one, or a run's folder; {task} is the student's task
    seeds: int = 3  # students of each strategy and task
    steps: int = 60_000  # environment steps of a student, at most
    eval_every: int = 500  # environment steps between evaluations
    eval_episodes: int = 50  # of an evaluation
    eval_first: int = 10  # of these; the others are played only if 0.8 of the first succeed
    eval_horizon: int | None = 200  # steps of its episodes, those of training; None: the task's own limit
    success: float = 0.9  # success rate to be reached in two evaluations in a row
    stop: bool = True  # a student stops once it has reached it; if not, it takes all steps
    # of all strategies but none, after each step of all 32 environments
    updates_per_step: int = STUDENT_UPDATES
    plain_updates_per_step: int = STUDENT_UPDATES  # of none, plain SAC

    def __post_init__(self) -> None:
        paths.named_after(self.collective)
        at_least(self, 1, "seeds", "steps", "eval_every", "eval_episodes", "eval_first")
        at_least(self, 1, "eval_horizon", "updates_per_step", "plain_updates_per_step")
        at_most(self, MOST_STEPS, "eval_horizon")
        at_most(self, MOST_TRAININGS, "seeds")
        at_most(self, MOST_EPISODES, "eval_episodes", "eval_first")
        at_most(self, MOST_ENVS, "updates_per_step", "plain_updates_per_step")
        if not 0 < self.success <= 1:
            raise ConfigError("success", f"{self.success} is not in (0, 1]")
        combined = set(get_args(Name)) - set(ALONE)
        alone = {*ALONE, *UNTRAINED, FINETUNE_ENCODER, FINETUNE_HELD, RANDOM}
        bases = {row: parsed(row)[0] for row in self.strategies}
        unknown = [row for row, of in bases.items() if of not in alone and not set(of.split("+")) <= combined]
        unknown += [row for row, of in bases.items() if of in UNTRAINED and row != of]
        trained = {self.trained(row) for row in self.strategies}
        if unknown or not self.strategies or len(trained) < len(self.strategies):
            raise ConfigError(
                "strategies",
                f"{' '.join(unknown or self.strategies)}: choose some of {', '.join(sorted(alone))}, and "
                f"of {', '.join(sorted(combined))}, several of these joined by +, each row once; "
                f"{PLAIN}@8 is {PLAIN} with 8 updates after each vector step",
            )

    @property
    def name(self) -> str:
        """The folder of the comparison is named after the collective."""
        return paths.named_after(self.collective)

    def of(self, task: str) -> str:
        """The collective that helps in a task: `push` and `push-v3` both stand for it."""
        return self.collective.replace("{task}", label(task))

    def updates(self, row: str) -> int:
        """Updates after each vector step: the row's own, or those of its side."""
        strategy, own = parsed(row)
        return own or (self.plain_updates_per_step if strategy == PLAIN else self.updates_per_step)

    def trained(self, row: str) -> tuple[str, int]:
        """The strategy and its updates: two rows that have the same ones are of the same students."""
        return parsed(row)[0], self.updates(row)

    def train(self, base: TrainConfig, row: str) -> TrainConfig:
        first = min(self.eval_first, self.eval_episodes)
        return replace(
            base,
            steps=self.steps,
            eval_every=self.eval_every,
            eval_episodes=self.eval_episodes,
            eval_first=first,
            eval_envs=first,
            eval_horizon=self.eval_horizon,
            stop_success=self.success,
            stop_evaluations=TIMES if self.stop else 0,
            updates_per_step=self.updates(row),
        )


@dataclass(frozen=True)
class Cell:
    """One student, or one baseline."""

    strategy: str  # the row that it is part of
    task: str
    seed: int
    stage: Stage


def tasks(config: RunConfig, comparison: ComparisonConfig) -> tuple[str, ...]:
    return resolve(comparison.tasks or config.student_tasks)


def cells(config: RunConfig, comparison: ComparisonConfig) -> Iterator[Cell]:
    """All students; plain SAC comes first, since it takes longest."""
    strategies = sorted(comparison.strategies, key=lambda row: parsed(row)[0] != PLAIN)
    for strategy in strategies:
        for task in tasks(config, comparison):
            for i in range(1 if strategy == ZERO_SHOT else comparison.seeds):
                seed = config.seed + 1 + i
                with renamed(train=""):
                    stage = _stage(config, comparison, strategy, task, seed)
                yield Cell(strategy, task, seed, stage)


def _stage(config: RunConfig, comparison: ComparisonConfig, row: str, task: str, seed: int) -> Stage:
    strategy, _ = parsed(row)
    collective = "" if strategy == PLAIN else _helper(comparison, strategy, task, seed).out
    of = "" if strategy == PLAIN else comparison.name
    name = strategy if strategy in UNTRAINED else named(strategy, comparison.updates(row))
    out = paths.compared_student(name, task, seed, of)
    train = comparison.train(config.student, row)
    if strategy == ZERO_SHOT:
        evaluation = Evaluate(kind="collective", policy=collective, task=task)
        return replace(evaluate_stage(evaluation, config.seed), out=out)
    student = TrainStudent(task=task, backend=config.backend, train=train, strategy=None)
    if strategy == CLONING:
        cloned = CloneStudent(student=student, prior_data=config.strategy.prior_data)
        return clone_student_stage(cloned, seed, collective=collective, out=out)
    if strategy != PLAIN:
        student = replace(student, strategy=_help(config.strategy, strategy))
    return train_student_stage(student, seed, collective=collective, out=out)


def _help(settings: StrategyConfig, row: str) -> StrategyConfig:
    """The run's settings of strategies, of which the row names those that are used."""
    if row == FINETUNE_ENCODER:
        return replace(settings, use=("finetune",), finetune=replace(settings.finetune, encoder=True))
    if row == FINETUNE_HELD:
        held = replace(settings.finetune, hold=settings.finetune.hold or HOLD)
        return replace(settings, use=("finetune",), finetune=held)
    return replace(settings, use=DEFAULT if row == RANDOM else cast(tuple[Name, ...], tuple(row.split("+"))))


@cache
def _taken(comparison: ComparisonConfig, task: str) -> Stage:
    """The collective that helps in a task, in the run's folder."""
    source = comparison.of(task)
    name = comparison.name if source == comparison.collective else f"{comparison.name}/{task}"
    return take_collective_stage(source, paths.compared_collective(name))


def _helper(comparison: ComparisonConfig, strategy: str, task: str, seed: int) -> Stage:
    """The collective that helps; for the control `random` the same one with untrained networks, drawn by the seed."""
    taken = _taken(comparison, task)
    return random_collective_stage(taken.out, seed) if strategy == RANDOM else taken


def stages(run: Path, config: RunConfig, comparison: ComparisonConfig) -> list[Stage]:
    """The collectives that help, then all students."""
    every = list(cells(config, comparison))
    helpers = {}
    for cell in every:
        strategy, _ = parsed(cell.strategy)
        if strategy != PLAIN:
            for stage in (_taken(comparison, cell.task), _helper(comparison, strategy, cell.task, cell.seed)):
                helpers[stage.out] = stage
    return [*helpers.values(), *(cell.stage for cell in every)]


# -- the table ----------------------------------------------------------------------------------------------


def summarize(run: Path, config: RunConfig, comparison: ComparisonConfig) -> dict[str, Any]:
    """One row per strategy and task, with curves and the ratio to plain SAC; written as `comparison.json`.

    Tasks, strategies and seeds of earlier calls stay in it, as long as all else is asked for as it was then. A row that
    is asked for by another name, such as `none@32` for `none`, stays once, by its new name. Cells that are not done yet
    are holes.
    """
    comparison = _with_earlier(run, config, comparison)
    wanted: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells(config, comparison):
        wanted.setdefault((cell.strategy, cell.task), []).append(cell)
    missing = {stage.out for stage in unfinished(run, stages(run, config, comparison), overwrite=True)}
    rows = [
        row_of(*key, len(mine), [cell_result(run / c.stage.out) for c in mine if c.stage.out not in missing])
        for key, mine in wanted.items()
    ]
    rows = compared(rows, comparison.steps)
    medians = {name: median_ratio(rows, name) for name in comparison.strategies}
    return write_table(result_path(run, comparison), rows, comparison, median_ratio=medians)


def _with_earlier(run: Path, config: RunConfig, comparison: ComparisonConfig) -> ComparisonConfig:
    """The same, with the tasks, strategies and seeds of earlier calls added."""
    comparison = replace(comparison, tasks=tasks(config, comparison))
    mine = ("tasks", "strategies", "seeds")
    try:
        before = read_json(result_path(run, comparison))["settings"]
        if any(
            before[name] != value
            for name, value in sealed.to_jsonable(comparison).items()
            if name not in mine
        ):
            return comparison
        earlier = replace(comparison, **{name: _as_tuple(before[name]) for name in mine})
        stages(run, config, earlier)
    except (UserError, KeyError, TypeError, ValueError):
        return comparison  # there is no earlier result, it is damaged, or its collective is gone
    tasks_of_both = tuple(dict.fromkeys((*comparison.tasks, *earlier.tasks)))
    here = {comparison.trained(row) for row in comparison.strategies}
    others = (row for row in earlier.strategies if comparison.trained(row) not in here)
    seeds = max(comparison.seeds, earlier.seeds)
    return replace(comparison, tasks=tasks_of_both, strategies=(*comparison.strategies, *others), seeds=seeds)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def result_path(run: Path, comparison: ComparisonConfig) -> Path:
    """The picture of the curves lies beside it."""
    return run / COMPARISON / comparison.name / RESULT
