"""What the commands do: run the stages that are left, and return what there is to show."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from collectiverl.artifacts import checkpoints, paths, provenance, sealed
from collectiverl.artifacts.paths import LOGS
from collectiverl.cli.parser import refusals
from collectiverl.cli.progress import console, display
from collectiverl.cli.settings import Evaluate, EvaluateMeta, Export, ManyStages, Run, StudySettings
from collectiverl.cli.stage_settings import StageSettings
from collectiverl.evaluation.evaluate import evaluate
from collectiverl.evaluation.metalearning import evaluate_meta, meta_report
from collectiverl.evaluation.video import record_video
from collectiverl.exchange.export import export_collective, export_experts
from collectiverl.pipeline import executor, plan
from collectiverl.pipeline.config import claim
from collectiverl.policies import load_collective, load_policy, origin_of, told_tasks
from collectiverl.stages.base import Stage, available_cores, summary, threads_of
from collectiverl.stages.evaluation import row
from collectiverl.studies.table import Study
from collectiverl.types import UserError

Found = Mapping[str, Any]


def run_pipeline(settings: Run) -> Found:
    """The stages of a run that are not done yet; returns the summary."""
    folder, config = settings.options.folder, settings.settings
    with refusals(settings):
        every = plan.stages(config, settings.until)
    with sealed.lock(folder):
        claim(folder, config, overwrite=settings.options.overwrite)
        _run_unfinished(every, settings)
    return summary(folder / paths.summary(settings.until))


def run_study(study: Study) -> Callable[[StudySettings], Found]:
    """The stages of a study that are not done yet; returns the table."""

    def action(settings: StudySettings) -> Found:
        folder = settings.options.folder
        with refusals(settings):
            config = settings.options.base().resolved()
            every = study.stages(folder, config, settings.study)
        with sealed.lock(folder):
            _run_unfinished(every, settings)
            return study.summarize(folder, config, settings.study)

    return action


def _run_unfinished(every: Sequence[Stage], settings: ManyStages) -> None:
    """The stages that are not done yet, side by side."""
    folder, overwrite = settings.options.folder, settings.options.overwrite
    todo = plan.unfinished(folder, every, overwrite=overwrite)
    if not todo:
        console.print(f"all {len(every)} stages are done: nothing to do")
        return
    done = len(every) - len(todo)
    console.print(f"{done} of {len(every)} stages are done, {len(todo)} to do; logs in {folder / LOGS}")
    cores = settings.cores or available_cores()
    with display(todo) as watch:
        executor.run_in_processes(folder, todo, cores=cores, watch=watch, overwrite=overwrite)


def run_stage(settings: StageSettings) -> Found:
    """One stage in this process, unless it is done, after those it asks for; returns its folder and its summary."""
    with refusals(settings):
        first, stage = settings.before(), settings.stage()
    folder, overwrite = settings.options.folder, settings.options.overwrite
    executor.use_threads(
        settings.threads if overwrite else threads_of(folder, stage, otherwise=settings.threads)
    )
    with display([*first, stage]) as watch:
        for one in (*first, stage):
            result = executor.run_here(folder, one, watch=watch, overwrite=overwrite)
            watch(executor.Progress(one.out, 1, 0, ""))
    return {"out": stage.out, "summary": result}


def evaluate_policy(settings: Evaluate) -> Found:
    """One row a task; it says whether the policy was made for the task, if that is known."""
    _check_writable(settings.json)
    executor.use_threads(1)
    made_for, rows = told_tasks(settings.policy), []
    with display([]) as watch:
        for task in settings.tasks:
            policy = load_policy(settings.policy, task=task)

            def report(done: int, total: int, note: str = "", task: str = task) -> None:
                watch(executor.Progress(task, done, total, note))

            result = row(settings.policy, evaluate(policy, task, settings.settings, report=report))
            rows.append(result | ({"new": task not in made_for} if made_for else {}))
            if settings.video:
                record_video(policy, task, Path(settings.video) / f"{task}.mp4")
    return _written(settings.json, settings.policy, {"policies": rows})


def evaluate_meta_policy(settings: EvaluateMeta) -> Found:
    """One row a task, and how they were found."""
    _check_writable(settings.json)
    executor.use_threads(available_cores())
    config, found = settings.settings, []
    collective = load_collective(settings.policy)
    with display([]) as watch:
        for split in config.splits:

            def report(done: int, total: int, note: str = "", split: str = split) -> None:
                watch(executor.Progress(f"{config.benchmark} {split}", done, total, note))

            found.append(evaluate_meta(collective, config, split, report))
    return _written(settings.json, settings.policy, meta_report(settings.policy, config, found))


def _check_writable(path: str | None) -> None:
    """Raises, before hours of work, if results cannot be written to this file."""
    if path:
        sealed.make_writable(Path(path).parent)
        if Path(path).is_dir():
            raise UserError(f"{path} is a folder: name a file for the results")


def _written(path: str | None, policy: str, found: Found) -> Found:
    """The results, which are also written to the file that was asked for, with what they were made from."""
    if path:
        made = {"made": sealed.now(), "versions": provenance.versions()}
        checkpoints.write_json(Path(path), {**found, **origin_of(policy), **made})
    return found


def export(settings: Export) -> Found:
    """Writes the folder that is given away."""
    out, run, root = Path(settings.out), settings.options.folder, Path(settings.options.root)
    if settings.what == "experts":
        export_experts(run, out)
    else:
        export_collective([run, *(root / name for name in settings.seeds)], out)
    return {}
