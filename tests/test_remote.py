"""Stages on other machines: what is tried again, and what comes back. The machines here are this process."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from collectiverl.artifacts import manifests
from collectiverl.artifacts.checkpoints import Checkpoints
from collectiverl.artifacts.store import Store
from collectiverl.cli import actions, main, settings
from collectiverl.cli.parser import parse
from collectiverl.pipeline import estimates
from collectiverl.pipeline.executors import remote, worker
from collectiverl.pipeline.executors.base import run_stages
from collectiverl.pipeline.executors.choice import CLUSTERS
from collectiverl.pipeline.executors.remote import RETRIES, Lost, OutOfMemory, Remote
from collectiverl.pipeline.executors.slurm import SlurmCluster
from collectiverl.stages.base import Stage
from collectiverl.types import StageFailed, UserError

fsspec = pytest.importorskip("fsspec", reason="the store needs fsspec: pip install 'collectiverl[ray]'")
STEPS = 6


class Killed(BaseException):
    """The process of a worker ends here."""


class Handle:
    """Of an attempt."""

    def __init__(self, task):
        self.task = task


class Here:
    """A cluster of one machine, this process, which does a task when its result is asked for."""

    def __init__(self, scratch: Path, *deaths):
        self.scratch, self.deaths = scratch, list(deaths)
        self.memory, self.told, self.killed, self.attempts = [], [], [], 0

    def start(self, task, memory):
        self.memory.append(memory)
        return Handle(task)

    def wait(self, handles, seconds):
        return handles[:1]

    def result(self, handle):
        self.attempts += 1
        worker._folder = lambda: self.scratch / str(self.attempts)  # each attempt on another machine
        (self.scratch / str(self.attempts)).mkdir(parents=True)
        death = self.deaths.pop(0) if self.deaths else None
        if isinstance(death, Exception):
            raise death
        try:
            return worker.perform(
                replace(handle.task, stage=with_death(handle.task.stage, death)), self.told.append
            )
        except Killed:
            raise Lost("the worker died") from None

    def progress(self):
        found, self.told = self.told, []
        return found

    def kill(self, handles):
        self.killed += handles

    def close(self):
        pass


def with_death(stage, step):
    """The stage, killed at this step."""
    return stage if step is None else replace(stage, function=lambda work: stage.function(work, kill_at=step))


def count(work, kill_at=None):
    """Adds up its inputs and its steps, with a checkpoint after each step."""
    kept = Checkpoints(work.folder)
    state = {"step": 0, "sum": sum(json.loads((work.run / n / "sum").read_text()) for n in work.inputs)}
    if kept.latest:
        state = json.loads((kept.latest / "state").read_text())
    began = state["step"]
    while state["step"] < STEPS:
        if state["step"] == kill_at:
            raise Killed
        state = {"step": state["step"] + 1, "sum": state["sum"] + work.seed + state["step"]}
        kept.write(partial(save, state))
        work.report(state["step"], STEPS, "")
    (work.folder / "sum").write_text(str(state["sum"]))
    (work.folder / "metrics.jsonl").write_text(json.dumps({"began": began}))
    return {"sum": state["sum"]}


def save(state, folder):
    (folder / "state").write_text(json.dumps(state))


def refuse(work):
    os.write(1, b"looking for goals")  # pytest has another sys.stdout
    raise UserError(f"{work.run}/goals is not there: make it")


def break_down(work):
    os.write(2, b"Traceback")  # which goes to pytest's sys.stderr
    raise ValueError("a defect")


def stage(out, function=count, inputs=(), **changes):
    inputs = dict.fromkeys(inputs, "")
    return Stage(kind="count", subject=out, out=out, function=function, config={}, inputs=inputs, **changes)


CHAIN = [stage("one", seed=1), stage("two", seed=2), stage("both", inputs=("one", "two"), seed=3)]


@pytest.fixture
def store(monkeypatch):
    """An empty store; a worker may upload each checkpoint."""
    memory = fsspec.filesystem("memory")
    for path in memory.ls("/", detail=False):
        memory.rm(path, recursive=True)
    monkeypatch.setattr(worker, "use_threads", lambda threads: None)
    monkeypatch.setattr("collectiverl.pipeline.executor.check_device", lambda: None)
    monkeypatch.setattr("collectiverl.artifacts.uploads.threading.Thread.start", at_once)
    monkeypatch.setattr(worker, "_folder", worker._folder)
    return Store("memory://run")


def at_once(thread):
    """An upload in place of the beginning of its thread."""
    thread.run()


@pytest.fixture
def at_work(monkeypatch):
    """Uploads are not threads here, so there is nothing to wait for."""
    monkeypatch.setattr("collectiverl.artifacts.uploads.Uploads.wait", lambda self: None)


def run(folder, store, cluster, stages):
    watched = []
    run_stages(Remote(folder, store, cluster, upload_every=0.0), stages, watched.append)
    return watched


def identities(folder):
    return {s.out: manifests.identity(folder / s.out) for s in CHAIN}


@pytest.fixture
def undisturbed(tmp_path, store, at_work):
    """The run that nothing happens to, and its identities."""
    run(tmp_path / "undisturbed", Store("memory://other"), Here(tmp_path / "machine"), CHAIN)
    return identities(tmp_path / "undisturbed")


def test_results_come_here_through_the_store(tmp_path, store, at_work):
    told = run(tmp_path / "run", store, Here(tmp_path / "machine"), CHAIN)
    assert json.loads((tmp_path / "run/both/summary.json").read_text())["sum"] == 6 * 6 + 3 * 15
    assert {update.out for update in told if update.total} == {"one", "two", "both"}
    assert [update.out for update in told if not update.total] == ["one", "two", "both"]


def test_a_dead_worker_costs_time_and_the_next_goes_on_from_the_newest_checkpoint(
    tmp_path, store, at_work, undisturbed
):
    cluster = Here(tmp_path / "machines", 4, None, 2, 5)
    run(tmp_path / "run", store, cluster, CHAIN)
    assert cluster.attempts == 6
    assert identities(tmp_path / "run") == undisturbed
    began = {s.out: json.loads((tmp_path / "run" / s.out / "metrics.jsonl").read_text()) for s in CHAIN}
    assert 0 < began["one"]["began"] < STEPS
    assert store._checkpoints("one") == []


def test_a_worker_that_dies_again_and_again_is_given_up(tmp_path, store, at_work):
    cluster = Here(tmp_path / "machines", *[Lost("no more")] * (RETRIES + 1))
    with pytest.raises(
        StageFailed, match=f"count one: its worker died {RETRIES + 1} times .no more.; run again"
    ):
        run(tmp_path / "run", store, cluster, CHAIN[:1])
    assert cluster.attempts == RETRIES + 1


FOLDERS = {  # of a run, with the kind of the stage that fills them
    **{"model": "train-task", "online_distill": "online-distill", "online_buffer": "split-online-buffer"},
    **{
        "model_col": "distill-collective",
        "evaluation": "evaluate",
        "cross_play": "cross-play",
        "films": "film",
    },
    **{
        "buffer_distill": "split-buffer",
        "trajectory_transformer": "train-transformer",
        "student": "train-student",
    },
    **{"sac": "train-student", "told_nothing": "told-nothing", "recorded": "record", "summary": "summary"},
}


def measured():
    """Kinds of stages, with bytes that one of them had in memory."""
    for kind, suites in estimates.measured()["stages"].items():
        yield from ((kind.split()[0], found["memory"]) for found in suites.values())
    for path in sorted((Path(__file__).parents[1] / "results").rglob("*.json")):
        for folder, peak in json.loads(path.read_text()).get("stage_memory", {}).items():
            first, second, *_ = f"{folder}/".split("/")
            yield "probe" if second == "probe" else FOLDERS[first], peak or 0


def test_a_stage_declares_at_least_the_memory_that_was_measured():
    declared = {kind: remote.MORE_MEMORY.get(kind, remote.MEMORY) for kind, _ in measured()}
    assert {(kind, peak) for kind, peak in measured() if peak > declared[kind]} == set()
    assert min(remote.MORE_MEMORY[kind] for kind in ("ablate", "told-nothing")) >= declared["online-distill"]


def test_what_runs_out_of_memory_gets_twice_as_much_once(tmp_path, store, at_work):
    cluster = Here(tmp_path / "a", OutOfMemory("killed"))
    run(tmp_path / "run", store, cluster, CHAIN[:1])
    assert cluster.memory == [remote.MEMORY, 2 * remote.MEMORY]
    cluster = Here(tmp_path / "b", OutOfMemory("killed"), Lost("dead"), OutOfMemory("killed"))
    with pytest.raises(UserError, match="count two ran out of memory, and again with twice as much"):
        run(tmp_path / "run", store, cluster, CHAIN[1:2])
    assert cluster.memory == [remote.MEMORY, 2 * remote.MEMORY, 2 * remote.MEMORY]


def test_an_error_of_the_user_is_not_tried_again(tmp_path, store, at_work):
    cluster = Here(tmp_path / "machine")
    with pytest.raises(UserError, match=f"^{tmp_path}/run/goals is not there: make it"):
        run(tmp_path / "run", store, cluster, [stage("one", refuse)])
    assert cluster.attempts == 1
    assert "looking for goals" in (tmp_path / "run/logs/one.log").read_text()


def test_a_defect_is_not_tried_again_and_its_traceback_is_here(tmp_path, store, at_work):
    cluster = Here(tmp_path / "machine")
    with pytest.raises(StageFailed, match=f"ValueError.'a defect'.*{tmp_path}/run/logs/one.log"):
        run(tmp_path / "run", store, cluster, [stage("one", break_down)])
    assert cluster.attempts == 1
    assert "Traceback" in (tmp_path / "run/logs/one.log").read_text()


def test_stages_at_work_are_ended_when_one_is_refused(tmp_path, store, at_work):
    cluster = Here(tmp_path / "machine")
    with pytest.raises(UserError):
        run(tmp_path / "run", store, cluster, [stage("one", refuse), *CHAIN[1:2]])
    assert [handle.task.stage.out for handle in cluster.killed] == ["two"]


def test_a_new_driver_goes_on_from_the_store(tmp_path, store, at_work, undisturbed):
    first = Here(tmp_path / "first", None, 3, 3, 3, 3)
    with pytest.raises(StageFailed):
        run(tmp_path / "run", store, first, CHAIN)
    new = tmp_path / "elsewhere"
    remote.bring(new, store, CHAIN)
    left = [s for s in CHAIN if not manifests.is_sealed(new / s.out)]
    assert [s.out for s in left] == ["two", "both"]
    run(new, store, Here(tmp_path / "second"), left)
    assert identities(new) == undisturbed
    assert json.loads((new / "two/metrics.jsonl").read_text())["began"] > 0


def test_a_result_that_is_in_the_store_is_not_made_again(tmp_path, store, at_work):
    run(tmp_path / "run", store, Here(tmp_path / "a"), CHAIN[:1])
    run(tmp_path / "new", store, Here(tmp_path / "b", 0), CHAIN[:1])  # it would be killed at its first step
    assert manifests.identity(tmp_path / "run/one") == manifests.identity(tmp_path / "new/one")


def test_results_that_were_made_here_are_shared(tmp_path, store, at_work, undisturbed):
    here = tmp_path / "undisturbed"
    run(here, store, Here(tmp_path / "another"), CHAIN[2:])
    assert identities(here) == undisturbed
    assert store.has("one")


def test_another_result_of_the_same_name_is_refused(tmp_path, store, at_work):
    run(tmp_path / "run", store, Here(tmp_path / "a"), [replace(CHAIN[0], seed=7)])
    run(tmp_path / "mine", Store("memory://other"), Here(tmp_path / "b"), CHAIN[:2])
    with pytest.raises(UserError, match=r"mine/one and the result in memory://run differ"):
        run(tmp_path / "mine", store, Here(tmp_path / "c"), CHAIN[2:])


def test_machines_with_another_version_are_told(tmp_path, store, at_work, monkeypatch):
    cluster = Here(tmp_path / "machine")
    executor = Remote(tmp_path / "run", store, cluster)
    job = executor.submit(CHAIN[0])
    assert job.task.source.startswith("0.")
    monkeypatch.setattr(worker, "source", lambda: "0.1.0 (abc)")
    assert executor.wait([job], 0) == [job]
    with pytest.raises(
        UserError, match=r"has collectiverl 0\.1\.0 \(abc\), and this machine 0.*Install the same"
    ):
        executor.result(job)


# -- the command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--store", "memory://x"], "--store: is for --executor ray or slurm"),
        (["--address", "auto"], "--address: is for --executor ray or slurm"),
        (["--executor", "ray"], "--store: --executor ray needs one, such as s3://bucket/folder"),
        (["--executor", "slurm", "--store", "memory://x", "--cores", "2"], "--cores: is for processes here"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(flags, said, tmp_path, capsys):
    assert main.dispatch(["run", "--preset", "smoke", "--root", str(tmp_path), *flags]) == 2
    assert said in capsys.readouterr().err


def test_the_command_hands_its_stages_to_the_cluster_and_the_store(tmp_path, store, at_work, monkeypatch):
    made = {}

    def cluster(run, address):
        made.update(run=run, address=address)
        return Here(tmp_path / "machine")

    monkeypatch.setitem(CLUSTERS, "ray", cluster)
    monkeypatch.setattr(actions.plan, "stages", lambda config, until: CHAIN)
    monkeypatch.setattr(actions.paths, "summary", lambda until: "both")
    flags = ["--executor", "ray", "--address", "10.0.0.1:6379", "--store", "memory://all/"]
    line = ["--run", "mine", "--root", str(tmp_path), *flags]
    monkeypatch.setattr(actions.reports, "page_of_run", lambda folder, until: "page")
    found = actions.run_pipeline(parse(settings.Run, line, prog="collectiverl run"))
    assert found == {"sum": 81, "page": "page"}
    assert made["address"] == "10.0.0.1:6379"
    assert Store("memory://all/mine").has("both")


@pytest.mark.slow  # processes that import everything
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_slurm_jobs_as_processes(tmp_path, monkeypatch):
    """submitit's own local jobs, which end as Slurm's do."""
    pytest.importorskip("submitit", reason="pip install 'collectiverl[slurm]'")
    here = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1] / "src")))
    monkeypatch.setenv("PYTHONPATH", here)
    cluster = SlurmCluster(tmp_path / "jobs", cluster="local")
    store = Store(f"file://{tmp_path / 'store'}")
    run(tmp_path / "run", store, cluster, CHAIN[:1])
    assert json.loads((tmp_path / "run/one/summary.json").read_text()) == {"sum": 21}
