"""The tables of memory, from what the ledger's runs say of their stages."""

from collections.abc import Mapping, Sequence
from typing import Any

from results import ledger

KINDS = {  # of stages, by the folders that they make
    "online_distill": "online distillation",
    "model_col": "the collective",
    "told_nothing": "the policy that is told nothing",
    "evaluation probe": "probe",
    "evaluation collective": "evaluation of the collective",
    "evaluation expert": "evaluation of an expert",
    "films collective": "films",
}
SMALL = (
    "model",
    "online_buffer",
    "evaluation scripted",
    "evaluation told-nothing",
    "summary",
)  # told of elsewhere, or copies


def memory() -> list[list[str]]:
    """The most that a process of a stage had in memory, by kind of stage and preset."""
    names = {"quickstart": ["quickstart/seed_"]}
    for preset in ("mt10-hidden", "mt50"):
        names[preset] = [f"collective/{preset}_seed_", f"memory/{preset}_seed_", f"controls/{preset}_"]
    runs = {preset: [run for name in mine for run in ledger.read(name)] for preset, mine in names.items()}
    most = {preset: found for preset, mine in runs.items() if (found := _most(mine))}
    kinds = sorted({kind for found in most.values() for kind in found}, key=lambda k: -_largest(most, k))
    heads = ["stage", *(f"`{preset}`" for preset in most)]
    rows = [[kind, *(_gigabytes(found.get(kind)) for found in most.values())] for kind in kinds]
    return [heads, *rows]


def less_memory() -> list[list[str]]:
    """The same command before and after what was mended."""
    rows = [["what", "before, GB", "after, GB"]]
    for found in (one for one in ledger.read("memory/") if "before" in one):
        figures = (_gigabytes(found[name]["peak_memory"]) for name in ("before", "after"))
        rows.append([f"{found['what']}: `{found['command']}`", *figures])
    return rows


def _most(runs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The most bytes of any stage of a kind, in any of the runs."""
    found: dict[str, int] = {}
    for folder, peak in (item for run in runs for item in run.get("stage_memory", {}).items()):
        parts = folder.split("/")
        kind = " ".join(parts[: 2 if parts[0] in ("evaluation", "films") else 1])
        kind = KINDS.get(kind, kind)
        found[kind] = max(peak or 0, found.get(kind, 0))
    return {kind: peak for kind, peak in found.items() if kind not in SMALL}


def _largest(most: Mapping[str, Mapping[str, int]], kind: str) -> int:
    return max(found.get(kind, 0) for found in most.values())


def _gigabytes(peak: int | None) -> str:
    return "" if peak is None else f"{peak / 1e9:.2f}"
