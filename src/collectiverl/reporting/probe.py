"""Tables of how well an encoder tells tasks apart."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from collectiverl.artifacts.paths import TRANSFORMER
from collectiverl.reporting.fitting import make_table


def probe_tables(probe: Mapping[str, Any]) -> Iterator[Table]:
    """All that a probe of the trajectory transformer found."""
    yield probe_table(probe)
    yield clustering_table(probe)
    yield confused_table(probe)
    if probe.get("encoder") == TRANSFORMER:  # the collective's own encoder does not learn to reconstruct
        yield reconstruction_table(probe["reconstruction"])
    if probe.get("goals"):
        yield goals_table(probe["goals"])


def probe_table(probe: Mapping[str, Any]) -> Table:
    """How well a linear probe tells the tasks apart, by the number of steps seen."""
    table = make_table(
        title=f"which task is it? linear probe, held-out episodes (chance {probe['chance']:.2f})"
    )
    views = {"embedding z": probe, "raw state": probe["raw"], "raw window": probe["raw_window"]}
    for name in ("steps seen", *views):
        table.add_column(name, justify="right")
    for length in probe["linear_probe"]:
        table.add_row(length, *(f"{view['linear_probe'][length]:.3f}" for view in views.values()))
    return table


def clustering_table(probe: Mapping[str, Any]) -> Table:
    """Agreement of clusters with the tasks: k-means, then a mixture that also finds their number."""
    table = make_table(title=f"clusters of full windows, against {probe['tasks']} tasks")
    table.add_column("of")
    table.add_column("by")
    for name in ("clusters", "NMI", "ARI", "purity", "silhouette"):
        table.add_column(name, justify="right")
    for of, found in (("embedding z", probe["clustering"]), ("raw state", probe["raw"]["clustering"])):
        mixture = found["mixture"]
        table.add_row(of, "k-means", str(probe["tasks"]), *_agreement(found), f"{found['silhouette']:.3f}")
        table.add_row("", "mixture", str(mixture["clusters"]), *_agreement(mixture), "")
    return table


def _agreement(found: Mapping[str, Any]) -> list[str]:
    return [f"{found[name]:.3f}" for name in ("nmi", "ari", "purity")]


def confused_table(probe: Mapping[str, Any]) -> Table:
    """The pairs of tasks that the probe confuses most, at the first step and later."""
    pairs = probe["most_confused"]
    table = make_table(
        title="most confused, as a share of the task's windows" if pairs else "no task is taken for another",
        show_header=bool(pairs),
    )
    table.add_column("task")
    table.add_column("taken for")
    for length in pairs[0]["share"] if pairs else ():
        table.add_column("at the first step" if length == "1" else f"after {length} steps", justify="right")
    for pair in pairs:
        table.add_row(pair["task"], pair["taken_for"], *(f"{share:.0%}" for share in pair["share"].values()))
    return table


def reconstruction_table(found: Mapping[str, float]) -> Table:
    """Errors of what is hidden, beside those of copying the last step that is not."""
    table = make_table(title="what is hidden from it: mean squared error, in squared standard deviations")
    table.add_column("hidden")
    for name in ("error", "by copying the step before"):
        table.add_column(name, justify="right")
    for name in ("action", "reward", "state"):
        if f"masked_{name}" in found:
            table.add_row(
                f"spans: {name}", f"{found[f'masked_{name}']:.3f}", f"{found[f'copied_{name}']:.3f}"
            )
    table.add_row("last state", f"{found['last_state']:.3f}", f"{found['last_state_copied']:.3f}")
    return table


def goals_table(goals: Mapping[str, Any]) -> Table:
    """How far what a linear probe decodes from `z` lies from the goal, by steps seen."""
    table = make_table(
        title="where is the goal? median distance of what is decoded from z, held-out episodes"
    )
    table.add_column("task")
    table.add_column("mean goal", justify="right")
    steps = max((found["error"] for found in goals.values()), key=len)
    for step in steps:
        table.add_column(f"{step} step{'s' * (step != '1')}", justify="right")
    for task, found in goals.items():
        cells = (f"{found['error'][step]:.3f}" if step in found["error"] else "" for step in steps)
        table.add_row(task, f"{found['chance']:.3f}", *cells)
    return table
