"""What the commands show at their end: tables, and where the files lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collectiverl.artifacts import hub, outputs, paths
from collectiverl.artifacts.paths import (
    ABLATION,
    CARD,
    COLLECTIVE,
    COLLECTIVE_FIGURES,
    CONFIG,
    CROSS_PLAY,
    EXPERTS,
    EXPERTS_FIGURES,
    EXTENDED,
    PORTABLE,
    REPORT,
    STUDENTS,
    SUMMARY,
    TRANSFORMER,
)
from collectiverl.cli.exchange_settings import Export, Publish, Record
from collectiverl.cli.finished_settings import Report, Table, Verify
from collectiverl.cli.progress import console
from collectiverl.cli.reports import open_page
from collectiverl.cli.settings import (
    Ablate,
    CompareStudents,
    Evaluate,
    EvaluateMeta,
    ExtendCollective,
    Run,
    Transfer,
)
from collectiverl.cli.stage_settings import StageSettings
from collectiverl.reporting import formats
from collectiverl.reporting.cards import computed, seconds_of
from collectiverl.reporting.compared import compared_tables
from collectiverl.reporting.curves import draw_curves
from collectiverl.reporting.forecasts import forecast_tables
from collectiverl.reporting.probe import probe_tables
from collectiverl.reporting.students import comparison_table, median_lines
from collectiverl.reporting.tables import (
    ablation_table,
    cross_play_tables,
    extensions_table,
    meta_table,
    places,
    policies_table,
    verified_table,
)
from collectiverl.reporting.transfer import counts, draw_transfer, transfer_table
from collectiverl.stages.base import summary as stage_summary
from collectiverl.stages.representation import GOALS_PICTURE, PICTURES
from collectiverl.studies import ablation, comparison, lifelong, transfer

Found = Mapping[str, Any]


def show_run(settings: Run, summary: Found) -> None:
    """The policies of a run, and where everything lies; of several seeds, their means; or what it would do."""
    if "forecast" in summary:
        console.print(*forecast_tables(summary["forecast"]), sep="\n")
        return
    if settings.seeds:
        _show_text(formats.table(summary["seeds"], "md"))
        console.print(places(summary["page"].parent, {"page": summary["page"].name}))
        _shown_page(summary["page"], settings.open)
        return
    console.print(policies_table(summary["policies"]))
    if CROSS_PLAY in summary.get("stage_seconds", {}):
        console.print(*cross_play_tables(stage_summary(settings.options.folder / CROSS_PLAY)), sep="\n")
    names = {
        "these figures": f"{paths.summary(settings.until)}/{SUMMARY}",
        "settings": CONFIG,
        "experts": EXPERTS,
    }
    if settings.until == "experts":
        spent = f"{seconds_of(summary):,.0f} seconds, one core each{_computed(summary)}"
        console.print(f"together {summary['env_steps']:,} environment steps, {spent}")
    else:
        _show_collective(summary)
        names |= {"transformer": TRANSFORMER, "collective": COLLECTIVE, "students": STUDENTS}
        names |= {"pictures": summary["probe"]["folder"]} if summary["probe"] else {}
    names["page to look at"] = REPORT
    folder = settings.options.folder
    console.print(places(folder, {what: path for what, path in names.items() if (folder / path).exists()}))
    for line in _next(folder, settings):
        console.print(line, soft_wrap=True, highlight=False)
    _shown_page(summary["page"], settings.open)


def _computed(summary: Found) -> str:
    """The stages' core-seconds, with the load of the machine; nothing where one of them has none."""
    found = computed(summary)
    return " ({:,.0f} core-seconds, load {} to {})".format(*found) if found else ""


def _next(folder: Path, settings: Run) -> tuple[str, str]:
    """What a user may want to do now, in two lines."""
    look = "" if settings.open else f"collectiverl report {folder} --open"
    if settings.until == "experts":
        again = f"collectiverl run --run {folder.name} --root {settings.options.root}"
        return f"look:  {look or folder / REPORT}", f"next:  {again}  (goes on to the collective)"
    film = f"collectiverl evaluate {folder} --video films"
    return (
        f"look:  {look or film}",
        f"next:  collectiverl compare-students --collective {folder} --run students --tasks TASK",
    )


def _shown_page(page: Path | None, wanted: bool) -> None:
    if wanted and page is not None:
        open_page(page)


def show_report(settings: Report, found: Found) -> None:
    console.print(places(Path(), {"page": found["page"]}))
    _shown_page(Path(found["page"]), settings.open)


def _show_collective(summary: Found) -> None:
    means = ", ".join(f"{kind} {mean['success_any']:.3f}" for kind, mean in summary["mean"].items())
    console.print(f"success on average over tasks: {means}")
    if summary["probe"]:
        console.print(*probe_tables(summary["probe"]), sep="")
    if known := {folder: peak for folder, peak in summary.get("stage_memory", {}).items() if peak}:
        largest = max(known, key=known.__getitem__)
        console.print(f"most memory of a stage: {known[largest] / 1e9:.2f} GB ({largest})")
    if spent := summary.get("stage_seconds"):
        console.print(f"{sum(spent.values()):,.0f} seconds of all stages together{_computed(summary)}")
    if "wall_seconds" in summary:
        console.print(f"{summary['wall_seconds'] / 60:,.1f} minutes by the clock, without films")
    for label, steps in summary["solved_at"].items():
        solved = f"solved after {steps:,} environment steps" if steps else "not solved in training"
        console.print(f"{label}: {solved}")


