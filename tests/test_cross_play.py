"""Cross-play: tasks that begin alike are found, and the expert that does all of them labels all of them."""

import json
from collections import Counter
from dataclasses import dataclass

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.paths import CROSS_PLAY
from collectiverl.cli import main
from collectiverl.pipeline import plan
from collectiverl.pipeline.presets import mt50_experts, smoke
from collectiverl.sac.agent import SACConfig, init_agent
from collectiverl.sac.policy import save_agent
from collectiverl.stages import cross_play
from collectiverl.stages.base import execute, summary
from collectiverl.stages.cross_play import AS_WELL, CrossPlay, alike, confusions, cross_play_stage, labellers
from collectiverl.stages.teachers import labelling, teacher_inputs
from collectiverl.types import UserError

RNG = np.random.default_rng(0)
SHARES = st.integers(0, 20).map(lambda won: won / 20)
TABLES = st.integers(1, 6).flatmap(lambda k: hnp.arrays(float, (2, k, k), elements=SHARES))


@given(TABLES)
def test_whoever_labels_a_task_does_it_about_as_well_as_its_own_expert(tables):
    success_any, success_last = tables
    chosen = labellers(success_any, success_last)
    own = np.diag(success_any)
    for task, expert in enumerate(chosen):
        assert success_any[expert, task] >= own[task] - AS_WELL - 1e-6
    as_well = success_any >= own - AS_WELL - 1e-9
    if as_well.all(1).any():  # one does all
        assert len(set(chosen)) == 1
    assert max(Counter(chosen).values()) == as_well.sum(1).max()


def test_an_expert_that_does_both_labels_both_and_of_two_the_one_that_stays():
    wall, plain = [0.95, 1.0], [0.1, 1.0]
    assert labellers(np.array([wall, plain]), np.eye(2)) == [0, 0]
    assert labellers(np.array([[1.0, 0.9], [0.1, 1.0]]), np.eye(2)) == [0, 1]
    assert labellers(np.ones((2, 2)), np.array([[0.5, 0.5], [1.0, 0.9]])) == [1, 1]


def test_two_tasks_are_confused_as_far_as_their_beginnings_mix():
    seen = {name: RNG.normal(shift, 1, (40, 5)) for name, shift in (("a", 0), ("b", 0), ("c", 30))}
    seen["d"] = seen["c"] + [0, 0, 0, 0, 500]  # one entry tells
    found = confusions(seen)
    assert found["a", "b"] == pytest.approx(0.5, abs=0.15)
    assert found["a", "c"] == found["c", "d"] == 0


def test_groups_are_of_tasks_that_lead_to_each_other():
    confused = {("a", "b"): 0.4, ("b", "d"): 0.3, ("a", "d"): 0.0, ("c", "e"): 0.05, ("e", "f"): 0.5}
    assert alike("abcdef", confused) == [("a", "b", "d"), ("e", "f")]
    assert alike("abc", {}) == []


@dataclass
class Settings:
    tasks: tuple[str, ...]
    teacher: str = "scripted"
    agreed: bool = True


def test_toy_tasks_begin_alike_and_no_script_does_anothers(tmp_path, capsys):
    tasks = ("toy-reach", "toy-mirror")
    flags = ["cross-play", *tasks, "--teacher", "scripted", "--run", "r", "--root", str(tmp_path)]
    assert main.dispatch(flags) == 0
    out = capsys.readouterr().out
    assert "labelled by" in out
    found = summary(tmp_path / "r" / CROSS_PLAY)
    [group] = found["groups"]
    table = np.array(group["success_any"])
    assert (np.diag(table) > 0.9).all()
    assert (table[~np.eye(2, dtype=bool)] < 0.5).all()
    assert found["labeller"] == {task: task for task in tasks}
    run = tmp_path / "r"
    own = labelling(run, Settings(tasks, agreed=False), 0)
    assert set(labelling(run, Settings(tasks), 0)) == set(own)
    with pytest.raises(
        UserError,
        match=r"or other tasks were played: make it anew with .cross-play toy-reach toy-mirror toy-swap",
    ):
        labelling(run, Settings((*tasks, "toy-swap")), 0)


