"""Training and validation by whole episode, stratified by phase; goals held out where the task allows it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

MIN_GOALS = 10  # with fewer fixed goals among the episodes, holding some out would leave too little variety


def split(
    about: Sequence[Mapping[str, object]], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of the training and the validation episodes.

    `fraction` of each phase's episodes are for validation, at least one where a phase has two. Where all
    episodes have fixed goals, and enough of them, no goal is on both sides.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"--fraction={fraction} is not between 0 and 1")
    rng = np.random.default_rng(seed)
    goals = {int(row["goal"]) for row in about}  # type: ignore[call-overload]
    if min(goals, default=-1) >= 0 and len(goals) >= MIN_GOALS:
        order = rng.permutation(sorted(goals))
        held_out = set(order[: _count(fraction, len(order))].tolist())
        validation = [i for i, row in enumerate(about) if row["goal"] in held_out]
    else:
        validation = _by_phase(about, fraction, rng)
    chosen = set(validation)
    return [i for i in range(len(about)) if i not in chosen], sorted(chosen)


def _by_phase(about: Sequence[Mapping[str, object]], fraction: float, rng: np.random.Generator) -> list[int]:
    phases = defaultdict(list)
    for i, row in enumerate(about):
        phases[row["phase"]].append(i)
    validation = []
    for members in phases.values():
        validation += rng.permutation(members)[: _count(fraction, len(members))].tolist()
    return validation


def _count(fraction: float, size: int) -> int:
    """That fraction of `size`, leaving something on both sides where there are two."""
    return min(max(1, round(fraction * size)), size - 1)
