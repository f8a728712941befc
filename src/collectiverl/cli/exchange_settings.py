"""The flags of the commands that give something to other programs: export, publish, record."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import tyro

from collectiverl.cli.options import RunOptions
from collectiverl.cli.settings import RunSettings, Settings
from collectiverl.cli.stage_settings import SeededSettings, seeded
from collectiverl.exchange.portable import Format
from collectiverl.exchange.publish import check_repo
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages import recording
from collectiverl.types import ConfigError

POLICY = tyro.conf.arg(metavar="[POLICY]")
_Record: type[SeededSettings] = seeded(recording.Record, recording.record_stage)


@dataclass(frozen=True, kw_only=True)
class Export(RunSettings):
    """Write a run's experts, or its collective, to a folder with a model card, without episodes and logs.

    The format `folder` is what load_policy and publish read. The formats `onnx` and `jax` are one file for each policy,
    which plays without this package: a pure function (observation, reward, context) -> (action, context), compared with
    the original before it is written. They also take any POLICY by its folder or name, such as mt10 or mt10/push, in
    place of a run's.
    """

    # a folder or name, in place of a run's policies
    policy: Annotated[str | None, tyro.conf.Positional, POLICY] = None
    out: str  # folder to write, which must be empty
    # folder: for this package; onnx: for onnxruntime; jax: StableHLO, for JAX alone
    format: Format = "folder"
    what: Literal["experts", "collective"] = "experts"  # which policies of the run
    half: bool = False  # store weights in half precision, in half as many bytes; for the format folder
    seeds: tuple[str, ...] = ()  # other runs that differ in their seed alone, for a collective's card
    more: tuple[str, ...] = ()  # other runs, whose experts of other tasks go into the same folder
    # by the run, and by what is in the folder
    decided: ClassVar[tuple[str, ...]] = ("--overwrite", "--config", "--wandb")

    def __post_init__(self) -> None:
        if self.policy and self.format == "folder":
            raise ConfigError(
                "format", f"folder needs the figures of a run: leave out {self.policy}, or choose onnx or jax"
            )
        if self.more and (self.format, self.what) != ("folder", "experts"):
            raise ConfigError("more", "is for experts in the format folder: leave it out")
        if self.seeds and (self.format, self.what) != ("folder", "collective"):
            raise ConfigError("seeds", "is for --what collective in the format folder: leave it out")
        if self.half and self.format != "folder":
            raise ConfigError("half", f"is for the format folder: leave it out with {self.format}")

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(options=options, out=tyro.MISSING)


@dataclass(frozen=True, kw_only=True)
class Publish(Settings):
    """Upload a folder that `export` wrote to the Hugging Face Hub, as one commit; its model card is the page.

    load_policy("hf:owner/name") then loads it anywhere. Log in first, with 'hf auth login'.
    """

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]  # what `export` wrote
    repo: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]  # made if it is not there
    private: bool = False  # if the repository is new: only its owner can read it

    @classmethod
    def defaults(cls, options: RunOptions, run: RunConfig) -> Self:
        return cls(folder=tyro.MISSING, repo=tyro.MISSING)

    def resolved(self) -> Self:
        check_repo(self.repo)
        return self


@dataclass(frozen=True, kw_only=True)
class Record(_Record):  # type: ignore[misc, valid-type]
    to: Literal["minari"] | None = None  # minari: also write the episodes as a dataset of Minari


Record.__doc__ = recording.Record.__doc__