@pytest.mark.parametrize("hidden", [False, True])
def test_goals_that_the_learner_does_not_see_tell_no_tasks_apart_but_experts_see_them(
    tmp_path, monkeypatch, hidden
):
    compared = {}

    def note(seen):
        compared.update(seen)
        return confusions(seen)

    monkeypatch.setattr(cross_play, "confusions", note)
    config = CrossPlay(tasks=("toy-reach", "toy-mirror"), teacher="scripted", goals_hidden=hidden)
    [group] = execute(tmp_path, cross_play_stage(config, 0))["groups"]
    goals = np.concatenate([obs[:, 4:] for obs in compared.values()])
    assert (not goals.any()) is hidden
    assert (np.diag(group["success_any"]) > 0.9).all()


def test_the_expert_on_which_they_agreed_labels(tmp_path):
    tasks = ("toy-reach", "toy-mirror")
    execute(tmp_path, cross_play_stage(CrossPlay(tasks=tasks, teacher="scripted", episodes=2), 0))
    path = tmp_path / CROSS_PLAY / "summary.json"
    path.write_text(
        json.dumps(summary(tmp_path / CROSS_PLAY) | {"labeller": dict.fromkeys(tasks, "toy-mirror")})
    )
    found = labelling(tmp_path, Settings(tasks), 0)
    obs, action = RNG.normal(size=(4, 6)).astype(np.float32), np.zeros((4, 2), np.float32)
    mirror = labelling(tmp_path, Settings(tasks, agreed=False), 0)["toy-mirror"]
    assert np.array_equal(found["toy-reach"].label(obs, action).mean, mirror.label(obs, action).mean)


def test_a_run_whose_experts_agree_waits_for_it():
    for config, wanted in ((smoke(), 0), (mt50_experts(), 1)):
        stages = plan.stages(config.resolved(), "collective")
        assert [s.kind for s in stages].count("cross-play") == wanted
        [online] = [s for s in stages if s.kind == "online-distill"]
        assert (CROSS_PLAY in online.inputs) is bool(wanted)
    assert CROSS_PLAY in teacher_inputs("scripted", ("push-v3",), 0, agreed=True)


def test_what_other_experts_agreed_on_is_not_gone_by(tmp_path):
    """Neither another teacher's, nor that of an expert that was made anew."""
    tasks = ("toy-reach", "toy-mirror")
    run = tmp_path / "r"
    flags = ["cross-play", *tasks, "--teacher", "scripted", "--run", "r", "--root", str(tmp_path)]
    assert main.dispatch([*flags, "--episodes", "2", "--horizon", "1"]) == 0
    with pytest.raises(UserError, match="--teacher shipped-or-scripted --overwrite"):
        labelling(run, Settings(tasks, teacher="shipped-or-scripted"), 0)
    for task in tasks:
        make_expert(run, task, seed=0)
    execute(run, cross_play_stage(CrossPlay(tasks=tasks, episodes=2, horizon=1), 0), overwrite=True)
    assert set(labelling(run, Settings(tasks, teacher="sac"), 0)) == set(tasks)
    make_expert(run, tasks[0], seed=1)
    with pytest.raises(UserError, match="does not say which of these experts"):
        labelling(run, Settings(tasks, teacher="sac"), 0)


def make_expert(run, task, seed):
    """An untrained one, where `train-task` would put it."""
    out, networks = run / paths.expert(task, 0), SACConfig(width=8)
    with sealed.stage(out, name="train-task", config={}, inputs={}, overwrite=True) as folder:
        save_agent(folder, init_agent(6, 2, networks, jax.random.key(seed)), networks)
