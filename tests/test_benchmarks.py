"""The benchmarks measure what they say; how fast anything is, is not tested here."""

import importlib
import itertools
import json
import math
import os
import time

import equinox as eqx
import jax
import numpy as np
import pytest
from benchmarks import encoder, learner, loop, peers, tables
from benchmarks.criterion import Clock
from benchmarks.environments import steps_rate
from benchmarks.measure import ChildFailed, Contender, Spread, available_cores, in_child, interleaved, rate
from benchmarks.results import Table, _without_folder, facts

from collectiverl.envs.make import make_envs
from collectiverl.sac import agent as sac
from collectiverl.sac.updates import update_one
from collectiverl.types import UserError

COMMANDS = (
    "learner",
    "loop",
    "cores",
    "environments",
    "scaling",
    "encoder",
    "time_to_success",
    "gpu",
    "machines",
    "phases",
)
CORE = available_cores()[:1]


# -- measurements in children ------------------------------------------------------------------------------


def test_a_child_runs_pinned_with_one_thread_and_leaves_the_parent_as_it_was():
    before = dict(os.environ)
    assert in_child(os.sched_getaffinity, 0, cores=CORE) == set(CORE)
    assert in_child(os.getenv, "OMP_NUM_THREADS", cores=CORE) == "1"
    assert dict(os.environ) == before


def test_a_failing_child_is_reported_with_its_error():
    with pytest.raises(ChildFailed, match=r"ValueError: math domain error|expected a nonnegative input"):
        in_child(math.sqrt, -1.0, cores=CORE)


def test_a_dead_child_is_reported():
    with pytest.raises(ChildFailed, match="exit code 3"):
        in_child(os._exit, 3, cores=CORE)


def test_a_child_that_hangs_is_ended():
    began = time.perf_counter()
    with pytest.raises(ChildFailed, match="no result"):
        in_child(time.sleep, 60, cores=CORE, timeout=0.5)
    assert time.perf_counter() - began < 30


def test_contenders_are_measured_in_turn(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(Contender, "run", lambda self: {"at": next(clock)})
    contenders = [Contender(name, time.time, (), (CORE,)) for name in "ab"]
    results = interleaved(contenders, repetitions=3)
    assert results["a"]["at"].values == (0, 2, 4)
    assert results["b"]["at"].values == (1, 3, 5)


def test_processes_side_by_side_add_up(monkeypatch):
    monkeypatch.setattr("benchmarks.measure.in_child", lambda f, *args, cores: {"updates/s": float(cores[0])})
    assert Contender("two", time.time, (), ((3,), (4,))).run() == {"updates/s": 7.0}


def test_a_spread_shows_median_and_range():
    assert str(Spread((3.0, 1.0, 20.0))) == "3.0 (1.0 to 20.0)"
    assert str(Spread((1234.5,))) == "1,234"


# -- what is counted ---------------------------------------------------------------------------------------


def test_flops_of_an_update_are_those_that_xla_counts():
    """XLA also counts what is no matrix product, and leaves out gradients of inputs that nobody needs."""
    config = sac.SACConfig(layer_norm=False)
    key = jax.random.key(0)
    state = eqx.filter_eval_shape(
        lambda k: sac.init_state(sac.init_agent(learner.OBS_DIM, learner.ACTION_DIM, config, k), config), key
    )
    batch = learner.random_batches((config.batch_size,))
    arrays, static = eqx.partition(state, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))

    def update(arrays, batch, key):
        new, metrics = update_one(eqx.combine(arrays, static), batch, key, config)
        return eqx.filter(new, eqx.is_array), metrics

    counted = jax.jit(update).lower(arrays, batch, key).compile().cost_analysis()["flops"]
    sizes = config.width, config.depth, config.batch_size
    ours = learner.update_flops(learner.OBS_DIM, learner.ACTION_DIM, *sizes)
    assert ours == pytest.approx(counted, rel=0.1)


def test_environment_steps_are_transitions_not_calls():
    """An episode's end takes a call of its own that resets and is no transition."""
    envs = make_envs("toy-reach", 2, goals="fresh")
    envs.reset(0)
    calls = []

    def step(action):
        calls.append(envs.step(action).began.sum())
        time.sleep(1e-3)

    speed = steps_rate(step, envs.spec, 2, 0.01, envs.close)
    assert sum(calls) == 2 * len(calls) // (envs.spec.horizon + 1)
    assert speed < 2 * envs.spec.horizon / (envs.spec.horizon + 1) / 1e-3


def test_a_rate_by_the_cores_own_time_leaves_out_what_it_waits_for():
    def call():
        time.sleep(0.02)
        _compute(0.01)

    assert rate(call, 1, 0.05, time.process_time) > 60
    assert rate(call, 1, 0.05) < 40


