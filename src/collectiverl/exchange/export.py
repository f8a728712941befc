"""`export`: a run's experts or its collective without episodes and logs, with a model card, to be given away."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from collectiverl.artifacts import configs, sealed
from collectiverl.artifacts.checkpoints import write_json
from collectiverl.collective import policy as collective
from collectiverl.pipeline.plan import CONFIG, RunConfig
from collectiverl.policies import SHIPPED as PACKAGE
from collectiverl.reporting.cards import collective_card, experts_card
from collectiverl.reporting.figures import EXPERTS
from collectiverl.sac.policy import ABOUT, WEIGHTS
from collectiverl.stages.base import SUMMARY, summary
from collectiverl.stages.collective import COLLECTIVE
from collectiverl.stages.experts import model_path
from collectiverl.types import UserError

CARD = "README.md"
FIGURES = "figures.json"
SHIPPED = (ABOUT, WEIGHTS, SUMMARY)


def export_experts(run: Path, out: Path) -> None:
    """Writes `out/<task>/` for every task of the run, sealed, and `out/README.md`.

    Raises:
        UserError: the run's experts are not all trained and evaluated, or `out` is not empty.
    """
    if not (run / EXPERTS).is_file():
        raise UserError(f"{run / EXPERTS} is not there: 'collectiverl run --until experts' makes it")
    _check_empty(out)
    config = configs.load(run / CONFIG, RunConfig())
    sources = {task: run / model_path(task, config.seed) for task in config.tasks}
    records = {task: sealed.verify(source) for task, source in sources.items()}
    for task, source in sources.items():
        _copy(source, records[task], out / task, SHIPPED)
    shutil.copy(run / CONFIG, out / CONFIG)
    figures = sealed.read_json(run / EXPERTS)
    write_json(out / EXPERTS, figures)
    (out / CARD).write_text(
        experts_card(out.name, config, figures, [summary(out / task) for task in sources])
    )


def export_collective(runs: Sequence[Path], out: Path) -> None:
    """Writes the collective of the first run to `out`, sealed, and a card with the figures of all.

    The runs are trainings of the same settings with different seeds.

    Raises:
        UserError: a collective is not distilled and evaluated, the runs do not fit, or `out` is not empty.
    """
    for run in runs:
        if not (run / SUMMARY).is_file():
            raise UserError(f"{run / SUMMARY} is not there: 'collectiverl run --until collective' makes it")
    _check_empty(out)
    configs_of = [configs.load(run / CONFIG, RunConfig()) for run in runs]
    for run, config in zip(runs, configs_of, strict=True):
        differing = sealed.differences(
            sealed.to_jsonable(replace(config, seed=0)), sealed.to_jsonable(replace(configs_of[0], seed=0))
        )
        if differing:
            raise UserError(f"{run} is no other seed of {runs[0]}: they differ in {'; '.join(differing[:3])}")
    source = runs[0] / COLLECTIVE
    _copy(source, sealed.verify(source), out, (collective.ABOUT, collective.WEIGHTS, SUMMARY))
    shutil.copy(runs[0] / CONFIG, out / CONFIG)
    figures = [sealed.read_json(run / SUMMARY) for run in runs]
    write_json(out / FIGURES, figures)
    (out / CARD).write_text(collective_card(_name(out), configs_of[0], figures))


def _name(out: Path) -> str:
    """By which `load_policy` finds it: a path, or a collection of the package."""
    return out.parent.name if out.resolve().parent.parent == PACKAGE.resolve() else str(out)


def _check_empty(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder with --out")


def _copy(source: Path, record: dict[str, Any], target: Path, names: Sequence[str]) -> None:
    """The files that make the agent, under the manifest that they had."""
    sealed.make_writable(target)
    for name in names:
        shutil.copy(source / name, target / name)
    kept = record | {"files": {name: record["files"][name] for name in names}}
    sealed.write_atomically(target / sealed.MANIFEST, json.dumps(kept, indent=1).encode())
