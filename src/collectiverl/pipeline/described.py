"""A run's folder as its page reads it: with the stages that it would have, and the preset that it is nearest to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collectiverl.artifacts import configs, paths, sealed
from collectiverl.artifacts.paths import CONFIG
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.plan import Until
from collectiverl.pipeline.presets import PRESETS
from collectiverl.reporting.page.about import flat
from collectiverl.reporting.page.reading import Expected, Origin, RunFolder
from collectiverl.types import ConfigError, UserError

UNTIL: tuple[Until, ...] = ("end", "collective", "experts")
FAR = 25  # settings: a run that differs in more is a variation of no preset


def described(run: Path, until: Until | None = None) -> RunFolder:
    """The run in this folder, finished or not.

    Args:
        run: the folder.
        until: where the run was to stop; None: where it did, if it is finished.
    """
    try:
        if not (run / CONFIG).is_file():
            return RunFolder(run)
        config = configs.load(run / CONFIG, RunConfig())
        every = plan.stages(config, until or _until(run))
    except (UserError, ConfigError):  # damaged, or made by a version with other settings
        return RunFolder(run)
    expected = [Expected(stage.label, stage.out) for stage in every]
    return RunFolder(run, expected, nearest(sealed.to_jsonable(config)))


def _until(run: Path) -> Until:
    for until in UNTIL:
        if sealed.is_sealed(run / paths.summary(until)):
            return until
    return "end"


def nearest(config: Mapping[str, Any]) -> Origin:
    """The preset from which the fewest settings differ, and these."""
    own = dict(flat(config))
    found = []
    for name, preset in PRESETS.items():
        of_preset = dict(flat(sealed.to_jsonable(preset().resolved())))
        changed = [
            (setting, of_preset.get(setting), own.get(setting))
            for setting in {**of_preset, **own}
            if of_preset.get(setting) != own.get(setting)
        ]
        found.append(Origin(name, tuple(changed)))
    best = min(found, key=lambda origin: len(origin.changed))
    return best if len(best.changed) <= FAR else Origin()
