"""The table of an ablation, from the ledger."""

from statistics import fmean

from collectiverl.pipeline.config import RunConfig
from collectiverl.studies.ablation import AblationConfig, rows
from results import ledger
from results.students import HOLE, short

SEEDS = 3  # trainings that every row should have


def ablation(name: str, config: RunConfig) -> list[list[str]]:
    """Each choice: success at any step, of each seed and task, and at the last step.

    Args:
        name: of the study in the ledger.
        config: settings of its run, which say which rows there are to be.
    """
    found = ledger.read(f"ablation/{name}/")
    tasks = found[0]["tasks"] if found else []
    table = [["varied", "variant", "any step", "each seed", "last step", *map(short, tasks)]]
    if not found:
        return table
    for row in rows(config, AblationConfig(), seed=0):
        seeds = [one for one in found if (one["group"], one["variant"]) == (row.group, row.variant)]
        cells = [HOLE] * (3 + len(tasks))
        if seeds:
            any_step = [one["success_any"] for one in seeds]
            each = ", ".join([f"{value:.2f}" for value in any_step] + [HOLE] * (SEEDS - len(seeds)))
            by_task = [fmean(one["by_task"][task] for one in seeds) for task in tasks]
            last = fmean(one["success_last"] for one in seeds)
            cells = [f"{fmean(any_step):.3f}", each, f"{last:.3f}", *(f"{value:.2f}" for value in by_task)]
        table.append([row.group, f"`{row.variant}`", *cells])
    return table
