"""`run --dry-run`: what a run would do, and what it would take."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from collectiverl.cli import seeds
from collectiverl.cli.parser import refusals
from collectiverl.cli.settings import Run
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import check_claim
from collectiverl.pipeline.estimates import forecast, measured
from collectiverl.stages.base import available_cores

Found = Mapping[str, Any]


def forecast_of(settings: Run) -> Found:
    """The stages that are left, of one seed; nothing is written."""
    folder, config, cores = settings.options.folder, settings.settings, settings.cores or available_cores()
    if settings.seeds:
        folder, config = seeds.folders(settings)[0], replace(config, seed=settings.seeds[0])
        cores = max(1, cores // len(settings.seeds))
    with refusals(settings):
        every = plan.stages(config, settings.until)
    check_claim(folder, config, overwrite=settings.options.overwrite)
    todo = plan.unfinished(folder, every, overwrite=settings.options.overwrite)
    found = forecast(todo, cores)
    stages = [{"label": s.label, "kind": s.kind, **found.costs[s.out]._asdict()} for s in todo]
    about = {
        "all": len(every),
        "done": len(every) - len(todo),
        "cores": cores,
        "runs": len(settings.seeds) or 1,
    }
    return about | {
        "stages": stages,
        "seconds": found.seconds,
        "memory": found.memory,
        "processors": measured()["processors"],
    }
