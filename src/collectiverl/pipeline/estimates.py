"""How long stages take and how much memory they need, by what was measured before (`measured.json`).

The seconds of a kind of stage grow with its work, such as updates or steps that are played. Experts and students end
when their task is solved, so their steps are those that an expert of the task took.
"""

import heapq
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from collectiverl.envs.make import spec
from collectiverl.envs.registry import suite_of
from collectiverl.stages.base import Stage
from collectiverl.stages.together import TrainTogether, take_expert
from collectiverl.types import UserError

MEASURED = Path(__file__).parent / "measured.json"
LEAST = 1.0  # seconds of a stage of whose kind nothing was measured
Found = Mapping[str, Any]  # JSON


class Cost(NamedTuple):
    """What a stage needs."""

    seconds: float
    memory: int  # bytes at most
    # False: nothing was measured of this kind of stage, so it counts as next to nothing
    measured: bool = True


@dataclass(frozen=True)
class Forecast:
    """What a run needs."""

    costs: Mapping[str, Cost]  # by folder of the stage
    seconds: float  # from its beginning to its end
    memory: int  # bytes at most, of all stages that run side by side


def forecast(todo: Sequence[Stage], cores: int) -> Forecast:
    """The stages side by side, as `executor` runs them."""
    costs = {stage.out: cost(stage) for stage in todo}
    waiting, running, ended = list(todo), [], 0.0
    peak = 0
    while waiting or running:
        pending = {stage.out for stage in waiting} | {out for _, out in running}
        ready = [stage for stage in waiting if not pending & set(stage.inputs)]
        for stage in ready[: max(0, cores - len(running))]:
            waiting.remove(stage)
            heapq.heappush(running, (ended + costs[stage.out].seconds, stage.out))
        peak = max(peak, sum(costs[out].memory for _, out in running))
        ended, _ = heapq.heappop(running)
    return Forecast(costs, ended, peak)


def cost(stage: Stage) -> Cost:
    """Of one stage on one core of the machine that was measured."""
    if isinstance(stage.config, TrainTogether):
        alone = [cost(replace(stage, kind="train-task", config=expert)) for expert in stage.config.experts]
        return Cost(
            sum(one.seconds for one in alone),
            sum(one.memory for one in alone),
            all(one.measured for one in alone),
        )
    if stage.function is take_expert:  # an expert that was trained together with others
        stage = replace(stage, kind="take-expert")
    found, others = _like(stage), _measured_of(stage).values()
    if found is None:
        return Cost(LEAST, 0, measured=False)
    memory = found["memory"] or max(
        one["memory"] for one in others
    )  # of another suite, where it is not known
    return Cost(found["seconds"] * work_of(stage.kind, stage.config, found), memory)


def _measured_of(stage: Stage) -> Found:
    """By suite."""
    return measured()["stages"].get(_kind(stage.kind, stage.config), {})


def _like(stage: Stage) -> Found | None:
    """What was measured of this kind: in the same suite and task, or as near as there is."""
    suites = _measured_of(stage)
    return suites.get(_suite(stage.config)) or next(iter(suites.values()), None)


def _kind(kind: str, config: Any) -> str:
    """Evaluations of a policy that reads its trajectory take longer than others."""
    return f"{kind} {getattr(config, 'kind', '')}".strip()


def _tasks(config: Any) -> tuple[str, ...]:
    config = getattr(config, "evaluated", config)
    tasks = getattr(config, "tasks", None) or (getattr(config, "task", None),)
    return tuple(task for task in tasks if task)


def _suite(config: Any) -> str:
    try:
        return suite_of(_tasks(config)[0]).name
    except (IndexError, UserError):
        return ""


# -- work --------------------------------------------------------------------------------------------------


def work_of(kind: str, config: Any, found: Found) -> float:
    """How much there is to do, in units of this kind of stage."""
    known = WORK.get(kind)
    return known(config, found) if known else 1.0


def _training(config: Any, found: Found) -> float:
    """Environment steps."""
    typical = found.get("steps", {})
    usual = typical.get(config.task) or (median(typical.values()) if typical else config.train.steps)
    return min(config.train.steps, usual)


def _distillation(config: Any, found: Found) -> float:
    """Updates of the learner, while which it plays."""
    return config.online.first_updates + config.online.learner_rounds * config.online.round_updates


def _collective(config: Any, found: Found) -> float:
    return config.collective.updates + config.collective.critic.updates / 4  # those of the critic are smaller


def _evaluation(config: Any, found: Found) -> float:
    """Steps."""
    return len(config.evaluate.goal_indices) * spec(config.task).horizon


def _recording(config: Any, found: Found) -> float:
    horizon = spec(config.task).horizon
    return config.episodes * min(config.horizon or horizon, horizon)


def _row(config: Any, found: Found) -> float:
    return _distillation(config, found) + config.collective.updates


WORK: Mapping[str, Callable[[Any, Found], float]] = {
    "train-task": _training,
    "train-student": _training,
    "online-distill": _distillation,
    "told-nothing": _row,
    "distill-collective": _collective,
    "train-transformer": lambda config, found: config.transformer.updates,
    "evaluate": _evaluation,
    "record": _recording,
}


# -- what was measured ---------------------------------------------------------------------------------------


@cache
def measured() -> Found:
    return json.loads(MEASURED.read_text())


class Sample(NamedTuple):
    """A stage that was done."""

    stage: Stage
    seconds: float
    memory: int | None
    steps: int | None  # of environments, of a training


def fitted(samples: Iterable[Sample]) -> dict[str, Any]:
    """Seconds for each unit of work, the most memory, and the steps of trainings, by kind of stage and suite."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(
            (_kind(sample.stage.kind, sample.stage.config), _suite(sample.stage.config)), []
        ).append(sample)
    found: dict[str, Any] = {}
    for (kind, suite), members in sorted(groups.items()):
        steps: dict[str, list[int]] = {}
        for one in members:
            if one.steps:
                steps.setdefault(_tasks(one.stage.config)[0], []).append(one.steps)
        entry: dict[str, Any] = {"steps": {task: int(median(every)) for task, every in sorted(steps.items())}}
        rates = [
            one.seconds / max(1.0, one.steps or work_of(one.stage.kind, one.stage.config, entry))
            for one in members
        ]
        memory = [one.memory for one in members if one.memory]
        entry |= {
            "seconds": float(f"{median(rates):.4g}"),
            "memory": max(memory, default=0),
            "stages": len(members),
        }
        found.setdefault(kind, {})[suite] = (
            entry if steps else {k: v for k, v in entry.items() if k != "steps"}
        )
    return found
