"""How many times fewer environment steps a student took than plain SAC."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

PLAIN = "none"  # the strategy of a student that nothing helps


def ratio(plain: Mapping[str, Any], row: Mapping[str, Any], most: int) -> dict[str, Any]:
    """The ratio of the medians over seeds; `most` steps were allowed.

    A student that did not reach the level counts with all its steps: then the ratio is only a bound.
    """
    theirs, own = (median(most if s is None else s for s in r["steps"]) for r in (plain, row))
    reached = [sum(s is not None for s in r["steps"]) > len(r["steps"]) / 2 for r in (plain, row)]
    bound = {(True, True): "", (False, True): "at least", (True, False): "at most", (False, False): "unknown"}
    return {"value": theirs / own, "bound": bound[reached[0], reached[1]]}


def median_ratio(rows: Sequence[Mapping[str, Any]], strategy: str) -> dict[str, Any] | None:
    """Over the tasks in which the strategy or plain SAC reached the level.

    `bounds` says how many of these ratios are bounds; they count with their value.
    """
    ratios = [row["ratio"] for row in rows if row["strategy"] == strategy != PLAIN and "ratio" in row]
    known = [ratio for ratio in ratios if ratio["bound"] != "unknown"]
    if not known:
        return None
    value = median(ratio["value"] for ratio in known)
    return {"value": value, "tasks": len(known), "bounds": sum(bool(ratio["bound"]) for ratio in known)}
