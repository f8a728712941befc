"""Attacks on the package: what should hold, tried many times. `make attack` runs all of them.

Each part is a module with a function `attack(scale)`, which returns its rows; at scale 1.0 it tries what it promises
to hold, at 0.1 a tenth of that.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str  # what was attacked, and how
    tried: int
    held: int
    failures: tuple[str, ...]  # one line each: what was done, and what came of it
