"""Weights & Biases beside `metrics.jsonl` and TensorBoard, if `--wandb PROJECT` asks for it."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from collectiverl.artifacts.attempts import INTENT
from collectiverl.artifacts.extras import extra
from collectiverl.artifacts.files import read_json
from collectiverl.artifacts.manifests import PARTIAL
from collectiverl.types import UserError

PROJECT = "COLLECTIVERL_WANDB"  # variable of the environment, since the processes of a run inherit it
DEPTH = 4  # parts of a stage's path that name it, such as demo/model/reach-v3/seed_0


def use_wandb(project: str | None) -> None:
    """Metrics go to this project as well, in this process and in those that it starts; None: as before.

    Raises:
        UserError: wandb is not installed.
    """
    if project:
        extra("wandb", "wandb")
        os.environ[PROJECT] = project


def wandb_logs(folder: Path, lines: Iterable[Mapping[str, Any]]) -> "list[WandbLog]":
    """The log of a stage's folder, which begins with these lines; none if nobody asked for it."""
    project = os.environ.get(PROJECT)
    return [WandbLog(project, folder, lines)] if project else []


class WandbLog:
    """One run of Weights & Biases for each log; a resumed stage is a new run of the same group, with all lines.

    The variables of wandb hold: `WANDB_MODE=offline` keeps the runs in `WANDB_DIR`, by default `./wandb`, from where
    `wandb sync` sends them.

    Raises:
        UserError: nobody is logged in.
    """

    def __init__(self, project: str, folder: Path, lines: Iterable[Mapping[str, Any]]):
        wandb = extra("wandb", "wandb")
        name = "/".join(folder.resolve().parts[-DEPTH:]).removesuffix(PARTIAL)
        intent = folder / INTENT
        try:
            self._run = wandb.init(
                project=project,
                name=name,
                group=name,
                config=read_json(intent)["config"] if intent.is_file() else None,
                reinit="create_new",  # beside that of another log of this process
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.Error as error:
            raise UserError(
                f"--wandb: {error}: log in with 'wandb login', or set WANDB_MODE=offline"
            ) from error
        for line in lines:
            self.add(line)

    def add(self, line: Mapping[str, Any]) -> None:
        """One line of `metrics.jsonl`."""
        self._run.log({name: value for name, value in line.items() if name != "step"}, step=line["step"])

    def close(self) -> None:
        self._run.finish()
