"""Manifests say where a result comes from; what is not a part of it changes no identity and refuses nothing."""

import json
import subprocess
from concurrent.futures import Future
from dataclasses import replace

import jax
import pytest
import threadpoolctl

from collectiverl.artifacts import attempts, manifests, provenance, sealed
from collectiverl.artifacts.files import read_json
from collectiverl.artifacts.manifests import with_seal
from collectiverl.cli import main
from collectiverl.pipeline import executor
from collectiverl.pipeline.executors import processes
from collectiverl.stages.base import Stage, execute, is_done, threads_of
from collectiverl.types import UserError


def stage_of(function, out="first", **changes) -> Stage:
    return replace(
        Stage(kind="test", subject="", out=out, function=function, config={"steps": 3}, seed=0), **changes
    )


def timed(seconds):
    """A stage whose result is always the same, and takes this long."""

    def function(work):
        (work.folder / "weights").write_text("weights")
        (work.folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "seconds": seconds}))
        (work.folder / "tensorboard").mkdir()
        (work.folder / "tensorboard" / f"events.{seconds}").write_text(str(seconds))
        return {"success": 1.0, "seconds": seconds, "rows": [{"seconds": seconds, "task": "toy-reach"}]}

    return function


def test_a_stage_made_anew_with_the_same_result_is_accepted_by_its_followers(tmp_path):
    follower = stage_of(timed(1), "second", inputs={"first": ""})
    execute(tmp_path, stage_of(timed(1)))
    execute(tmp_path, follower)
    execute(tmp_path, stage_of(timed(2)), overwrite=True)
    assert read_json(tmp_path / "first" / "summary.json")["seconds"] == 2
    assert is_done(tmp_path, follower)

    def other(work):
        return timed(1)(work) | {"success": 0.5}

    execute(tmp_path, stage_of(other), overwrite=True)
    with pytest.raises(UserError, match="input first"):
        is_done(tmp_path, follower)


def test_folders_sealed_before_formats_were_numbered_keep_their_identity(tmp_path):
    execute(tmp_path, stage_of(timed(1)))
    record = read_json(tmp_path / "first" / "manifest.json")
    now = manifests.identity(tmp_path / "first")
    del record["format"], record["seal"]
    (tmp_path / "first" / "manifest.json").write_text(json.dumps(record))
    assert manifests.identity(tmp_path / "first") != now
    assert is_done(tmp_path, stage_of(timed(1)))


def test_a_manifest_says_what_made_it(tmp_path):
    execute(tmp_path, stage_of(timed(1), format=7))
    record = sealed.manifest(tmp_path / "first")
    assert {"collectiverl", "jax", "jaxlib", "optax", "numpy"} <= record["versions"].keys()
    assert record["format"] == 7
    assert record["commit"] == provenance.commit()
    assert record["runtime"] == {
        "threads": 1,  # of the tests
        "precision": "default",
        "operands": provenance.operands(),
        "device": "cpu",
        "processor": provenance.processor(),
    }


def test_the_commit_is_that_of_a_checkout_of_this_package_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "collectiverl" / "artifacts" / "provenance.py")
    )
    (tmp_path / "collectiverl" / "artifacts").mkdir(parents=True)
    (tmp_path / "collectiverl" / "__init__.py").write_text("")
    commit = provenance.commit.__wrapped__
    assert commit() is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert commit() is None  # another project's, in whose environment it is installed
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for args in (["add", "-A"], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(tmp_path), *args], check=True)
    clean = commit()
    assert len(clean) == 40
    (tmp_path / "collectiverl" / "__init__.py").write_text("changed")
    assert commit() == f"{clean}-dirty"


def test_another_format_is_refused_and_other_versions_are_not(tmp_path, monkeypatch):
    execute(tmp_path, stage_of(timed(1)))
    monkeypatch.setattr(provenance, "versions", lambda: {"jax": "99"})
    monkeypatch.setattr(provenance, "commit", lambda: "another")
    assert is_done(tmp_path, stage_of(timed(1)))
    with pytest.raises(UserError, match="format: 1 there, 2 now"):
        is_done(tmp_path, stage_of(timed(1), format=2))


