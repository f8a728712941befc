"""The comparison of students: its ratios, bounds and curves, and what it refuses."""

import numpy as np
import pytest

from collectiverl.cli import main
from collectiverl.pipeline.presets import PRESETS
from collectiverl.reporting.curves import _at, draw_curves
from collectiverl.reporting.ratios import median_ratio, ratio
from collectiverl.reporting.tables import comparison_table
from collectiverl.studies.comparison import ComparisonConfig, cells, stages

CONFIG = PRESETS["smoke"]()


@pytest.mark.parametrize(
    ("plain", "own", "value", "bound"),
    [
        ((30_000, 20_000, 40_000), (4_000, 6_000, 5_000), 6.0, ""),
        ((None, None, 40_000), (4_000, 6_000, 5_000), 12.0, "at least"),
        ((30_000, 30_000, 30_000), (None, None, 10_000), 0.5, "at most"),
        ((None, 20_000, 40_000), (5_000, 6_000, None), 40 / 6, ""),  # the median seed got there
        ((None, None, None), (None, None, None), 1.0, "unknown"),
    ],
)
def test_a_ratio_is_of_medians_and_says_when_it_is_a_bound(plain, own, value, bound):
    found = ratio({"steps": plain}, {"steps": own}, 60_000)
    assert found["value"] == pytest.approx(value)
    assert found["bound"] == bound


def test_medians_leave_out_what_nobody_knows_and_count_bounds():
    made = [
        {"strategy": "prior-data", "task": t, "ratio": {"value": v, "bound": b}}
        for t, v, b in (("a", 1.0, "unknown"), ("b", 3.0, "at least"), ("c", 5.0, ""))
    ]
    assert median_ratio(made, "prior-data") == {"value": 4.0, "tasks": 2, "bounds": 1}
    assert median_ratio(made[:1], "prior-data") is None
    assert median_ratio([{**made[2], "strategy": "none"}], "none") is None


def test_a_curve_keeps_what_was_last_seen():
    curve = {"steps": [2_016, 4_032], "success": [0.2, 0.9]}
    assert _at(curve, np.array([0, 2_000, 2_016, 4_000, 6_000])).tolist() == [0, 0, 0.2, 0.2, 0.9]


def rows():
    curve = {"steps": [200, 400], "success": [0.0, 1.0]}
    made = {"success": [1.0], "seconds": [3.0], "curves": [curve]}
    yield {"strategy": "none", "task": "toy-reach", "steps": [None], **made}
    found = {"value": 1.5, "bound": "at least"}
    yield {"strategy": "prior-data", "task": "toy-reach", "steps": [400], "ratio": found, **made}
    yield {"strategy": "zero-shot", "task": "toy-reach", "success": [0.5]}
    yield {"strategy": "cloning", "task": "toy-reach", "success": [0.7], "env_steps": [200]}


def test_table_and_picture_show_every_strategy(tmp_path):
    config = {"seeds": 1, "steps": 600, "eval_every": 200, "eval_episodes": 8, "success": 0.9}
    table = comparison_table(list(rows()), config)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["strategy"] == ["none", "prior-data", "zero-shot", "cloning"]
    assert columns["steps"] == ["-", "400", "0", "200"]
    assert columns["ratio"] == ["", "≥ 1.50", "", ""]
    draw_curves(list(rows()), config, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_plain_sac_depends_on_no_collective_and_is_shared_by_all_comparisons(tmp_path):
    one, two = (
        ComparisonConfig(strategies=("none",), tasks=("toy-reach",), collective=name, seeds=2)
        for name in ("mt10", "elsewhere")
    )
    assert [s.out for s in stages(tmp_path, CONFIG, one)] == [s.out for s in stages(tmp_path, CONFIG, two)]
    assert all(not s.inputs and s.config.strategy is None for s in stages(tmp_path, CONFIG, one))


def test_a_collective_may_be_another_one_for_each_task(tmp_path):
    config = ComparisonConfig(collective="runs/without_{task}")
    assert config.of("push-v3") == "runs/without_push"
    assert config.name == "without_task"
    mine = list(
        cells(CONFIG, ComparisonConfig(strategies=("none", "prior-data"), tasks=("toy-reach",), seeds=2))
    )
    assert [(c.strategy, c.seed) for c in mine] == [
        ("none", 1),
        ("none", 2),
        ("prior-data", 1),
        ("prior-data", 2),
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--strategies", "magic"], "--strategies: magic"),
        (["--strategies", "none+prior-data"], "--strategies: none+prior-data"),
        (["--strategies", "cloning+imitation"], "--strategies: cloning+imitation"),
        (["--strategies", "none", "none"], "each row once"),
        (["--strategies", "prior-data", "--steps", "600"], "--steps: 600 leave nothing to learn in"),
        (["--seeds", "0"], "--seeds: 0"),
        (["--success", "2"], "--success: 2"),
        (["--collective", "nowhere"], "there is no collective at nowhere"),
        (["--tasks", "toy-nothing"], "toy-nothing"),
    ],
)
def test_nonsense_is_refused(flags, message, tmp_path, capsys):
    where = ["--preset", "smoke", "--root", str(tmp_path)]
    assert main.dispatch(["compare-students", *where, *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
