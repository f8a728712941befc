"""What the commands do: run the stages that are left, and return what there is to show."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from collectiverl.artifacts import locks, outputs, paths, provenance, sealed
from collectiverl.artifacts.metrics import Report
from collectiverl.artifacts.paths import REPORT
from collectiverl.cli import reports, seeds
from collectiverl.cli.dry_run import forecast_of
from collectiverl.cli.filming import films_of
from collectiverl.cli.finished_settings import Table, Verify
from collectiverl.cli.parser import refusals
from collectiverl.cli.progress import display
from collectiverl.cli.running import run_unfinished
from collectiverl.cli.settings import (
    Evaluate,
    EvaluateMeta,
    Run,
    StudySettings,
    Transfer,
)
from collectiverl.cli.stage_settings import StageSettings
from collectiverl.evaluation.comparing import compare
from collectiverl.evaluation.evaluate import evaluate
from collectiverl.evaluation.metalearning import evaluate_meta, meta_report
from collectiverl.pipeline import executor, plan
from collectiverl.pipeline.config import claim
from collectiverl.policies import load_policy, meta_player, origin_of, shipped, told_tasks
from collectiverl.reporting import evaluations
from collectiverl.stages.base import summary, threads_of
from collectiverl.stages.evaluation import detailed_row, evaluation_report
from collectiverl.stages.verification import Verified, verify_all
from collectiverl.studies import transfer
from collectiverl.studies.table import Study
from collectiverl.types import StageFailed, UserError

Found = Mapping[str, Any]


class Incomplete(Exception):
    """A command that ended early, with what it had found until then."""

    def __init__(self, found: Found, cause: BaseException):
        super().__init__(str(cause))
        self.found, self.cause = found, cause


def run_pipeline(settings: Run) -> Found:
    """The stages of a run that are not done yet; returns the summary. With --dry-run, what it would do."""
    if settings.dry_run:
        return {"forecast": forecast_of(settings)}
    if settings.seeds:
        return _run_seeds(settings)
    folder, config = settings.options.folder, settings.settings
    with refusals(settings):
        every = plan.stages(config, settings.until)
    with _locked(folder):
        claim(folder, config, overwrite=settings.options.overwrite)
        run_unfinished(every, settings)
        page = reports.page_of_run(folder, settings.until)
    return {**summary(folder / paths.summary(settings.until)), "page": page}


def _run_seeds(settings: Run) -> Found:
    """A run for each seed, as commands of their own; returns what all of them found."""
    with refusals(settings):
        plan.stages(settings.settings, settings.until)  # refused once, not by each of them
    seeds.run_each(settings)
    runs, base = seeds.folders(settings), settings.options.folder
    page = base.with_name(f"{base.name}_{REPORT}")
    reports.write_page(runs, page, settings.until)
    return {"seeds": _tabled(runs), "page": page}


def table(settings: Table) -> Found:
    """What several runs and evaluations found."""
    return {"seeds": _tabled([Path(run) for run in settings.runs])}


def verify(settings: Verify) -> Found:
    """What every folder of these was found to be; raises `Incomplete` if something is damaged."""
    found: list[Verified] = []
    with display([]) as watch:
        for name in settings.folders:

            def report(done: int, total: int, note: str = "", name: str = name) -> None:
                watch(executor.Progress(name, done, total, note))

            found += verify_all(shipped(name) or Path(name), report)
    shown = {"verified": found}
    if wrong := [one for one in found if one.wrong]:
        raise Incomplete(shown, UserError(f"{len(wrong)} of {len(found)} are damaged: {wrong[0].wrong[0]}"))
    return shown


def _tabled(runs: Sequence[Path]) -> list[evaluations.Seeds]:
    return list(evaluations.by_seeds([evaluations.read(run) for run in runs]))


def run_study(study: Study) -> Callable[[StudySettings], Found]:
    """The stages of a study that are not done yet; returns the table.

    The function raises `Incomplete` if it is stopped, and what is done makes a table already.
    """

    def action(settings: StudySettings) -> Found:
        folder = settings.options.folder
        with refusals(settings):
            config = settings.options.base().resolved()
            every = study.stages(folder, config, settings.study)
        with _locked(folder):
            try:
                run_unfinished(every, settings)
            except (KeyboardInterrupt, StageFailed) as cause:
                with contextlib.suppress(UserError):  # a study may need all its stages
                    raise Incomplete(study.summarize(folder, config, settings.study), cause) from cause
                raise
            return study.summarize(folder, config, settings.study)

    return action


def map_transfer(settings: Transfer) -> Found:
    """The map of a collective, also written to the file of --json, whole or not.

    Raises:
        UserError: the file cannot be written, which is tried before the work.
        Incomplete: it was stopped, after some tasks were played.
    """
    if settings.json is not None:
        outputs.check_file("--json", settings.json)

    def write(found: Found) -> None:
        if settings.json is not None:
            named = {"policies" if name == "rows" else name: value for name, value in found.items()}
            data = json.dumps(named | ({"incomplete": True} if found["missing"] else {}), indent=1)
            outputs.write_file("--json", settings.json, data.encode())

    try:
        found = run_study(transfer)(settings)
    except Incomplete as stopped:
        write(stopped.found)
        raise
    write(found)
    return found


def _locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    """The lock of a run. A finished run that cannot be written needs none: its table is only read."""
    return contextlib.nullcontext() if outputs.is_readonly(folder) else locks.lock(folder)


def run_stage(settings: StageSettings) -> Found:
    """One stage in this process, unless it is done, after those it asks for; returns its folder and its summary."""
    with refusals(settings):
        first, stage = settings.before(), settings.stage()
    folder, overwrite = settings.options.folder, settings.options.overwrite
    executor.use_threads(
        settings.threads if overwrite else threads_of(folder, stage, otherwise=settings.threads)
    )
    executor.check_device()
    result: Found = {}
    with display([*first, stage]) as watch, refusals(settings):
        for one in (*first, stage):
            result = executor.run_here(folder, one, watch=watch, overwrite=overwrite)
            watch(executor.ended(folder, one))
    return {"out": stage.out, "summary": result}


def evaluate_policy(settings: Evaluate) -> Found:
    """One row a task; it says whether the policy was made for the task, if that is known."""
    if settings.compare:
        return _compared(settings)
    rows: list[dict[str, Any]] = []
    config = settings.settings

    def found() -> Found:
        return evaluation_report(settings.policy, config, rows)

    with films_of(settings) as films, _kept(settings, found) as keep:
        executor.use_threads(1)
        executor.check_device()
        made_for = told_tasks(settings.policy)
        with display([]) as watch:
            for task in settings.tasks:

                def report(done: int, total: int, note: str = "", task: str = task) -> None:
                    watch(executor.Progress(task, done, total, note))

                for one in films.evaluated(task, report) if films else _evaluated(settings, task, report):
                    rows.append(one | ({"new": task not in made_for} if made_for else {}))
                    keep()
            if films:
                films.put_together(lambda note: watch(executor.Progress("films", 0, 1, note)))
    return found()


def _compared(settings: Evaluate) -> Found:
    """Evaluations that were written before, beside each other; also written to the file of --json."""
    if settings.json is not None:
        outputs.check_file("--json", settings.json)
    found = compare([evaluations.side(name) for name in settings.compare])
    if settings.json is not None:
        made = {"made": sealed.now(), "versions": provenance.versions()}
        outputs.write_file("--json", settings.json, json.dumps(found | made, indent=1).encode())
    return found


def _evaluated(settings: Evaluate, task: str, report: Report) -> Iterator[dict[str, Any]]:
    """The row of one task."""
    policy = load_policy(settings.policy, task=task)
    yield detailed_row(settings.policy, evaluate(policy, task, settings.settings, report=report))


def evaluate_meta_policy(settings: EvaluateMeta) -> Found:
    """One row a task, and how they were found."""
    config, found = settings.settings, []
    with _kept(settings, lambda: meta_report(settings.policy, config, found)) as keep:
        executor.use_threads(1)  # with more, what is found would depend on the machine's cores
        executor.check_device()
        player = meta_player(settings.policy, config.benchmark)
        with display([]) as watch:
            for split in config.splits:

                def report(done: int, total: int, note: str = "", split: str = split) -> None:
                    watch(executor.Progress(f"{config.benchmark} {split}", done, total, note))

                found.append(evaluate_meta(player, config, split, report))
                keep()
    return meta_report(settings.policy, config, found)


@contextlib.contextmanager
def _kept(settings: Evaluate | EvaluateMeta, made: Callable[[], Found]) -> Iterator[Callable[[], None]]:
    """What is found in the block is written to the file of --json, with what it was made from.

    Yields a function that writes what there is so far, marked as incomplete.

    Raises:
        UserError: the file cannot be written, which is tried before the work.
        Incomplete: the block ended early, after something was found; or it cannot be written in the end.
    """
    if settings.json is not None:
        outputs.check_file("--json", settings.json)

    def write(**more: Any) -> None:
        if settings.json is not None:
            about = {**origin_of(settings.policy), "made": sealed.now(), "versions": provenance.versions()}
            data = json.dumps({**made(), **about, **more}, indent=1).encode()
            outputs.write_file("--json", settings.json, data)

    def keep() -> None:
        if settings.json is not None and not outputs.is_special(settings.json):
            with contextlib.suppress(UserError):  # it is said in the end
                write(incomplete=True)

    try:
        yield keep
        write()
    except BaseException as cause:
        found = made()
        if not found["policies"]:
            raise
        raise Incomplete(found, cause) from cause
