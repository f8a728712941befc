"""The simulated schedule of many machines, against schedules that are counted by hand."""

import json
from dataclasses import replace

import pytest
from benchmarks import gpu, machines, schedule
from benchmarks.schedule import Node, critical_path, graph, seconds_of, simulate

from collectiverl.pipeline.presets import mt50


def node(seconds, *inputs):
    return Node(seconds, inputs, "")


DIAMOND = {
    "a": node(3.0),
    "b": node(2.0),
    "c": node(1.0, "a"),
    "d": node(4.0, "a", "b"),
    "e": node(1.0, "c", "d"),
}


@pytest.mark.parametrize(("slots", "seconds"), [(1, 11.0), (2, 8.0), (9, 8.0)])
def test_a_free_core_takes_the_first_stage_that_is_ready(slots, seconds):
    assert simulate(DIAMOND, slots)[0] == seconds


def test_no_stage_begins_before_its_inputs_have_ended():
    _, ended = simulate(DIAMOND, 2)
    assert ended == {"b": 2.0, "a": 3.0, "c": 4.0, "d": 7.0, "e": 8.0}


def test_the_critical_path_is_the_chain_that_takes_longest():
    assert critical_path(DIAMOND) == ["a", "d", "e"]


def test_more_machines_are_never_slower_than_the_critical_path():
    stages = graph(replace(mt50().resolved(), teacher="sac"), 2)
    least = sum(stages[name].seconds for name in critical_path(stages))
    times = [simulate(stages, slots)[0] for slots in (1, 8, 1000)]
    assert times[0] == pytest.approx(sum(one.seconds for one in stages.values()))
    assert times[0] > times[1] > times[2] >= least
    assert times[2] == pytest.approx(least)


def test_seconds_are_those_that_were_measured():
    stages = {stage.kind: stage for stage in schedule.plan.stages(mt50().resolved())}
    measured = json.loads(schedule.RUN.read_text())["stage_seconds"]
    assert seconds_of(stages["online-distill"]) == measured["online_distill/MT50/seed_0"]
    assert seconds_of(stages["distill-collective"]) == measured["model_col"]


# -- the GPU -----------------------------------------------------------------------------------------------


def test_without_a_gpu_nothing_is_measured_and_nothing_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "in_child", lambda function, cores: {"cpu": "cpu"})
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert "JAX sees no gpu here, so nothing was measured" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_peer_is_measured_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: name)
    names = gpu.measurements(gpu.Gpu(), (0,))
    assert {where for what, where, _ in names if what.startswith(gpu.PEER)} == {"gpu", "one core"}
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert not [what for what, *_ in gpu.measurements(gpu.Gpu(), (0,)) if what.startswith(gpu.PEER)]


@pytest.mark.slow  # compiles each learner
def test_the_code_for_a_gpu_runs_on_a_cpu_with_three_experts(monkeypatch, tmp_path):
    """In this process, with the replay on the device."""
    from collectiverl.data.device_replay import DeviceReplay
    from collectiverl.sac import train

    made = []

    def kind():
        made.append(DeviceReplay)
        return DeviceReplay

    monkeypatch.setattr(train, "replay_kind", kind)
    monkeypatch.setattr(gpu, "in_child", lambda function, cores: {"cpu": "cpu"})
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    monkeypatch.setattr("benchmarks.measure.in_child", lambda function, *args, cores: function(*args))
    small = ["--experts", "3", "--num-envs", "4", "--updates", "2", "--steps", "40", "--seconds", "0.1"]
    small += ["--task", "toy-reach", "--labels", "200", "--episodes", "10", "--platform", "cpu"]
    small += ["--large", "32", "16"]
    assert gpu.main([*small, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert {
        "learner, batch 256, width 256 | cpu | 3",
        "learner, batch 32, width 16 | cpu | 3",
        "loop | cpu | 3",
        "distillation | cpu | 1",
        "loop | one core | 1",
    } <= found.keys()
    assert made


# -- machines of half a core -------------------------------------------------------------------------------


def test_experts_of_the_cluster_are_as_many_as_asked_for_and_differ():
    config = machines.Machines(toy=5, real=("reach", "push"))
    for _, every in (machines.toy(config), machines.real(config)):
        assert {stage.kind for stage in every} == {"train-task"}
        assert len({stage.out for stage in every}) == len(every)
    assert (len(machines.toy(config)[1]), len(machines.real(config)[1])) == (5, 2)


def test_machines_are_compared_with_one():
    assert machines.rows({"ten": {4: 25.0, 1: 100.0}}) == [
        ["ten", "1", "100", "1.00x"],
        ["ten", "4", "25", "4.00x"],
    ]
    assert machines.rows({"ten": {4: 25.0}}) == [["ten", "4", "25", ""]]


def test_a_machine_without_cgroups_is_told_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machines, "GROUPS", tmp_path / "none")
    assert machines.main(["--out", str(tmp_path)]) == 2
    assert "there are no cgroups" in capsys.readouterr().err
