"""Attacks: what users, machines and other programs do to a run, and what came of it, counted."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One kind of attack."""

    name: str
    tried: int
    held: int  # of those tried: ended as promised
    failures: tuple[str, ...]  # a line for each that did not