def test_the_encoders_table_is_by_what_is_measured():
    results = {
        encoder.named("self-supervised training", "gru"): {encoder.WINDOWS: Spread((250.0,))},
        encoder.named("acting", "transformer"): {encoder.STEP: Spread((2.0,))},
        encoder.named("acting", "gru"): {encoder.STEP: Spread((1.0,))},
    }
    assert encoder.rows(results) == [
        ["acting", "gru", "1.0 core-ms a step"],
        ["acting", "transformer", "2.0 core-ms a step"],
        ["self-supervised training", "gru", "250 windows/core-s"],
    ]
    assert len(encoder.measurements(encoder.Encoding())) == 3 * len(encoder.KINDS)


@pytest.mark.bench
@pytest.mark.parametrize("kind", encoder.KINDS)
def test_each_work_of_the_encoder_is_measured(kind):
    for name, (measure, _) in encoder.measurements(encoder.Encoding()).items():
        if name.endswith(kind):
            ((_, speed),) = measure(kind, 2, 0.01).items()
            assert speed > 0


def test_a_clock_counts_what_this_process_computes_and_stands_still_while_paused():
    clock = Clock()
    time.sleep(0.05)  # somebody else's turn on the core
    assert clock.seconds < 0.04
    with clock.paused():
        before = clock.seconds
        _compute(0.05)
        assert clock.seconds == before
    _compute(0.05)
    assert before + 0.05 <= clock.seconds < before + 0.09


def _compute(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


# -- commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_bad_flags_get_a_message_and_exit_code_2(name, capsys, tmp_path):
    module = importlib.import_module(f"benchmarks.{name}")
    flag = {"time_to_success": "--seeds", "machines": "--toy"}.get(name, "--repetitions")
    for args, message in ((["--no-such-flag", "1"], "--no-such-flag"), ([flag, "0"], "must be positive")):
        with pytest.raises(SystemExit) as stop:
            module.main([*args, "--out", str(tmp_path)])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["learner", "loop", "time_to_success"])
def test_a_missing_peer_is_named(name, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda package: None)
    assert importlib.import_module(f"benchmarks.{name}").main(["--out", str(tmp_path)]) == 2
    assert "pip install -e '.[bench]'" in capsys.readouterr().err


def test_tables_shows_what_a_benchmark_saved(tmp_path, monkeypatch, capsys):
    found = {name: {"env_steps/s": Spread((speed,))} for name, speed in (("ours", 300.0), ("sb3", 100.0))}
    monkeypatch.setattr(loop, "interleaved", lambda *_: found)
    monkeypatch.setattr(peers, "require", lambda: None)
    assert loop.main(["--out", str(tmp_path)]) == 0
    saved = json.loads((tmp_path / "loop.json").read_text())
    assert saved["about"]["command"] == "python -m benchmarks.loop"
    assert saved["results"]["ours"]["env_steps/s"]["median"] == 300
    capsys.readouterr()
    assert tables.main(["--out", str(tmp_path)]) == 0
    assert "| Stable-Baselines3 | 100 | 3.00x |" in capsys.readouterr().out


def test_tables_without_results_says_so(tmp_path):
    with pytest.raises(UserError, match="run a benchmark first"):
        tables.show(tables.Tables(out=tmp_path))
    assert tables.main(["loop", "--out", str(tmp_path)]) == 2


def test_a_table_is_markdown():
    assert Table("t", ("a", "b"), [("1", "2")]).markdown() == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_machine_is_on_record():
    about = facts()
    assert about["cores"] == os.cpu_count()
    assert {"jax", "numpy"} <= about["versions"].keys()


# -- peers -------------------------------------------------------------------------------------------------


def test_the_environment_of_a_peer_is_ours_with_fresh_goals():
    env = peers.fresh_goals_env("reach-v3")
    first, _ = env.reset(seed=0)
    second, _ = env.reset()
    assert first.shape == (39,)
    assert first.dtype == np.float32
    assert not np.array_equal(first[36:], second[36:])


@pytest.mark.bench
@pytest.mark.parametrize("peer", peers.PEERS)
@pytest.mark.filterwarnings("ignore")
def test_a_peer_trains_on_a_full_buffer(peer):
    pytest.importorskip(peers.PEERS[peer])
    model = peers.filled_sac(peer, 6, 2, transitions=300)
    model.train(gradient_steps=2, batch_size=16)
    assert model.predict(np.zeros((3, 6), np.float32))[0].shape == (3, 2)


def test_where_results_lay_is_not_among_them():
    assert _without_folder(["--repetitions", "3", "--out", "somewhere"]) == ["--repetitions", "3"]
    assert _without_folder(["--out=somewhere", "--steps", "8"]) == ["--steps", "8"]


def test_a_learners_batches_are_not_bound_to_their_device(monkeypatch):
    """Bound ones bind the state that the first call returns, and the second call compiles anew, with the clock on."""
    found = []
    monkeypatch.setattr(learner, "_updates", lambda batches, *_: found.append(batches()))
    learner.update_rate(1, 0.1, batch_size=4)
    assert [leaf.committed for leaf in jax.tree.leaves(found)] == [False] * 5
