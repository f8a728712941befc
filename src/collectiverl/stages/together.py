"""`run --vectorize`: experts of several tasks, trained in one program."""

import contextlib
import shutil
from dataclasses import dataclass, replace
from typing import Any

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.metrics import MetricsLog, read_metrics
from collectiverl.stages.base import Stage, Work, summary
from collectiverl.stages.experts import TrainTask, save_expert, train_experts, train_task_stage
from collectiverl.types import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainTogether:
    """SAC experts of several tasks in one program, for a GPU, which a single expert does not fill."""

    experts: tuple[TrainTask, ...]  # that differ in their tasks alone, of which each has one

    def __post_init__(self) -> None:
        if len({replace(expert, task="") for expert in self.experts}) > 1 or any(
            e.also for e in self.experts
        ):
            raise ConfigError(
                "experts", "experts in one program have one task each, and share all other settings"
            )


def train_together_stage(config: TrainTogether, seed: int) -> Stage[TrainTogether]:
    return Stage(
        kind="train-together",
        subject=" ".join(expert.task for expert in config.experts),
        out=paths.trained_together(config.experts[0].demos or "scratch", seed),
        function=train_together,
        config=config,
        seed=seed,
    )


def train_together(work: Work[TrainTogether]) -> dict[str, Any]:
    config = work.config
    results = train_experts(work, config.experts)
    summaries = {}
    for expert, (result, before) in zip(config.experts, results, strict=True):
        folder = work.folder / expert.task
        folder.mkdir()
        result = replace(result, seconds=result.seconds / len(results))  # its share
        summaries[expert.task] = save_expert(folder, expert, result, before)
    return summaries


def take_expert_stage(config: TrainTask, together: str, seed: int) -> Stage[TrainTask]:
    """Copies one of the experts trained together to the folder that `train-task` would write."""
    return replace(train_task_stage(config, seed), function=take_expert, inputs={together: ""})


def take_expert(work: Work[TrainTask]) -> dict[str, Any]:
    config = work.config
    [together] = work.inputs
    sealed.verify(work.run / together)
    shutil.copytree(work.run / together / config.task, work.folder, dirs_exist_ok=True)
    every, mine = summary(work.run / together), f"{config.task}/"
    with contextlib.closing(MetricsLog(work.folder)) as log:
        for line in read_metrics(work.run / together):
            shared = {k: v for k, v in line.items() if k.split("/")[0] not in every and k != "step"}
            own = {k.removeprefix(mine): v for k, v in line.items() if k.startswith(mine)}
            log.write(int(line["step"]), shared | own | {"seconds": line["seconds"] / len(every)})
    return every[config.task]
