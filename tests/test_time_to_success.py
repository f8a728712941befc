"""Time to success: when a task counts as solved, who is measured for how long, and what the table claims."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks import contenders, peers, time_to_success
from benchmarks.arrivals import (
    TUNED,
    UNTUNED,
    Arrival,
    Cell,
    Ratio,
    geometric_mean,
    half_untuned,
    median_arrival,
    ratio,
    rows,
)
from benchmarks.criterion import Criterion, Judge
from benchmarks.measure import ChildFailed

from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.sac.agent import SACConfig
from collectiverl.sac.settings import TrainConfig
from results import speeds

TOY = Criterion(eval_every=100, eval_episodes=4)


def judge(limit_seconds=1e9, **criterion):
    toy = Criterion(eval_every=100, eval_episodes=4, **criterion)
    return Judge(toy, lambda: toy.make_envs("toy-reach"), seed=0, limit_seconds=limit_seconds)


class Lazy(ScriptedPolicy):
    def eval_action(self, observations):
        return np.zeros((len(observations), 2), np.float32)


GOOD, BAD = ScriptedPolicy(("toy-reach",)), Lazy(("toy-reach",))


# -- the judge ---------------------------------------------------------------------------------------------


def test_solved_is_success_twice_in_a_row():
    one, verdicts = judge(), []
    for env_steps, policy in zip(range(100, 600, 100), (GOOD, BAD, GOOD, GOOD), strict=False):
        assert one.due(env_steps)
        one(policy, env_steps)
        verdicts.append(one.solved)
    assert verdicts == [False, False, False, True]
    assert one.over
    assert one.verdict(450)["env_steps"] == 400


def test_evaluations_are_due_every_so_many_steps_however_steps_come():
    one, due = judge(), []
    for env_steps in range(32, 420, 32):
        if one.due(env_steps):
            due.append(env_steps)
            one(BAD, env_steps)
    assert due == [128, 224, 320, 416]


def test_when_time_is_up_it_is_over_only_at_an_evaluation_which_is_the_last_point_of_the_curve():
    one = judge(limit_seconds=0.0)
    assert not one.over
    one(BAD, 128)
    assert one.over
    assert not one.solved
    verdict = one.verdict(160)
    assert (verdict["env_steps"], verdict["seconds"]) == verdict["curve"][-1][:2]


def test_ours_is_trained_until_the_judge_says_so():
    one = judge(success=0.01, steps=600)
    small = SACConfig(width=8, depth=1, batch_size=8)
    train = TrainConfig(steps=600, num_envs=4, updates_per_step=1, warmup=100, capacity=1_000, sac=small)
    env_steps = contenders._ours(one, "toy-reach", 0, train)
    assert one.over or env_steps == 600
    assert [steps for steps, *_ in one.curve][:2] == [100, 200]


# -- figures -----------------------------------------------------------------------------------------------


def verdict(seconds, solved=True):
    return {"env_steps": 1000, "compile_seconds": 1.0, "solved": solved, "seconds": seconds}


def test_a_median_is_a_bound_only_if_a_stopped_run_may_lie_below_it():
    assert median_arrival([verdict(s, s < 50) for s in (10, 20, 100)]) == Arrival(20, 1000, False)
    assert median_arrival([verdict(s, s < 50) for s in (10, 100, 100)]) == Arrival(100, 1000, True)
    assert median_arrival([verdict(s, s < 50) for s in (10, 100)]).bound


def test_a_peer_that_did_not_arrive_counts_as_thirty_times_at_most():
    ours = Arrival(10, 1000, False)
    assert ratio(Arrival(25, 1000, False), ours) == Ratio(2.5, "")
    assert ratio(Arrival(304, 1000, True), ours) == Ratio(30, "≥")
    assert ratio(Arrival(104, 1000, True), ours) == Ratio(10.4, "≥")  # stopped by the limit of all cells
    assert ratio(Arrival(104, 1000, True), ours._replace(bound=True)).mark == "?"


def test_the_geometric_mean_keeps_the_mark():
    assert geometric_mean([Ratio(2, ""), Ratio(8, "")]) == Ratio(pytest.approx(4), "")
    assert str(geometric_mean([Ratio(2, ""), Ratio(8, "≥")])) == "≥ 4.0x"
    assert str(geometric_mean([Ratio(2, "≤"), Ratio(8, "≥")])) == "?"


def table(found, tasks, names=("ours", "sb3")):
    return rows([Cell(name, task, 0) for task in tasks for name in names], found)


def test_the_table_has_a_row_for_each_task_and_contender_and_one_of_holes_where_no_cell_is():
    found = {Cell("ours", "reach-v3", 0): verdict(10), Cell("sb3", "reach-v3", 0): verdict(101, solved=False)}
    lines = table(found, ["reach-v3", "faucet-open-v3"])
    assert [row[:2] for row in lines[:3]] == [
        ["reach", "collectiverl"],
        ["reach", "Stable-Baselines3"],
        ["faucet-open, untuned", "all"],
    ]
    assert lines[1][2:] == ["0 of 1", "> 101", "1", "> 1,000", "≥ 10.1x"]
    assert lines[2][2:] == ["?"] * 5
    assert table({}, ["reach-v3", "faucet-open-v3"])[2:] == [["geometric mean", "all", *[""] * 4, "?"]]


def test_seeds_that_are_not_measured_are_counted():
    cells = [Cell("ours", "faucet-open-v3", seed) for seed in range(3)]
    assert rows(cells, {cells[1]: verdict(10)})[0][2] == "1 of 1, 2 not measured"


def test_a_mean_is_shown_only_if_half_of_its_tasks_are_untuned():
    found = {Cell("ours", task, 0): verdict(10) for task in (*TUNED, *UNTUNED)}
    found |= {Cell("sb3", "reach-v3", 0): verdict(20)}
    lines = table(found, (*TUNED, *UNTUNED))[-2:]
    assert [(row[0], row[-1]) for row in lines] == [
        ("geometric mean, 1 of 8 tasks", "?"),
        ("geometric mean, 0 of 4 untuned tasks", "?"),
    ]
    found |= {Cell("sb3", "faucet-open-v3", 0): verdict(80)}
    lines = table(found, (*TUNED, *UNTUNED))[-2:]
    assert [(row[0], row[-1]) for row in lines] == [
        ("geometric mean, 2 of 8 tasks", "4.0x"),
        ("geometric mean, 1 of 4 untuned tasks", "8.0x"),
    ]


def test_half_of_the_default_tasks_are_untuned():
    assert not set(TUNED) & set(UNTUNED)
    assert half_untuned(time_to_success.TimeToSuccess().tasks)
    assert not half_untuned([*TUNED, *UNTUNED[1:]])
    assert not half_untuned([])


# -- the command -------------------------------------------------------------------------------------------

FLAGS = ["--tasks", "reach", "faucet-open", "--contenders", "ours", "sb3-ours", "sb3"]


@pytest.fixture
def measured(monkeypatch):
    """What is measured, in its order, with its limit; ours takes 5 seconds, a peer all that it has."""
    found = []

    def learn(function, contender, task, seed, criterion, limit_seconds, **_):
        found.append((contender, task, seed, limit_seconds))
        return verdict(5.0) if contender == "ours" else verdict(limit_seconds, solved=False)

    monkeypatch.setattr(time_to_success, "in_child", learn)
    monkeypatch.setattr(peers, "require", lambda: None)
    return found


def test_ours_comes_first_and_a_peer_has_thirty_times_as_long(tmp_path, measured):
    assert time_to_success.main([*FLAGS, "--cores", "1", "--out", str(tmp_path)]) == 0
    assert [row[0] for row in measured[:6]] == ["ours"] * 6  # three seeds of two tasks
    assert {row[3] for row in measured[:6]} == {900.0}
    assert {row[3] for row in measured[6:]} == {150.0}
    assert [row[0] for row in measured].count("sb3-ours") == 6
    assert [row[0] for row in measured].count("sb3") == 2  # defaults: one seed


def test_a_peer_never_has_more_than_fifteen_minutes():
    ours = {Cell("ours", "reach-v3", 0): verdict(40.0)}
    assert time_to_success.limit(ours, "reach-v3", 900.0) == 900.0


def test_cells_that_are_done_are_not_measured_again(tmp_path, measured):
    flags = [*FLAGS, "--seeds", "1", "--out", str(tmp_path)]
    assert time_to_success.main(flags) == 0
    assert len(measured) == 6
    assert time_to_success.main(flags) == 0
    assert len(measured) == 6
    assert time_to_success.main([*flags, "--criterion.eval-every", "7"]) == 2  # other settings
    assert time_to_success.main([*flags, "--criterion.eval-every", "7", "--overwrite"]) == 0
    assert len(measured) == 12


def test_a_setting_that_came_later_and_is_unused_leaves_cells_as_they_are(tmp_path, measured):
    flags = [*FLAGS, "--seeds", "1", "--out", str(tmp_path)]
    assert time_to_success.main(flags) == 0
    path = tmp_path / "time_to_success" / "ours_reach-v3_seed_0.json"
    before = json.loads(path.read_text())
    assert before["settings"]["train"]["sac"].pop("critic_learning_rate") is None
    path.write_text(json.dumps(before))
    assert time_to_success.main(flags) == 0
    assert len(measured) == 6
    before["settings"]["train"]["sac"]["critic_learning_rate"] = 0.1
    path.write_text(json.dumps(before))
    assert time_to_success.main(flags) == 2


def test_cells_can_be_measured_one_by_one_and_the_table_has_holes_for_the_others(tmp_path, measured, capsys):
    flags = [*FLAGS, "--out", str(tmp_path), "--only"]
    assert time_to_success.main([*flags, "sb3-ours_reach"]) == 2
    assert "ours comes first: run with --only ours_reach-v3" in capsys.readouterr().err
    assert time_to_success.main([*flags, "ours_reach-v3_seed_1"]) == 0
    assert time_to_success.main([*flags, "sb3_"]) == 2  # ours has no cell of faucet-open
    assert time_to_success.main([*flags, "sb3_reach"]) == 0
    assert measured == [("ours", "reach-v3", 1, 900.0), ("sb3", "reach-v3", 0, 150.0)]
    lines = json.loads((tmp_path / "time_to_success.json").read_text())["table"]["rows"]
    assert [row[1:3] for row in lines[:3]] == [
        ["collectiverl", "1 of 1, 2 not measured"],
        ["Stable-Baselines3", "0 of 1"],
        ["Stable-Baselines3, our settings", "?"],
    ]
    assert time_to_success.main([*flags, "nobody"]) == 2
    assert "no cell begins with nobody: one is ours_reach-v3_seed_0" in capsys.readouterr().err


def test_a_peer_that_was_stopped_sooner_than_it_would_be_now_is_measured_again(tmp_path, measured):
    flags = [*FLAGS, "--seeds", "1", "--out", str(tmp_path)]
    assert time_to_success.main(flags) == 0
    path = tmp_path / "time_to_success" / "ours_reach-v3_seed_0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 6.0}))
    assert time_to_success.main(flags) == 0
    assert measured[6:] == [("sb3-ours", "reach-v3", 0, 180.0), ("sb3", "reach-v3", 0, 180.0)]


def test_tasks_most_of_which_settings_were_tuned_on_are_refused(tmp_path, capsys):
    flags = ["--tasks", "reach", "push", "faucet-open", "--out", str(tmp_path)]
    assert time_to_success.main(flags) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "untuned (faucet-open, door-close, plate-slide, coffee-button)" in said
    assert "--only" in said


def test_a_cell_that_failed_is_reported_and_the_others_are_kept(tmp_path, monkeypatch, capsys):
    def learn(function, contender, task, seed, criterion, limit_seconds, **_):
        if seed == 0:
            raise ChildFailed("out of luck")
        return verdict(5.0)

    monkeypatch.setattr(time_to_success, "in_child", learn)
    flags = ["--tasks", "faucet-open", "--contenders", "ours", "--seeds", "2", "--out", str(tmp_path)]
    assert time_to_success.main(flags) == 1
    assert "ours faucet-open-v3 0: out of luck" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "time_to_success").iterdir()] == ["ours_faucet-open-v3_seed_1.json"]


def test_the_page_shows_only_cells_of_the_present_rules_and_of_a_commit(tmp_path, measured, monkeypatch):
    monkeypatch.setattr(speeds, "RESULTS", tmp_path)
    assert "not measured under the present rules" in speeds.arrivals()
    assert time_to_success.main(["--only", "ours_reach-v3_seed_0", "--out", str(tmp_path)]) == 0
    path = tmp_path / "time_to_success" / "ours_reach-v3_seed_0.json"
    made = json.loads(path.read_text())

    def shown(settings=made["settings"], commit="0" * 7):
        path.write_text(
            json.dumps(made | {"settings": settings, "about": made["about"] | {"commit": commit}})
        )
        return "| reach | collectiverl | 1 of 1, 2 not measured | 5 |" in speeds.arrivals()

    assert shown()
    assert not shown(commit="abc-dirty")
    assert not shown(settings=made["settings"] | {"stopped": {"limit_seconds": 3600, "max_ratio": 10}})


# -- peers -------------------------------------------------------------------------------------------------


def test_the_policy_of_a_peer_acts_deterministically_on_what_it_saw_in_training():
    model = SimpleNamespace(
        predict=lambda obs, deterministic: (obs[:, :2] * deterministic, None),
        get_vec_normalize_env=lambda: None,
    )
    observations = np.ones((3, 5), np.float32)
    np.testing.assert_array_equal(peers.PeerPolicy(model).eval_action(observations), np.ones((3, 2)))
    model.get_vec_normalize_env = lambda: SimpleNamespace(normalize_obs=lambda obs: obs / 4)
    np.testing.assert_array_equal(peers.PeerPolicy(model).eval_action(observations), np.full((3, 2), 0.25))
