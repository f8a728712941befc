"""An expert that comes with the package, in place of one trained in the run."""

import shutil
from dataclasses import dataclass
from typing import Any

from collectiverl.artifacts import paths
from collectiverl.artifacts.paths import EPISODES
from collectiverl.data.episodes import write
from collectiverl.policies import shipped
from collectiverl.sac.policy import ABOUT, WEIGHTS, load_expert
from collectiverl.stages.base import Stage, Work, summary
from collectiverl.stages.recording import Record, recorded
from collectiverl.types import UserError


@dataclass(frozen=True, kw_only=True)
class TakeShipped:
    """A shipped expert, and the episodes that are recorded of it."""

    task: str
    record: Record | None  # episodes to record, in place of those of a training; None: no stage reads them
    collection: str = "mt10"


def take_shipped_stage(config: TakeShipped, seed: int) -> Stage[TakeShipped]:
    return Stage(
        kind="take-expert",
        subject=config.task,
        out=paths.expert(config.task, seed),
        function=take_shipped,
        config=config,
        seed=seed,
    )


def take_shipped(work: Work[TakeShipped]) -> dict[str, Any]:
    """Copies the expert's files and records its episodes."""
    config = work.config
    name = f"{config.collection}/{config.task}"
    folder = shipped(name)
    if folder is None:
        raise UserError(f"the package has no expert {name}")
    expert = load_expert(folder)
    for file in (ABOUT, WEIGHTS):
        shutil.copy(folder / file, work.folder / file)
    played = recorded(work, config.record, expert) if config.record else []
    write(work.folder / EPISODES, played)
    found = summary(folder)
    counted = {"episodes": len(played), "env_steps": found["env_steps"] + sum(map(len, played))}
    return found | counted | {"shipped": name}
