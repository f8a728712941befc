"""Configurations from YAML: a file changes the settings that it names; unknown names are refused."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml  # type: ignore[import-untyped]

from collectiverl.types import ConfigError, UserError

C = TypeVar("C")


def load(path: Path, base: C) -> C:
    """`base` with the changes that the YAML file at `path` names."""
    try:
        changes = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} is not YAML: {error}") from error
    return change(base, changes or {}, str(path))


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
        raise UserError(f"{_place(where, path)}: {changes!r} should be a mapping of settings")
    known = {field.name: field for field in dataclasses.fields(base)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(type(base))
    values = {}
    for name, value in changes.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it may have {', '.join(known)}"
            if name in (renamed := getattr(base, "renamed", {})):
                hint = f"it is called {renamed[name]} now"
            raise UserError(f"{_place(where, path)} has no setting {name!r}: {hint}")
        old = getattr(base, name)
        if dataclasses.is_dataclass(old):
            values[name] = change(old, value, where, f"{path}{name}.")
        else:
            values[name] = _checked(value, hints[name], f"{where}: {path}{name}")
    try:
        return dataclasses.replace(base, **values)  # type: ignore[type-var]
    except ConfigError as error:
        raise UserError(f"{_place(where, path + error.field)}: {error.why}") from error


def _place(where: str, path: str) -> str:
    return f"{where}: {path.rstrip('.')}" if path else where


def _checked(value: Any, hint: Any, where: str) -> Any:
    value = _read(value, hint)
    if not _fits(value, hint):
        raise UserError(f"{where}: {value!r} is not of type {hint.__name__ if type(hint) is type else hint}")
    return value


def _read(value: Any, hint: Any) -> Any:
    """A YAML value in the types of configs: lists become tuples, and whole numbers floats where floats are due."""
    options = union_options(hint)
    if isinstance(value, list):
        item = next((typing.get_args(o)[0] for o in options if typing.get_origin(o) is tuple), Any)
        return tuple(_read(element, item) for element in value)
    return _as_float(value) if float in options and int not in options and str not in options else value


def _as_float(value: Any) -> Any:
    """Whole numbers as floats; and `1e-3`, which YAML reads as a string."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    try:
        return float(value)
    except ValueError:
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
