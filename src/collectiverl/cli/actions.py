"""What the commands do: run the stages that are left, and return what there is to show."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from collectiverl.artifacts import checkpoints, paths, sealed
from collectiverl.artifacts.paths import LOGS
from collectiverl.cli.parser import refusals
from collectiverl.cli.progress import console, display
from collectiverl.cli.settings import Evaluate, Export, ManyStages, Run, StudySettings
from collectiverl.cli.stage_settings import StageSettings
from collectiverl.evaluation.evaluate import evaluate
from collectiverl.evaluation.video import record_video
from collectiverl.exchange.export import export_collective, export_experts
from collectiverl.pipeline import executor, plan
from collectiverl.pipeline.config import claim
from collectiverl.policies import load_policy
from collectiverl.stages.base import Stage, available_cores, summary, threads_of
from collectiverl.stages.evaluation import row
from collectiverl.studies.table import Study

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
    """One stage in this process, unless it is done; returns its folder and its summary."""
    with refusals(settings):
        stage = settings.stage()
    folder, overwrite = settings.options.folder, settings.options.overwrite
    executor.use_threads(
        settings.threads if overwrite else threads_of(folder, stage, otherwise=settings.threads)
    )
    with display([stage]) as watch:
        result = executor.run_here(folder, stage, watch=watch, overwrite=overwrite)
        watch(executor.Progress(stage.out, 1, 0, ""))
    return {"out": stage.out, "summary": result}


def evaluate_policy(settings: Evaluate) -> Found:
    """One row a task."""
    executor.use_threads(1)
    rows = []
    with display([]) as watch:
        for task in settings.tasks:
            policy = load_policy(settings.policy, task=task)

            def report(done: int, total: int, note: str = "", task: str = task) -> None:
                watch(executor.Progress(task, done, total, note))

            rows.append(row(settings.policy, evaluate(policy, task, settings.settings, report=report)))
            if settings.video:
                record_video(policy, task, Path(settings.video) / f"{task}.mp4")
    found = {"policies": rows}
    if settings.json:
        sealed.make_writable(Path(settings.json).parent)
        checkpoints.write_json(Path(settings.json), found)
    return found


def export(settings: Export) -> Found:
    """Writes the folder that is given away."""
    out, run, root = Path(settings.out), settings.options.folder, Path(settings.options.root)
    if settings.what == "experts":
        export_experts(run, out)
    else:
        export_collective([run, *(root / name for name in settings.seeds)], out)
    return {}
