"""Comparisons by rliable's definitions, checked against what the library itself says; and tables as text."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectiverl.cli import main
from collectiverl.evaluation.comparing import Side, compare, improvement, iqm
from collectiverl.evaluation.statistics import success_interval
from collectiverl.reporting import formats
from collectiverl.reporting.evaluations import by_seeds, read
from collectiverl.reporting.evaluations import side as side_of
from collectiverl.types import UserError

RLIABLE = json.loads((Path(__file__).parent / "fixtures" / "rliable.json").read_text())
X, Y = np.array(RLIABLE["x"]), np.array(RLIABLE["y"])
TASKS = ("toy-reach", "toy-mirror", "toy-swap", "toy-turn")


def side(name, rates, episodes=50):
    """One row of `rates` for each seed."""
    rows = [
        {f"task-{t}": {"success_any": rate, "episodes": episodes} for t, rate in enumerate(seed)}
        for seed in np.atleast_2d(rates)
    ]
    return Side(name, tuple(rows))


def test_both_measures_are_those_of_the_library():
    assert iqm(X) == pytest.approx(RLIABLE["iqm"][0], abs=1e-12)
    assert iqm(Y) == pytest.approx(RLIABLE["iqm"][1], abs=1e-12)
    assert improvement(X, Y) == pytest.approx(RLIABLE["improvement"], abs=1e-12)


def test_intervals_over_seeds_are_those_of_the_library():
    found = compare([side("x", X), side("y", Y)])
    assert found["over"] == "seeds"
    [pair] = found["pairs"]
    one = found["sides"][0]
    for estimate, name in (
        (one["mean"], "mean_interval"),
        (one["iqm"], "iqm_interval"),
        (pair["probability_of_improvement"], "improvement_interval"),
    ):
        np.testing.assert_allclose(estimate["interval"], RLIABLE[name], atol=0.015)  # both draw at random
    assert pair["difference"]["value"] == pytest.approx(X.mean() - Y.mean())


RATES = st.lists(st.integers(0, 50), min_size=2, max_size=6).map(lambda counts: np.array(counts) / 50)


@given(RATES)
def test_a_policy_is_no_better_than_itself(rates):
    [pair] = compare([side("a", rates), side("b", rates)])["pairs"]
    for name, value in (("difference", 0), ("probability_of_improvement", 0.5)):
        low, high = pair[name]["interval"]
        assert pair[name]["value"] == value
        assert low <= value <= high


def test_of_few_seeds_the_episodes_count_and_more_of_them_say_more():
    few, many = (compare([side("a", [0.9, 0.6], n), side("b", [0.6, 0.6], n)]) for n in (50, 5_000))
    for found in (few, many):
        assert found["over"] == "episodes"
        assert found["pairs"][0]["probability_of_improvement"]["value"] == pytest.approx(0.575)
    widths = [np.ptp(found["pairs"][0]["difference"]["interval"]) for found in (few, many)]
    assert widths[0] > 5 * widths[1] > 0


def test_fifty_of_fifty_is_not_certain():
    """One task: nearly Jeffreys' interval, whose end is the rate itself where all or none succeed."""
    found = compare([side("a", [1.0]), side("b", [0.0])])
    [pair] = found["pairs"]
    (low, high), (least, most) = (about["mean"]["interval"] for about in found["sides"])
    assert (low, high) == (pytest.approx(0.951, abs=0.005), 1.0)  # scipy.stats.beta(50.5, 0.5).ppf(0.025)
    assert (least, most) == (0.0, pytest.approx(0.049, abs=0.005))
    for name in ("difference", "probability_of_improvement"):
        low, high = pair[name]["interval"]
        assert low < 0.99
        assert high == pair[name]["value"] == 1.0


def test_only_tasks_that_all_have_are_compared():
    short = Side("b", ({"task-1": {"success_any": 0.5, "episodes": 50}},))
    found = compare([side("a", [1.0, 0.7]), short])
    assert (found["tasks"], found["left_out"]) == (["task-1"], ["task-0"])
    assert found["pairs"][0]["difference"]["value"] == pytest.approx(0.2)
    with pytest.raises(UserError, match="no task in common"):
        compare([side("a", [1.0]), Side("c", ({"other": {"success_any": 1, "episodes": 1}},))])


# -- files ---------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, rates, last=0.5) -> Path:
    """What `evaluate --json` leaves."""
    rows = [
        {"policy": name, "task": t, "success_any": r, "success_last": last, "episodes": 50, "return": 1.0}
        for t, r in zip(TASKS, rates, strict=True)
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"schema": 1, "policies": rows}))
    return path


@pytest.fixture
def files(tmp_path):
    for seed in range(3):
        written(tmp_path, f"good_seed_{seed}", [1.0, 0.9, 0.8, 0.96 + 0.02 * seed])
    written(tmp_path, "bad_{1}", [0.5, 0.4, 0.3, 0.2])
    return tmp_path


