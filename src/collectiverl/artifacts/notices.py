"""Notices: what a user should see, and that ends nothing. They are warnings, of the class `types.Notice`."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from collectiverl.types import Notice


def tell(message: str) -> None:
    """Gives a notice."""
    warnings.warn(Notice(message), stacklevel=3)


@contextlib.contextmanager
def told_to(hear: Callable[[str], None]) -> Iterator[None]:
    """Each notice that is given in the block is told to this function, once; other warnings go where they go."""
    heard: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, Notice):
            before(message, category, *place, **more)
        elif str(message) not in heard:
            heard.add(str(message))
            hear(str(message))

    with warnings.catch_warnings():
        before, warnings.showwarning = warnings.showwarning, show
        warnings.simplefilter("always", Notice)
        yield
