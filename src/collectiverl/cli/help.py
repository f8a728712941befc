"""What of a command's settings its help shows, and which of them are flags at all."""

import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from collectiverl.stages.flags import FLAT


def shortened(settings: Any, shown: Sequence[str]) -> Any:
    """The same settings, of a subclass whose help shows these flags alone."""
    return _marked(settings, lambda flag: flag not in shown, (tyro.conf.Suppress,), described=False)


def without(settings: Any, decided: Sequence[str]) -> Any:
    """The same settings, of a subclass that has no such flags; `--sac.` stands for all that begin so."""

    def is_decided(flag: str) -> bool:
        return any(flag == name or (name.endswith(".") and flag.startswith(name)) for name in decided)

    return _marked(settings, is_decided, (tyro.conf.Fixed, tyro.conf.Suppress), described=True)


def _marked(
    settings: Any,
    chosen: Callable[[str], bool],
    markers: tuple[Any, ...],
    *,
    described: bool,
    prefix: str = "--",
) -> Any:
    """The same settings, of a subclass in which tyro's markers stand at the chosen flags."""
    kind = type(settings)
    hints = typing.get_type_hints(kind, include_extras=True)
    changed, values = [], {}
    for field in dataclasses.fields(kind):
        hint, value = hints[field.name], getattr(settings, field.name)
        flag = f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            flat = FLAT in getattr(hint, "__metadata__", ())
            inner = prefix if flat else f"{flag}."
            value = _marked(value, chosen, markers, described=described, prefix=inner)
            hint = Annotated[type(value), FLAT] if flat else type(value)
        elif chosen(flag):
            hint = Annotated[hint, *markers]
        changed.append((field.name, hint, dataclasses.field()))
        values[field.name] = value
    new = dataclasses.make_dataclass(kind.__name__, changed, bases=(kind,), frozen=True, kw_only=True)
    new.__module__, new.__qualname__ = kind.__module__, kind.__qualname__  # where the fields' comments stand
    new.__doc__ = kind.__doc__ if described else None  # which takes two lines for each group of settings
    return new(**values)
