"""What a run is expected to take: from what was measured, side by side as it is run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from collectiverl.cli import main
from collectiverl.pipeline import estimates, plan
from collectiverl.pipeline.estimates import Cost, Sample, cost, fitted, forecast
from collectiverl.pipeline.presets import PRESETS
from collectiverl.reporting.forecasts import forecast_tables


@pytest.fixture
def costs(monkeypatch):
    """Stages that cost what their folders say."""
    monkeypatch.setattr(estimates, "cost", lambda stage: Cost(*stage.cost))


def stage(out, seconds, memory=0, inputs=()):
    return SimpleNamespace(out=out, cost=(seconds, memory), inputs=dict.fromkeys(inputs, ""))


def test_stages_that_do_not_wait_for_each_other_run_side_by_side(costs):
    todo = [stage("a", 10, 5), stage("b", 20, 7), stage("c", 5, 1, inputs=("a", "b"))]
    for cores, expected in ((1, (35, 7)), (2, (25, 12)), (8, (25, 12))):
        found = forecast(todo, cores)
        assert (found.seconds, found.memory) == expected


def test_an_input_that_is_there_already_is_not_waited_for(costs):
    assert forecast([stage("b", 3, inputs=("done",))], 1).seconds == 3
    assert forecast([], 2).seconds == 0


NEVER_MEASURED = {
    "reference": {"split-buffer", "train-transformer"},
    "mt50": {"cross-play"},
    "mt50-experts": {"cross-play"},
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_of_every_preset_has_a_cost(preset):
    every = plan.stages(PRESETS[preset]().resolved())
    found = forecast(every, 2)
    unknown = {stage.kind for stage in every if not found.costs[stage.out].measured}
    assert unknown == NEVER_MEASURED.get(preset, set())
    assert all(one.seconds > 0 for one in found.costs.values() if one.measured)
    assert max(one.seconds for one in found.costs.values()) <= found.seconds
    assert found.seconds <= sum(one.seconds for one in found.costs.values()) + 1e-6


def test_more_work_takes_longer_and_a_training_ends_when_its_task_is_solved():
    config = PRESETS["smoke"]().resolved()
    by_kind = {s.kind: s for s in plan.stages(config)}
    more = replace(config.online, learner_rounds=20)
    longer = {s.kind: s for s in plan.stages(replace(config, online=more))}
    assert cost(longer["online-distill"]).seconds > 2 * cost(by_kind["online-distill"]).seconds
    endless = {s.kind: s for s in plan.stages(replace(config, expert=replace(config.expert, steps=10**6)))}
    assert cost(endless["train-task"]).seconds < 3 * cost(by_kind["train-task"]).seconds


def test_experts_in_one_program_take_as_long_as_one_after_another():
    alone, together = (
        [
            s
            for s in plan.stages(replace(PRESETS["mt10"](), vectorize=v).resolved())
            if s.kind.startswith("train-t")
        ]
        for v in (False, True)
    )
    seconds, summed = (sum(cost(s).seconds for s in every) for every in (alone, together))
    assert "train-together" in {s.kind for s in together}
    assert seconds == pytest.approx(summed, rel=1e-3)  # and the copies of the experts


def test_a_forecast_names_what_was_never_measured():
    stage = {"label": "cross-play", "kind": "cross-play", "seconds": 1.0, "memory": 0}
    about = {"all": 1, "done": 0, "cores": 2, "runs": 1, "seconds": 1.0, "memory": 0, "processors": ["one"]}
    for measured in (True, False):
        said = [
            part
            for part in forecast_tables(about | {"stages": [stage | {"measured": measured}]})
            if isinstance(part, str)
        ]
        assert any("not counted: cross-play" in line for line in said) is not measured


def test_what_was_measured_is_what_is_expected(monkeypatch):
    every = plan.stages(PRESETS["smoke"]().resolved())
    steps = {"train-task": 4000, "train-student": 2000}
    samples = [Sample(s, 2.0 + i, 1000 * i, steps.get(s.kind)) for i, s in enumerate(every)]
    found = json.loads(json.dumps(fitted(samples)))
    monkeypatch.setattr(estimates, "measured", lambda: {"stages": found, "processors": ["one"]})
    for s, sample in zip(every, samples, strict=True):
        alike = [t for t, other in zip(samples, every, strict=True) if other.kind == s.kind]
        assert (
            min(t.seconds for t in alike) * 0.4 <= cost(s).seconds <= max(t.seconds for t in alike) * 2.5
        ), s.label
        assert cost(s).memory >= (sample.memory or 0)


def test_a_dry_run_tells_and_does_nothing(tmp_path, capsys):
    flags = ["--preset", "smoke", "--root", str(tmp_path / "runs"), "--cores", "2", "--dry-run"]
    assert main.dispatch(["run", *flags]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "21 stages: about" in shown
    assert "on 2 cores" in shown
    assert "GB of memory" in shown
    assert not (tmp_path / "runs").exists()
    assert main.dispatch(["run", *flags, "--seeds", "0", "1"]) == 0
    assert "2 runs, each:" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "runs").exists()
