"""Training and validation episodes, stratified by phase and round."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from collectiverl.types import PHASES, ConfigError


def split(
    about: Sequence[Mapping[str, object]], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of the training and the validation episodes.

    `fraction` of the episodes of each phase and round (the episodes of one seed) are for validation, at least one
    where there are two. Each round is split by itself, so that later rounds move no episode to the other side.
    Every episode has a goal of its own, drawn afresh, so that no goal is on both sides.
    """
    if not 0 < fraction < 1:
        raise ConfigError("fraction", f"{fraction} is not between 0 and 1")
    chosen = set(_by_round(about, fraction, seed))
    return [i for i in range(len(about)) if i not in chosen], sorted(chosen)


def _by_round(about: Sequence[Mapping[str, object]], fraction: float, seed: int) -> list[int]:
    rounds = defaultdict(list)
    for i, row in enumerate(about):
        rounds[str(row["phase"]), int(row.get("seed", 0))].append(i)  # type: ignore[call-overload]
    validation = []
    for (phase, own_seed), members in rounds.items():
        rng = np.random.default_rng([seed, PHASES.index(phase), own_seed])
        validation += rng.permutation(members)[: _count(fraction, len(members))].tolist()
    return validation


def _count(fraction: float, size: int) -> int:
    """That fraction of `size`, leaving something on both sides where there are two."""
    return min(max(1, round(fraction * size)), size - 1)
