"""Which run a command is about, and where its settings start from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectiverl.artifacts import configs
from collectiverl.pipeline.plan import CONFIG, RunConfig
from collectiverl.pipeline.presets import PRESETS
from collectiverl.types import UserError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Which run, and where its settings start from."""

    run: str | None = None  # the run's name; its folder is <root>/<run>
    root: str = "runs"  # the folder that holds all runs
    preset: str | None = None  # smoke, quickstart, mt10 or reference
    config: str | None = None  # YAML file with changes to the preset's settings
    overwrite: bool = False  # make results anew, in place of those with other settings

    @property
    def folder(self) -> Path:
        return Path(self.root) / (self.run or self.preset or "default")

    def base(self) -> RunConfig:
        """The settings before flags: those of the run's folder, unless a preset is named; then the file's."""
        if self.preset is not None and self.preset not in PRESETS:
            raise UserError(f"there is no preset {self.preset!r}: choose one of {', '.join(PRESETS)}")
        saved = self.folder / CONFIG
        if self.preset:
            base = PRESETS[self.preset]()
        else:
            base = configs.load(saved, RunConfig()) if saved.is_file() else RunConfig()
        return configs.load(Path(self.config), base) if self.config else base

    @classmethod
    def read(cls, args: Sequence[str]) -> "RunOptions":
        """From a command line, before its other flags can be parsed: their defaults depend on this."""
        found: dict[str, Any] = {"overwrite": "--overwrite" in args}
        for i, arg in enumerate(args):
            name, _, value = arg.partition("=")
            if name in ("--run", "--root", "--preset", "--config"):
                found[name[2:]] = value or (args[i + 1] if i + 1 < len(args) else None)
        return cls(**found)
