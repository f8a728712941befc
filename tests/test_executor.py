"""Processes of stages, and the machine that they run on."""

import os
import pwd
import signal
import subprocess
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import jax
import pytest
from jax.errors import JaxRuntimeError

from collectiverl.pipeline import executor
from collectiverl.pipeline.executors import processes
from collectiverl.stages.base import explained
from collectiverl.types import ConfigError, UserError


class Pool:
    """Takes note of what is submitted while interrupts are blocked."""

    def __init__(self):
        self._processes = {}
        self.submitted = []

    def submit(self, function, *args):
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self._processes[1] = SimpleNamespace(is_alive=lambda: self.alive)
        self.submitted.append(args)
        self.alive = True
        return Future()


def test_a_process_that_died_while_it_had_nothing_to_do_is_replaced():
    pools = [Pool(), Pool()]
    worker = processes._Worker(iter(pools).__next__, 1)
    for _ in range(2):
        worker.submit("run", False, "stage")
    assert [len(pool.submitted) for pool in pools] == [2, 0]
    pools[0].alive = False
    worker.submit("run", False, "stage")
    assert [len(pool.submitted) for pool in pools] == [2, 1]


SUMS = """
import hashlib, os, sys
os.sched_setaffinity(0, set(map(int, sys.argv[1:])))
from collectiverl.pipeline import executor
executor.use_threads(1)
import jax, numpy as np
x = np.random.default_rng(0).normal(size=(1024, 256)).astype(np.float32)
found = jax.jit(lambda x: (x.mean(0), (x @ x[:256]).sum(), x.sum()))(x)
print(hashlib.sha256(b"".join(np.asarray(y).tobytes() for y in found)).hexdigest())
"""


def test_sums_do_not_depend_on_how_many_cores_a_process_may_use():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    env = {name: value for name, value in os.environ.items() if name not in ("NPROC", "XLA_FLAGS")}

    def sums(*cores):
        args = [sys.executable, "-c", SUMS, *map(str, cores)]
        return subprocess.run(args, env=env, check=True, capture_output=True).stdout

    assert sums(cores[0]) == sums(*cores)


def test_interrupts_are_blocked_for_those_that_start_alone():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with processes._interrupts_blocked():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_each_stage_at_work_has_a_process_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(processes.Processes, "_pool", lambda *_: Pool())
    monkeypatch.setattr(processes, "threads_of", lambda run, stage: int(stage.label))
    workers = processes.Processes(tmp_path, 2)
    one, two = (SimpleNamespace(label=threads) for threads in ("1", "2"))
    first, second = workers.submit(one), workers.submit(one)
    mine = workers.busy[first]
    assert mine is not workers.busy[second]
    first.set_result({})
    workers.result(first)
    assert workers.busy[workers.submit(one)] is mine
    assert workers.busy[workers.submit(two)].threads == 2


def test_a_device_that_the_machine_lacks_is_named(monkeypatch):
    def lacks():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", lacks)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match=r"JAX_PLATFORMS='cuda': Unable to initialize.*set it to cpu"):
        executor.check_device()


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def nameless(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nameless)
    cache = jax.config.jax_compilation_cache_dir
    executor.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == cache
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # nothing can be written there
    executor.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == cache


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(28, "No space left on device"), "cannot go on: .*No space left"),
        (
            MemoryError("Unable to allocate 9 TiB"),
            "does not fit in this machine's memory: Unable to allocate 9 TiB",
        ),
        (JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "does not fit in this machine's memory"),
        (ConfigError("seed", "-1 is not from 0"), "seed: -1 is not from 0"),
    ],
)
def test_what_the_machine_refuses_is_the_users_to_mend(error, why):
    with (
        pytest.raises(UserError, match=f"^train-task push: ?.*{why}|^train-task push {why}"),
        explained("train-task push"),
    ):
        raise error


@pytest.mark.parametrize(
    "error", [JaxRuntimeError("INTERNAL: a defect"), ValueError("a defect"), BrokenPipeError()]
)
def test_a_defect_stays_one(error):
    with pytest.raises(type(error)), explained("train-task push"):
        raise error
