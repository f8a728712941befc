"""Objects that a user names as `package.module:name`: teachers, policies and tasks of their own."""

import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from collectiverl.types import UserError

OBJECT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
FORM = "name it as package.module:name, such as my_package.experts:load"


def is_object_path(name: str) -> bool:
    """Whether this has the form of `package.module:name`."""
    return OBJECT.fullmatch(name) is not None


def load_object(path: str) -> Any:
    """The object that a user names as `package.module:name`; modules in the working folder are found, too.

    Raises:
        UserError: it has another form, or there is no such module or object, or importing the module fails.
    """
    if not is_object_path(path):
        raise UserError(f"{path!r} names no Python object: {FORM}")
    module, _, name = path.partition(":")
    found = _module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"it has {', '.join(_public(found)) or 'nothing'}"
            )
            raise UserError(f"{path!r}: {module} has no {part!r}: {hint}")
        found = getattr(found, part)
    return found


def _module(name: str) -> Any:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # behind all others, so that no file there stands in for a package
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"there is no module {error.name!r}, neither in {Path.cwd()} nor installed: {FORM}"
            ) from error
        raise UserError(f"{name} cannot be imported: it needs the module {error.name!r}") from error
    except Exception as error:
        raise UserError(f"{name} cannot be imported: {described(error)}") from error


def _public(module: Any, most: int = 8) -> list[str]:
    names = [name for name in vars(module) if not name.startswith("_")]
    return names[:most] + ["…"] * (len(names) > most)


@contextmanager
def calling(name: str, doing: str) -> Iterator[None]:
    """What the user's own code raises becomes a message: what failed, where, and in which object.

    Raises:
        UserError: the code in the block raised something.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} failed when it was to {doing}: {described(error)}") from error


def described(error: Exception) -> str:
    """An exception and the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({last[0].filename}, line {last[0].lineno})" if last else ""
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}{where}{notes}"
