"""Memory of closed simulators, given back to the operating system."""

import ctypes
from functools import cache


def release() -> None:
    """Gives back what is free, which glibc may otherwise keep.

    Elsewhere than on glibc it does nothing.
    """
    if trim := _trim():
        trim(0)


@cache
def _trim():
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None
