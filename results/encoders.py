"""The table of what masked reconstruction is worth to the trajectory transformer, from probes in the ledger."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from results import ledger

ERRORS = {  # title -> its name in the probe
    "hidden parts": "masked",
    "by copying": "copied",
    "hidden states": "masked_state",
    "states by copying": "copied_state",
}
TRAINED = {"with reconstruction": "with", "InfoNCE alone": "without"}  # title -> the entries' name


def reconstruction() -> list[list[str]]:
    """Accuracy of a linear classifier of the task on z by steps seen, and the error of what is hidden."""
    runs = {title: ledger.read(f"encoder/{name}_seed_") for title, name in TRAINED.items()}
    lengths = list(dict.fromkeys(n for found in runs.values() for run in found for n in run["linear_probe"]))
    heads = [n if n == "anywhere" else f"{n} step{'s' * (n != '1')}" for n in lengths]
    table = [["trained", *heads, *ERRORS, "seeds"]]
    for title, found in runs.items():
        if found:
            probed = [_each([run["linear_probe"][n] for run in found]) for n in lengths]
            errors = [_each([run["reconstruction"][n] for run in found]) for n in ERRORS.values()]
            table.append([title, *probed, *errors, str(len(found))])
    return table


def _each(values: Sequence[Any]) -> str:
    """The mean, and the range over seeds."""
    return f"{fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
