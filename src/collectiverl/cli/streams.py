"""Standard output and error, such that they take whatever is written to them."""

import codecs
import contextlib
import os
import sys
import unicodedata

HANDLER = "collectiverl"  # name of the error handler
SIMPLER = {"…": "...", "≥": ">=", "≤": "<=", "─": "-", "━": "-", "\u2013": "-", "\u00d7": "x", "•": "*"}


def open_all() -> None:
    """Makes both streams take every character, and exist."""
    codecs.register_error(HANDLER, _simpler)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before Python started
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, it lives as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def discard_output() -> None:
    """What is still to be written to standard output is lost; otherwise Python complains when it ends."""
    with contextlib.suppress(OSError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _simpler(error: UnicodeError) -> tuple[str, int]:
    """In place of characters that the stream's encoding lacks, such as `…` in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(map(_plain, missing)), error.end


def _plain(character: str) -> str:
    """The character in ASCII: `é` is `e`, and one without likeness is written by its number."""
    if character in SIMPLER:
        return SIMPLER[character]
    likeness = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return likeness or character.encode("ascii", "backslashreplace").decode()
