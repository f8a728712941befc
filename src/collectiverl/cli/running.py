"""Does what is left of a run or a study, with the executor that was asked for."""

from collections.abc import Sequence

from collectiverl.artifacts import locks
from collectiverl.artifacts.paths import LOGS
from collectiverl.artifacts.store import Store
from collectiverl.cli.progress import display, tell
from collectiverl.cli.settings import ManyStages
from collectiverl.pipeline import plan
from collectiverl.pipeline.estimates import cost
from collectiverl.pipeline.executor import Watch
from collectiverl.pipeline.executors import remote
from collectiverl.pipeline.executors.base import run_stages
from collectiverl.pipeline.executors.choice import CLUSTERS
from collectiverl.pipeline.executors.processes import run_in_processes
from collectiverl.stages.base import Stage, available_cores


def run_unfinished(every: Sequence[Stage], settings: ManyStages) -> None:
    """The stages that are not done yet, side by side: in processes here, or on other machines."""
    folder, overwrite = settings.options.folder, settings.options.overwrite
    store = Store(f"{settings.store.rstrip('/')}/{folder.name}") if settings.store else None
    if store:
        remote.bring(folder, store, every)
    todo = plan.unfinished(folder, every, overwrite=overwrite)
    if not todo:
        tell(f"all {len(every)} stages are done: nothing to do")
        return
    locks.make_writable(folder)
    done = len(every) - len(todo)
    tell(f"{done} of {len(every)} stages are done, {len(todo)} to do; logs in {folder / LOGS}")
    with display(todo, {stage.out: cost(stage).seconds for stage in todo}) as watch:
        if store:
            _run_elsewhere(todo, settings, store, watch)
        else:
            cores = settings.cores or available_cores()
            run_in_processes(folder, todo, cores=cores, watch=watch, overwrite=overwrite)


def _run_elsewhere(todo: Sequence[Stage], settings: ManyStages, store: Store, watch: Watch) -> None:
    """The same on other machines, whose results come here through the store."""
    folder = settings.options.folder
    cluster = CLUSTERS[settings.executor](folder, settings.address)
    if settings.options.overwrite:
        for stage in todo:
            store.drop(stage.out)
    run_stages(remote.Remote(folder, store, cluster), todo, watch)
