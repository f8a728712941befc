"""A shorter help: some settings of a command, the others hidden."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from collectiverl.stages.flags import FLAT


def shortened(settings: Any, shown: Sequence[str], prefix: str = "--") -> Any:
    """The same settings, of a subclass whose help shows these flags alone."""
    kind = type(settings)
    hints = typing.get_type_hints(kind, include_extras=True)
    changed, values = [], {}
    for field in dataclasses.fields(kind):
        hint, value = hints[field.name], getattr(settings, field.name)
        flag = f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            flat = FLAT in getattr(hint, "__metadata__", ())
            value = shortened(value, shown, prefix if flat else f"{flag}.")
            hint = Annotated[type(value), FLAT] if flat else type(value)
        elif flag not in shown:
            hint = Annotated[hint, tyro.conf.Suppress]
        changed.append((field.name, hint, dataclasses.field()))
        values[field.name] = value
    hidden = dataclasses.make_dataclass(kind.__name__, changed, bases=(kind,), frozen=True, kw_only=True)
    hidden.__module__, hidden.__qualname__ = (
        kind.__module__,
        kind.__qualname__,
    )  # where the fields' comments stand
    hidden.__doc__ = None  # which would take two lines for each group of settings
    return hidden(**values)