def test_files_are_compared_by_their_command(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    bad = "bad_{1}.json"
    assert main.dispatch(["evaluate", "--compare", "good_seed_*.json", bad, "--json", "found.json"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "A is better than B with probability 0.785" in shown  # 1/2 + (0.92 - 0.35) / 2
    assert "intervals are over episodes" in shown
    found = json.loads((files / "found.json").read_text())
    assert [one["seeds"] for one in found["sides"]] == [3, 1]
    assert {"made", "versions"} <= found.keys()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("evaluate", "name a POLICY to evaluate, or two or more files with --compare"),
        ("evaluate mt10 --compare a.json b.json", "name a POLICY to evaluate, or two"),
        ("evaluate --compare a.json", "--compare: a.json is compared with nothing"),
        ("evaluate --compare a.json b.json", "there is no a.json"),
        ("evaluate --compare x*.json b.json", "no file or folder fits 'x*.json'"),
        ("table a.json", "there is no a.json"),
        ("table nothing.json", "holds no evaluations"),
        ("table empty", "empty has no summary yet"),
    ],
)
def test_what_cannot_be_compared_is_said_so(tmp_path, monkeypatch, capsys, line, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.json").write_text("{}")
    assert main.dispatch(line.split()) == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_seeds_of_one_name_are_one_column(files):
    paths = sorted(files.glob("*.json"))
    found = list(by_seeds([read(path) for path in paths]))
    table = formats.table(found, "md").splitlines()
    assert table[0] == "| task | bad_{1} | good |"
    assert table[2] == "| toy-reach | 0.50 (0.37 to 0.63) | 1.00 (0.98 to 1.00) |"
    assert table[6:] == [
        "| mean | 0.350 | 0.920 |",
        "| mean, last step | 0.500 | 0.500 |",
        "| training seeds | 1 | 3 |",
    ]
    latex = formats.table(found, "latex")
    assert r"task & bad\_\{1\} & good \\" in latex
    assert latex.count(r"\\") == 8
    lines = list(csv.DictReader(io.StringIO(formats.table(found, "csv"))))
    assert len(lines) == 8
    assert lines[-1]["task"] == "toy-turn"
    assert float(lines[-1]["success_any"]) == pytest.approx(0.98)
    assert lines[-1]["seeds"] == "3"


def test_intervals_are_as_wide_as_the_trials_are_few(tmp_path):
    """In `evaluate-meta`, several episodes have one goal."""
    rows = [{"policy": "p", "task": "toy-reach", "success_any": 0.7, "episodes": 30, "trials": 10}]
    path = tmp_path / "meta.json"
    path.write_text(json.dumps({"policies": rows}))
    [found] = by_seeds([read(path)])
    assert found.interval == success_interval(7, 10)
    assert found.episodes == 30
    few, many = (Side("a", ({"toy-reach": rows[0] | {"trials": n}},)) for n in (10, 30))
    wide, narrow = (np.ptp(about["mean"]["interval"]) for about in compare([few, many])["sides"])
    assert wide > 1.4 * narrow


def changed(path: Path, **changes) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


HIDDEN = {"protocol": {"goals_hidden": True, "num_envs": 10}}
ONE_TASK = {"policies": [{"policy": "p", "task": TASKS[0], "success_any": 1.0, "episodes": 50}]}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"incomplete": True}, "has not come to its end"),
        (HIDDEN, "no other seed of .* they differ in protocol.goals_hidden"),
        (ONE_TASK, f"no other seed of .* they differ in goals of {TASKS[1]}"),
    ],
)
def test_what_is_no_seed_of_one_thing_is_not_pooled(files, changes, why):
    changed(files / "good_seed_0.json", protocol={"goals_hidden": False, "num_envs": 10})
    changed(files / "good_seed_1.json", protocol={"goals_hidden": False, "num_envs": 5})
    one, two = (changed(files / f"good_seed_{seed}.json") for seed in (0, 1))
    assert len(next(by_seeds([read(one), read(two)])).rows) == 2
    changed(two, **({"protocol": json.loads(one.read_text())["protocol"]} | changes))
    with pytest.raises(UserError, match=why):
        list(by_seeds([read(one), read(two)]))
    with pytest.raises(UserError, match=why):
        side_of(str(files / "good_seed_[01].json"))


def test_a_seed_counts_once(files):
    one, copy = files / "good_seed_0.json", files / "good_seed_7.json"
    copy.write_bytes(one.read_bytes())
    for same in (one, copy):
        with pytest.raises(UserError, match="name each training seed once"):
            list(by_seeds([read(one), read(same)]))


def test_a_measure_that_is_missing_leaves_a_hole(tmp_path):
    path = written(tmp_path, "meta", [1, 1, 1, 1], last=None)
    table = formats.table(list(by_seeds([read(path)])), "md")
    assert "| mean, last step |  |" in table