def test_a_stage_goes_on_with_the_precision_and_threads_that_it_began_with(tmp_path, monkeypatch):
    def fail(work):
        raise ZeroDivisionError

    monkeypatch.setattr(jax.config, "update", lambda name, value: used.append((name, value)))
    used: list = []
    with pytest.raises(ZeroDivisionError):
        execute(tmp_path, stage_of(fail))
    intent = tmp_path / "first.partial" / ".intent.json"
    said = json.loads(intent.read_text()) | {"runtime": {"threads": 2, "precision": "float32"}}
    intent.write_text(json.dumps(with_seal(said)))
    assert threads_of(tmp_path, stage_of(fail)) == 2
    assert threads_of(tmp_path, stage_of(fail, "second"), otherwise=3) == 3
    execute(tmp_path, stage_of(timed(1)))
    assert used == [
        ("jax_default_matmul_precision", None),
        ("jax_default_matmul_precision", "float32"),
    ]
    assert sealed.manifest(tmp_path / "first")["runtime"]["precision"] == "float32"


@pytest.mark.parametrize(
    ("flags", "fastest"), [("fpu amx_tile amx_bf16", "bfloat16"), ("fpu avx2 amx_bf16_not", "float32")]
)
def test_a_learner_rounds_its_operands_where_the_processor_is_made_for_it(monkeypatch, flags, fastest):
    monkeypatch.setattr(provenance, "_cpuinfo", lambda name: flags)
    assert provenance._fastest.__wrapped__() == fastest
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert provenance._fastest.__wrapped__() == "float32"


@pytest.mark.parametrize("began", ["float32", "bfloat16", None])
def test_a_stage_keeps_the_operands_that_it_began_with(tmp_path, monkeypatch, began):
    """One that was begun before this was recorded had float32."""

    def fail(work):
        raise ZeroDivisionError

    seen = []
    with pytest.raises(ZeroDivisionError):
        execute(tmp_path, stage_of(fail))
    intent = tmp_path / "first.partial" / ".intent.json"
    said = read_json(intent)
    said["runtime"] = {"threads": 1, "precision": "default"} | ({"operands": began} if began else {})
    intent.write_text(json.dumps(with_seal(said)))
    for fastest in ("float32", "bfloat16"):
        monkeypatch.setattr(provenance, "_fastest", lambda fastest=fastest: fastest)
        runtime = provenance.runtime(attempts.begun(tmp_path / "first")["runtime"])
        seen += [provenance.operands(), runtime["operands"]]
    assert set(seen) == {began or "float32"}


def test_threads_are_those_of_all_linear_algebra_also_of_libraries_that_are_loaded_already():
    with threadpoolctl.threadpool_limits(2):
        executor.use_threads(1)
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}


@pytest.mark.parametrize(("flags", "threads"), [([], 1), (["--threads", "2"], 2)])
def test_single_commands_use_one_thread_unless_others_are_asked_for(tmp_path, monkeypatch, flags, threads):
    used = []
    monkeypatch.setattr(executor, "use_threads", used.append)
    args = ["record", "toy-reach", "--episodes", "2", "--root", str(tmp_path)]
    assert main.dispatch([*args, *flags]) == 0
    assert used == [threads]
    assert main.dispatch(["evaluate", "scripted:toy-reach"]) == 0
    assert used[1:] == [1]


def test_the_processes_of_a_run_have_the_threads_of_their_stages(tmp_path, monkeypatch):
    made = []

    class Pool:
        _processes = None

        def __init__(self, cores, *, mp_context, initializer, initargs):
            made.append(initargs[2])

        def submit(self, *args):
            done = Future()
            done.set_result({})
            return done

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)
    workers = processes.Processes(tmp_path, 2)
    (tmp_path / "first.partial").mkdir()
    (tmp_path / "first.partial" / ".intent.json").write_text(
        json.dumps(with_seal({"runtime": {"threads": 4}}))
    )
    for out in ("other", "first", "another"):
        workers.result(workers.submit(stage_of(timed(1), out)))
    assert made == [1, 4]
