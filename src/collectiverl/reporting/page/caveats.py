"""What a reader should not conclude."""

from collections.abc import Iterator, Sequence

from collectiverl.envs.registry import suite_of
from collectiverl.reporting.page.blocks import Note, Section
from collectiverl.reporting.page.reading import Found, RunFolder
from collectiverl.reporting.page.success import named, rows_of
from collectiverl.types import UserError

FEW_GOALS = 50
LEFT_AGAIN = 0.1  # difference of success at any and at the last step
SEVERAL_SEEDS = 3


def section(runs: Sequence[RunFolder]) -> Section:
    lines = [line for run in runs for line in _of_run(run)]
    lines += list(_of_all(runs))
    lead = "A page shows what happened once. Before you draw a conclusion from it:"
    return Section("limits", "What not to conclude", lead, [Note(list(dict.fromkeys(lines)))])


def _of_all(runs: Sequence[RunFolder]) -> Iterator[str]:
    seeds = {(run.config or {}).get("seed") for run in runs}
    if len(runs) < SEVERAL_SEEDS or len(seeds) < SEVERAL_SEEDS:
        count = "One training seed" if len(seeds) == 1 else f"{len(seeds)} training seeds"
        yield (
            f"{count}: the intervals say how well these very policies do on these goals. They do not say how well such "
            "training does; another seed may differ by more than they are wide ('run --seeds 0 1 2' trains three)."
        )
    if len(runs) > 1:
        yield "Runs side by side differ in all settings that are listed, not only in the one that you have in mind."


def _of_run(run: RunFolder) -> Iterator[str]:
    if run.missing:
        yield f"{run.name} is not finished: what is missing may change the picture."
    yield from _of_rows(rows_of(run))
    yield from _simulator(run)
    kinds = {stage.kind for stage in run.stages}
    if "train-student" in kinds:
        yield (
            "One student of one task beside plain SAC is an anecdote; 'collectiverl compare-students' repeats it over "
            "tasks and seeds."
        )
    if "probe" in kinds:
        yield "That a probe decodes something from z does not show that the policy uses it."


def _of_rows(rows: Sequence[Found]) -> Iterator[str]:
    if not rows:
        return
    fewest = min(row["episodes"] for row in rows)
    if fewest < FEW_GOALS:
        yield f"Few goals: some rates are over {fewest} episodes, where one more or less is {1 / fewest:.0%}."
    else:
        margin = 1.96 * (0.5 / fewest) ** 0.5  # of the difference of two rates of one half
        yield f"{fewest} goals a task: two rates near one half may differ by {margin:.0%} by chance."
    if {row["goals"] for row in rows} == {"hidden", "visible"}:
        saw = dict.fromkeys(named(row["policy"]) for row in rows if row["goals"] == "visible")
        yield f"Only {' and '.join(saw)} saw the goals. They solve an easier problem than the other policies."
    if any(row["success_any"] - row["success_last"] > LEFT_AGAIN for row in rows):
        yield (
            "Success at any step, Meta-World's measure, counts goals that were reached and left again: see the last "
            "step."
        )


def _simulator(run: RunFolder) -> Iterator[str]:
    try:
        suite = suite_of(run.tasks[0]).name if run.tasks else ""
    except UserError:
        suite = ""
    if suite == "toy":
        yield "Toy tasks: points in a square, made for tests. Nothing here says anything about robots."
    elif suite:
        backend = run.config.get("backend", "auto")
        trained = (
            "" if backend in ("reference", "metaworld") else " Training may have used EnvPool's copy of it."
        )
        judged = f"Policies were judged in {suite}'s own simulator and saw its state, not pictures."
        yield f"{judged}{trained} None was near a robot."
