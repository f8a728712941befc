"""Packages that are not installed by default, imported where they are first used."""

import importlib
from typing import Any

from collectiverl.types import UserError


def extra(module: str, name: str) -> Any:
    """The module, which belongs to the extra `name` of this package.

    Raises:
        UserError: its package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # something that the package itself lacks
        package = module.partition(".")[0]
        raise UserError(f"{package} is not installed: pip install 'collectiverl[{name}]'") from error