def show_stage(settings: StageSettings, found: Found) -> None:
    """The stage's summary as it is, and where it lies."""
    console.print_json(data=found["summary"])
    console.print(places(settings.options.folder, {"result": found["out"]}))


def show_cross_play(settings: StageSettings, found: Found) -> None:
    """What experts of tasks that begin alike do in each other's, and where it lies."""
    console.print(*cross_play_tables(found["summary"]), sep="\n")
    console.print(places(settings.options.folder, {"result": found["out"]}))


def show_probe(settings: StageSettings, found: Found) -> None:
    """Tables in place of the summary, whose matrices of fifty tasks would fill the terminal."""
    console.print(*probe_tables(found["summary"]), sep="")
    names = {"these figures": SUMMARY, **PICTURES}
    names |= {"goals": GOALS_PICTURE} if found["summary"].get("goals") else {}
    console.print(places(settings.options.folder / found["out"], names))


def show_ablation(settings: Ablate, found: Found) -> None:
    console.print(ablation_table(found["rows"]))
    _show_places(ablation.result_path(settings.options.folder, settings.study), {"rows": ABLATION})


def show_comparison(settings: CompareStudents, found: Found) -> None:
    """Draws the curves, too."""
    path = comparison.result_path(settings.options.folder, settings.study)
    if not outputs.is_readonly(path.parent):
        draw_curves(found["rows"], found["settings"], path.parent / comparison.PICTURE)
    console.print(comparison_table(found["rows"], found["settings"]), *median_lines(found), sep="\n")
    _show_places(path, {"curves": comparison.PICTURE})


def show_transfer(settings: Transfer, found: Found) -> None:
    """Draws the map, too."""
    path = transfer.result_path(settings.options.folder, settings.study)
    console.print(transfer_table(found))
    if not found["rows"]:
        return
    if not outputs.is_readonly(path.parent):
        draw_transfer(found, path.parent / transfer.PICTURE)
    console.print(counts(found["rows"]))
    _show_places(path, {"picture": transfer.PICTURE})


def show_extensions(settings: ExtendCollective, found: Found) -> None:
    console.print(*extensions_table(found["rows"]), sep="")
    path = lifelong.result_path(settings.options.folder, settings.study)
    _show_places(path, {"collectives": EXTENDED})


def show_verified(settings: Verify, found: Found) -> None:
    console.print(verified_table(found["verified"]))
    for one in found["verified"]:
        for wrong in one.wrong:
            _show_text(wrong)


def show_table(settings: Table, found: Found) -> None:
    _show_text(formats.table(found["seeds"], settings.format))


def _show_text(text: str) -> None:
    """As it is, whatever the width of the terminal: it is made to be copied."""
    console.print(text, soft_wrap=True, highlight=False)


def show_evaluation(settings: Evaluate, found: Found) -> None:
    if settings.compare:
        console.print(*compared_tables(found), sep="")
        return
    console.print(policies_table(found["policies"]))
    films = {_filmed(row): row["film"]["file"] for row in found["policies"] if "film" in row}
    if settings.video is not None and films:
        place = Path(settings.video)
        together = len(set(films.values())) == 1 and place.name in films.values()
        console.print(places(place.parent if together else place, films))


def _filmed(row: Mapping[str, Any]) -> str:
    """What a film shows: episodes that were evaluated."""
    goals, success = row["film"]["goals"], row["film"]["success"]
    if len(goals) == 1:
        return f"{row['task']}, goal {goals[0]}, {'succeeded' if success[0] else 'failed'}"
    return f"{row['task']}, goals {', '.join(map(str, goals))}, {sum(success)} succeeded"


def show_meta(settings: EvaluateMeta, found: Found) -> None:
    console.print(meta_table(found))
    for split, mean in found["mean"].items():
        console.print(f"success on average over the {split} tasks: {mean['success_any']:.3f}")


def show_export(settings: Export, found: Found) -> None:
    if settings.format == "folder":
        figures = EXPERTS_FIGURES if settings.what == "experts" else COLLECTIVE_FIGURES
        console.print(places(Path(settings.out), {"model card": CARD, "figures": figures}))
        return
    for one in found["policies"]:
        checked = f"actions differ from the original's by {one['checked']['largest_difference']:.0e} at most"
        console.print(f"{one['origin']['policy']}: {checked}")
        console.print(
            places(Path(one["folder"]), {"policy": one["file"], "model card": CARD, "about it": PORTABLE})
        )


def show_publish(settings: Publish, found: Found) -> None:
    console.print(f"published: {found['url']}")
    console.print(f'load_policy("{hub.PREFIX}{settings.repo}") loads it', markup=False)


def show_record(settings: Record, found: Found) -> None:
    show_stage(settings, found)
    if "dataset" in found:
        name, folder = found["dataset"]["name"], found["dataset"]["folder"]
        console.print(f'minari.load_dataset("{name}") reads the episodes, from {folder}', markup=False)


def _show_places(result: Path, names: Mapping[str, str]) -> None:
    console.print(places(result.parent, {"these figures": result.name, **names}))
