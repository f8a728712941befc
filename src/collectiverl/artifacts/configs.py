"""Configurations from files: a file names settings, of the types that the dataclass has; unknown names are refused.

Those of a run are YAML and change settings that are there; those of a saved module are JSON and make new ones.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from collectiverl.artifacts.files import read_yaml
from collectiverl.artifacts.validation import MOST_ROWS, all_finite
from collectiverl.types import ConfigError, UserError

C = TypeVar("C")


def load(path: Path, base: C, name: str = "") -> C:
    """`base` with the changes that the YAML file at `path` names.

    Args:
        name: of the file in messages; its path without one.

    Raises:
        UserError: it cannot be read, or a setting is refused.
    """
    changes = read_yaml(path, name)
    return change(base, {} if changes is None else changes, str(path))


def build(kind: type[C], values: Any, where: str) -> C:
    """A dataclass of this kind from what a file says; what it leaves out is as by default.

    Args:
        where: the file, and the place in it, for messages.

    Raises:
        UserError: a name is unknown or missing, or a value is of another type or refused by the config.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: {values!r:.60} should be a mapping of settings")
    known = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(map(str, values)) - set(known)):
        raise UserError(f"{where} has no setting {unknown[0]!r:.60}")
    found = {name: read_as(value, hints[name], f"{where}: {name}") for name, value in values.items()}
    try:
        made = kind(**found)
        all_finite(made)
    except (ConfigError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
    return made


def read_as(value: Any, hint: Any, where: str) -> Any:
    """What a file says, as a value of this type; a dataclass is built, and lists become tuples.

    Raises:
        UserError: it is of another type.
    """
    options = union_options(hint)
    if isinstance(value, Mapping) and (kinds := [o for o in options if dataclasses.is_dataclass(o)]):
        return build(kinds[0], value, where)  # type: ignore[arg-type]
    return _checked(value, hint, where)


def reader(values: Mapping[str, Any], where: str) -> Callable[[str, Any], Any]:
    """A function that returns what is said under a name, as a value of a type; sizes are of what fits in memory.

    It raises:
        UserError: it is of another type, or not there.
    """

    def said(name: str, hint: Any) -> Any:
        if name not in values:
            raise UserError(f"{where} does not say {name}")
        value = read_as(values[name], hint, f"{where}: {name}")
        if hint is int and not 0 <= value <= MOST_ROWS:
            raise UserError(f"{where}: {name} is {value}, which is no size")
        return value

    return said


def change(base: C, changes: Any, where: str, path: str = "") -> C:
    """A frozen dataclass with some fields changed, nested ones by nested mappings.

    Args:
        base: the dataclass.
        changes: what the file says.
        where: the file, for messages.
        path: of `base` in the whole configuration, such as `expert.sac.`.

    Raises:
        UserError: a name is unknown, or a value is of another type or refused by the config.
    """
    if not isinstance(changes, Mapping):
        raise UserError(f"{_place(where, path)}: {changes!r:.60} should be a mapping of settings")
    known = {field.name: field for field in dataclasses.fields(base)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(type(base))
    values = {}
    for name, value in changes.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it may have {', '.join(known)}"
            if name in (renamed := getattr(base, "renamed", {})):
                hint = f"it is called {renamed[name]} now"
            raise UserError(f"{_place(where, path)} has no setting {name!r:.60}: {hint}")
        old = getattr(base, name)
        if dataclasses.is_dataclass(old):
            values[name] = change(old, value, where, f"{path}{name}.")
        else:
            values[name] = _checked(value, hints[name], f"{where}: {path}{name}")
    try:
        changed = dataclasses.replace(base, **values)  # type: ignore[type-var]
        all_finite(changed)
        return changed
    except ConfigError as error:
        raise UserError(f"{_place(where, path + error.field)}: {error.why}") from error


def _place(where: str, path: str) -> str:
    return f"{where}: {path.rstrip('.')}" if path else where


def _checked(value: Any, hint: Any, where: str) -> Any:
    value = _read(value, hint)
    if not _fits(value, hint):
        raise UserError(
            f"{where}: {value!r:.60} is not of type {hint.__name__ if type(hint) is type else hint}"
        )
    return value


def _read(value: Any, hint: Any) -> Any:
    """A YAML value in the types of configs: lists become tuples, and whole numbers floats where floats are due."""
    options = union_options(hint)
    if isinstance(value, list):
        items = next((typing.get_args(o) for o in options if typing.get_origin(o) is tuple), ())
        return tuple(_read(element, items[0] if items else Any) for element in value)
    return _as_float(value) if float in options and int not in options and str not in options else value


def _as_float(value: Any) -> Any:
    """Whole numbers as floats; and `1e-3`, which YAML reads as a string."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def union_options(hint: Any) -> tuple[Any, ...]:
    """The members of a union of types; of any other type, itself."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(o for arg in typing.get_args(hint) for o in union_options(arg)) if union else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for option in union_options(hint):
        origin = typing.get_origin(option)
        if origin is typing.Literal:
            if value in typing.get_args(option):
                return True
        elif origin is tuple:
            if isinstance(value, tuple):
                return all(_fits(item, typing.get_args(option)[0]) for item in value)
        elif option is Any or (
            isinstance(option, type) and isinstance(value, option) and not _odd_bool(value, option)
        ):
            return True
    return False


def _odd_bool(value: Any, option: type) -> bool:
    return isinstance(value, bool) and option is not bool
