"""From a command line to settings, with messages that name the flag that was typed.

A config refuses a value with the name of its own field, and does not know where it stands: `warmup` is `--warmup`
under `train-task` and `--expert.warmup` under `run`. So the flags are first read without checks, and then each
config is checked in its place.
"""

import contextlib
import dataclasses
import inspect
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

import tyro

from collectiverl.artifacts.configs import union_options
from collectiverl.artifacts.validation import all_finite
from collectiverl.cli.help import shortened, without
from collectiverl.cli.options import HELP, HELP_ALL, RunOptions
from collectiverl.cli.settings import RunSettings, Settings
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages.flags import FLAT
from collectiverl.types import ConfigError, UserError

S = TypeVar("S", bound=Settings)


def parse(kind: type[S], args: Sequence[str], *, prog: str, essential: Sequence[str] = ()) -> S:
    """The settings that a command line stands for, checked.

    Args:
        kind: of settings.
        args: the command line after the command.
        prog: the command, for messages.
        essential: flags that `--help` shows; none: all.

    Raises:
        UserError: a setting is refused.
        SystemExit: help was asked for, or the flags cannot be read.
    """
    options = RunOptions.read(args)
    run = options.base() if issubclass(kind, RunSettings) else RunConfig()
    with _unchecked(kind):
        default: Any = kind.defaults(options, run)
        default = without(default, kind.decided) if kind.decided else default
        description = inspect.getdoc(kind)
        if essential and HELP_ALL not in args and any(arg in HELP for arg in args):
            default = shortened(default, essential)
            description = (
                f"{description}\n\nThese are the settings that are changed most; {HELP_ALL} lists all."
            )
        args = ["--help" if arg == HELP_ALL else arg for arg in args]
        parsed = tyro.cli(type(default), args=args, default=default, prog=prog, description=description)
        settings = parsed.resolved()
    _check(settings)
    return settings


@contextlib.contextmanager
def refusals(settings: Settings) -> Iterator[None]:
    """Configs that are made from these settings are refused under the names of their flags."""
    try:
        yield
    except ConfigError as error:
        raise UserError(_said(settings, error.field, error.why)) from error


# -- checks, each in its place -----------------------------------------------------------------------------


@contextlib.contextmanager
def _unchecked(kind: type) -> Iterator[None]:
    """Settings of this kind are made without the checks of their configs."""
    with contextlib.ExitStack() as stack:
        for config in set(_configs(kind)):
            check = vars(config).get("__post_init__")
            if check is not None:
                stack.callback(setattr, config, "__post_init__", check)
                config.__post_init__ = _no_check  # type: ignore[attr-defined]
        yield


def _no_check(config: Any) -> None:
    pass


def _configs(kind: type) -> Iterator[type]:
    """A dataclass, its bases, and all dataclasses nested in it."""
    yield from (base for base in kind.__mro__ if dataclasses.is_dataclass(base))
    for hint in typing.get_type_hints(kind).values():
        for option in union_options(hint):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                yield from _configs(option)


def _check(settings: Settings) -> None:
    """No number may be nan or infinite; then come the checks of all nested configs, the innermost first."""
    with refusals(settings):
        all_finite(settings)
    for path, config in _nested(settings):
        if not hasattr(config, "__post_init__"):
            continue
        try:
            config.__post_init__()
        except ConfigError as error:
            raise UserError(_said(settings, path + error.field, error.why)) from error


def _nested(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All dataclasses in a dataclass, by their path such as `settings.expert.`; itself last."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _nested(value, f"{path}{field.name}.")
    yield path, config


# -- names of flags ----------------------------------------------------------------------------------------


def _said(settings: Settings, path: str, why: str) -> str:
    """A message about the setting at this path, under the name that the user knows."""
    name = settings.positionals().get(path) or flag_of(type(settings), path)
    return f"{name}: {why}" if name else why


def flag_of(kind: type, path: str) -> str:
    """The flag of a setting: `settings.expert.warmup` is `--expert.warmup`."""
    known = dict(flags(kind))
    if path in known:
        return known[path]
    of_run = f"--{path.replace('_', '-')}"
    return of_run if of_run in known.values() else path


def flags(kind: type, path: str = "", prefix: str = "--") -> Iterator[tuple[str, str]]:
    """Paths of all settings of a kind, with their flags."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, marks = _unwrapped(hints[field.name])
        name = f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            inner = prefix if FLAT in marks else f"{name}."
            yield from flags(hint, f"{path}{field.name}.", inner)
        else:
            yield f"{path}{field.name}", name


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without `Annotated` and `None`, and its annotations."""
    marks: tuple[Any, ...] = ()
    if typing.get_origin(hint) is Annotated:
        hint, *found = typing.get_args(hint)
        marks = tuple(found)
    options = [option for option in union_options(hint) if option is not type(None)]
    return (options[0] if len(options) == 1 else hint), marks
