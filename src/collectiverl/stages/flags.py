"""How the fields of a stage's config are given on the command line."""

from typing import Annotated, TypeVar

import tyro

T = TypeVar("T")

Task = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
Tasks = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
FLAT = tyro.conf.arg(name="")
Flat = Annotated[T, FLAT]  # nested settings without the name of the field in front
OrNone = Annotated[T | None, tyro.conf.AvoidSubcommands]  # nested settings, or None
