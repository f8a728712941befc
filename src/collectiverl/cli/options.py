"""Which run a command is about, and the settings that its flags change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from collectiverl.artifacts import configs
from collectiverl.artifacts.paths import CONFIG
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.presets import PRESETS
from collectiverl.types import UserError

HELP, HELP_ALL = ("-h", "--help"), "--help-all"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Which run, and where its settings come from."""

    run: str | None = None  # name of the run's folder; None: the preset's name, or default
    root: str = "runs"  # folder of all runs
    # smoke, quickstart, scratch, mt10, mt10-hidden, mt50, mt50-experts, ml10, ml45, fetch,
    # fetch-hidden or reference
    preset: str | None = None
    config: str | None = None  # YAML file that changes settings of the preset
    overwrite: bool = False  # replace results that were made with other settings
    # project of Weights & Biases that metrics go to, too; WANDB_MODE=offline keeps them here
    wandb: str | None = None

    @property
    def folder(self) -> Path:
        return Path(self.root) / (self.run or self.preset or "default")

    def base(self) -> RunConfig:
        """The settings before flags: those of the run's folder, unless a preset is named; then the file's."""
        for name in ("run", "root"):
            if getattr(self, name) == "":
                raise UserError(f"--{name}: '' is no name of a folder")
        if self.preset is not None and self.preset not in PRESETS:
            raise UserError(f"there is no preset {self.preset!r}: choose one of {', '.join(PRESETS)}")
        saved = self.folder / CONFIG
        if self.preset:
            base = PRESETS[self.preset]()
        else:
            base = configs.load(saved, RunConfig()) if saved.is_file() else RunConfig()
        return (
            base if self.config is None else configs.load(Path(self.config), base, f"--config {self.config}")
        )

    @classmethod
    def read(cls, args: Sequence[str]) -> "RunOptions":
        """From a command line, before its other flags are parsed: their defaults depend on these."""
        no_help = [arg for arg in args if arg not in (*HELP, HELP_ALL)]
        return tyro.cli(cls, args=no_help, return_unknown_args=True)[0]
