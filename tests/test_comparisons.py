"""The comparison of students: its ratios, bounds and curves, and what it refuses."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from collectiverl.cli import main
from collectiverl.pipeline.presets import PRESETS
from collectiverl.reporting.curves import _at, draw_curves
from collectiverl.reporting.ratios import area, forward_transfer, median_ratio, ratio, shown_interval
from collectiverl.reporting.students import comparison_table
from collectiverl.sac.settings import TrainConfig
from collectiverl.stages.base import Stage
from collectiverl.stages.students import TrainStudent
from collectiverl.student.finetune import FinetuningConfig
from collectiverl.student.strategies import DEFAULT, StrategyConfig
from collectiverl.studies.cells import compared, row_of
from collectiverl.studies.comparison import ComparisonConfig, cells, stages, summarize
from collectiverl.studies.transfer import TransferConfig
from collectiverl.types import ConfigError, UserError

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
    found = ratio(*({"seeds": [1, 2, 3], "steps": steps} for steps in (plain, own)), 60_000)
    assert found["value"] == pytest.approx(value)
    assert found["bound"] == bound
    low, high = found["interval"]
    assert low <= found["value"] <= (high or np.inf)


def of_seeds(steps):
    return {"seeds": list(range(len(steps))), "steps": steps}


def test_an_interval_has_no_end_where_unsolved_seeds_may_move_it():
    solved, unsolved = of_seeds([20_000, 22_000, 30_000]), of_seeds([None, None, None])
    assert ratio(unsolved, solved, 60_000)["interval"] == [2.0, None]  # 60,000 / 30,000 at least
    assert ratio(solved, unsolved, 60_000)["interval"] == [0.0, 0.5]
    assert ratio(unsolved, unsolved, 60_000)["interval"] == [0.0, None]
    assert shown_interval([1.5, None]) == "1.50 to ∞"


@pytest.mark.parametrize(("seeds", "share"), [(3, 0.90), (5, 0.97)])
def test_how_often_the_interval_holds_the_true_ratio(seeds, share):
    """Steps are log-normal with a deviation of 0.3, and twice as many without help."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        plain, own = (usual * np.exp(0.3 * rng.standard_normal(seeds)) for usual in (40_000, 20_000))
        low, high = ratio(of_seeds(plain.tolist()), of_seeds(own.tolist()), 10**6)["interval"]
        held += low <= 2 <= high
    assert held / 400 == pytest.approx(share, abs=0.02)


def test_a_ratio_is_over_the_seeds_that_both_have():
    plain = {"seeds": [1, 2, 3], "steps": [10_000, 99, 99]}
    found = ratio(plain, {"seeds": [1], "steps": [5_000]}, 60_000)
    assert found == {"value": 2.0, "bound": "", "seeds": 1}  # of one seed there is no interval
    assert ratio(plain, {"seeds": [4], "steps": [5_000]}, 60_000) is None


@pytest.mark.parametrize(
    ("rows", "beside"),
    [
        (("none", "none@4", "finetune"), "none"),
        (("none@16", "finetune@16"), "none@16"),
        (("none@4", "none@16", "finetune"), None),
    ],
)
def test_rows_stand_beside_the_plain_sac_that_is_meant(rows, beside):
    made = [
        {"strategy": name, "task": "a", "seeds": [1], "steps": [1_000 * i], "area": [0.5]}
        for i, name in enumerate(rows, start=1)
    ]
    last = compared(made, 60_000)[-1]
    if beside is None:
        assert "ratio" not in last
    else:
        assert last["ratio"]["value"] == (rows.index(beside) + 1) / len(rows)


def test_each_seed_of_the_control_has_networks_of_its_own():
    config = ComparisonConfig(strategies=("random",), tasks=("toy-reach",), seeds=2)
    own = [c.stage.inputs for c in cells(CONFIG, config)]
    assert own[0] != own[1]
    made = {s.out: s.seed for s in stages(Path("run"), CONFIG, config) if s.kind == "random-collective"}
    assert len(made) == len(set(made.values())) == 2


def test_medians_leave_out_what_nobody_knows_and_count_bounds_and_holes():
    made = [
        {"strategy": "prior-data", "task": t, "ratio": {"value": v, "bound": b}, "forward_transfer": g}
        for t, v, b, g in (("a", 1.0, "unknown", 0.0), ("b", 3.0, "at least", 0.5), ("c", 5.0, "", 0.1))
    ]
    made.append({"strategy": "prior-data", "task": "d", "holes": 1})
    found = median_ratio(made, "prior-data")
    assert (found["value"], found["tasks"], found["bounds"], found["holes"]) == (4.0, 2, 1, 1)
    assert found["forward_transfer"] == pytest.approx(0.3)  # of b and c, as the median
    assert found["bound"] == "at least"
    assert median_ratio(made[:1], "prior-data") is None
    assert median_ratio([{**made[2], "strategy": "none"}], "none") is None


@pytest.mark.parametrize(
    ("ratios", "bound"),
    [
        ([(1, ""), (2, ""), (3, "at least")], ""),  # however large the third is
        ([(1, "at least"), (2, ""), (3, "")], "at least"),  # it may be the largest of all
        ([(1, ""), (2, "at least"), (3, "")], "at least"),
        ([(1, ""), (2, ""), (3, "at most")], "at most"),
        ([(1, "at most"), (2, ""), (3, "")], ""),
        ([(1, "at least"), (2, ""), (3, "at most")], "unknown"),
        ([(1, ""), (2, "at least")], "at least"),  # the mean of both
    ],
)
def test_a_median_is_a_bound_if_a_bound_may_move_it(ratios, bound):
    rows = [{"strategy": "finetune", "ratio": {"value": v, "bound": b}} for v, b in ratios]
    assert median_ratio(rows, "finetune")["bound"] == bound


def test_a_curve_keeps_what_was_last_seen():
    curve = {"steps": [2_016, 4_032], "success": [0.2, 0.9], "episodes": [10, 50]}
    assert _at(curve, np.array([0, 2_000, 2_016, 4_000, 6_000])).tolist() == [0, 0, 0.2, 0.2, 0.9]
    assert _at(curve, np.array([3_000, 5_000]), "episodes").tolist() == [10, 50]


def test_the_area_of_a_curve_is_its_mean_over_all_steps_that_were_allowed():
    curve = {"steps": [2_000, 4_000], "success": [0.5, 1.0]}
    assert area(curve, 10_000) == pytest.approx(0.2 * 0.5 + 0.6 * 1.0)  # solved at 4,000, and kept
    assert area({"steps": [2_000, 12_000], "success": [0.5, 1.0]}, 10_000) == pytest.approx(0.4)


def test_forward_transfer_is_the_area_gained_of_what_was_left():
    plain, own = ({"seeds": [1, 2], "area": area} for area in ([0.5, 0.7], [0.8, 0.8]))
    assert forward_transfer(plain, own) == pytest.approx(0.5)
    assert forward_transfer(plain, plain) == 0
    assert forward_transfer({"seeds": [1], "area": [1.0]}, own) is None  # nothing was left


def cell(strategy, seed=1, **found):
    made = {"strategy": strategy, "task": "toy-reach", "seed": seed, "success": 1.0, "seconds": 3.0}
    curve = {"steps": [200, 400], "success": [0.0, 1.0], "episodes": [4, 8]}
    return made | {"area": 0.6, "curve": curve, **found}


def rows():
    two = [
        row_of("none", "toy-reach", 2, [cell("none", steps=None, area=0.2)]),
        row_of("prior-data", "toy-reach", 2, [cell("prior-data", steps=400)]),
        row_of("imitation", "toy-reach", 2, []),
        row_of("zero-shot", "toy-reach", 1, [{"seed": 0, "success": 0.5, "episodes": 50}]),
        row_of("cloning", "toy-reach", 1, [{"seed": 1, "success": 0.7, "env_steps": 250}]),
    ]
    return compared(two, 600)


def test_table_and_picture_show_every_strategy_and_the_holes(tmp_path):
    config = {"seeds": 2, "steps": 600, "eval_every": 200, "success": 0.9}
    table = comparison_table(rows(), config)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["strategy"] == ["none", "prior-data", "imitation", "zero-shot", "cloning"]
    assert columns["final"] == ["1.00", "1.00", "?", "0.50", "0.70"]
    assert columns["steps"] == ["- ?", "400 ?", "?", "0", "250"]
    assert columns["ratio"] == ["", "≥ 1.50", "", "", ""]
    assert columns["FT"] == ["+0.00", "+0.50", "", "", ""]
    draw_curves(rows(), config, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_plain_sac_and_help_have_each_their_own_replay_ratio(tmp_path):
    config = ComparisonConfig(
        strategies=("none", "prior-data"), tasks=("toy-reach",), seeds=1, updates_per_step=8
    )
    made = {c.strategy: c.stage.config.train for c in cells(CONFIG, config)}
    assert {name: train.updates_per_step for name, train in made.items()} == {"none": 32, "prior-data": 8}
    plain, helped = (replace(train, updates_per_step=1) for train in made.values())
    assert plain == helped  # all else is the same: warm-up, evaluations, averaged actor
    assert plain.sac.actor_average
    assert (plain.eval_horizon, plain.eval_first, plain.eval_at_once) == (200, 10, 10)


def test_rows_of_several_replay_ratios_have_folders_of_their_own():
    rows = ("none", "none@8", "none@16", "finetune", "finetune@8")
    config = ComparisonConfig(strategies=rows, tasks=("toy-reach",), seeds=1, updates_per_step=4)
    made = {c.strategy: c.stage for c in cells(CONFIG, config)}
    assert list(made) == list(rows)  # plain SAC first
    updates = {row: stage.config.train.updates_per_step for row, stage in made.items()}
    assert updates == {"none": 32, "none@8": 8, "none@16": 16, "finetune": 4, "finetune@8": 8}
    assert {row: stage.out.split("/")[-3] for row, stage in made.items()} == {
        **{row: row for row in rows},
        "none": "none@32",  # the folder says the ratio, whoever set it
        "finetune": "finetune@4",
        "none@16": "none",  # as version 0.3 had it, which said no ratio
    }


def test_a_row_by_another_name_keeps_the_rows_of_earlier_calls(tmp_path):
    first = ComparisonConfig(tasks=("toy-reach",), strategies=("none", "none@8"), seeds=2)
    summarize(tmp_path, CONFIG, first)
    again = replace(first, tasks=("toy-swap",), strategies=("none@32",), seeds=1)
    found = summarize(tmp_path, CONFIG, again)["settings"]
    assert found["strategies"] == ["none@32", "none@8"]
    assert (found["tasks"], found["seeds"]) == (["toy-swap", "toy-reach"], 2)


def test_a_ratio_may_be_set_for_a_row_or_for_its_side():
    of_row = ComparisonConfig(strategies=("none@8",), tasks=("toy-reach",), seeds=1)
    of_side = ComparisonConfig(strategies=("none",), tasks=("toy-reach",), seeds=1, plain_updates_per_step=8)
    [one], [two] = (list(cells(CONFIG, config)) for config in (of_row, of_side))
    assert (one.stage.out, one.stage.config) == (two.stage.out, two.stage.config)


def test_the_control_is_helped_by_networks_that_were_not_trained(tmp_path):
    config = ComparisonConfig(strategies=("random",), tasks=("toy-reach",), seeds=1)
    *helpers, student = stages(tmp_path, CONFIG, config)
    assert [s.kind for s in helpers] == ["take-collective", "random-collective"]
    assert list(student.inputs) == [helpers[1].out]
    assert student.config.strategy.use == DEFAULT


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


@pytest.mark.parametrize("study", [ComparisonConfig, TransferConfig])
def test_a_study_is_named_after_the_folder_that_is_meant(study, tmp_path, monkeypatch):
    (tmp_path / "demo" / "model_col").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "demo" / "model_col")
    named = {
        text: study(collective=text).name for text in ("mt10", "hf:owner/name", ".", "..", "../model_col")
    }
    assert named == {
        "mt10": "mt10",
        "hf:owner/name": "name",
        ".": "demo",
        "..": "demo",
        "../model_col": "demo",
    }
    for nameless in ("/", "/model_col", "{}", "{..}"):
        with pytest.raises(ConfigError, match="no name"):
            study(collective=nameless)


def test_a_stage_writes_within_its_run(tmp_path):
    for out in ("", "..", "collective/..", "collective/../../others"):
        with pytest.raises(UserError, match="no folder within the run's"):
            Stage(kind="test", subject="", out=out, function=lambda work: {}, config={})


@pytest.mark.parametrize("use", ["finetune", "prior-data"])
def test_the_collective_must_leave_a_student_steps_to_learn_in(use):
    make = partial(TrainStudent, task="toy-reach", strategy=StrategyConfig(use=(use,)))
    with pytest.raises(ConfigError, match=r"^train\.steps: 250 leave nothing to learn in: .*\.episodes$"):
        make(train=TrainConfig(steps=250, warmup=100))
    assert make(train=TrainConfig(steps=251, warmup=100))


def test_a_row_names_the_strategies_and_the_run_their_settings():
    tuned = replace(CONFIG, strategy=StrategyConfig(finetune=FinetuningConfig(learning_rate=0.5)))
    rows = ("finetune", "finetune-encoder", "finetune-held", "prior-data+imitation")
    config = ComparisonConfig(strategies=rows, tasks=("toy-reach",), seeds=1)
    made = {c.strategy: c.stage.config.strategy for c in cells(tuned, config)}
    assert {name: (one.use, one.finetune.encoder) for name, one in made.items()} == {
        "finetune": (("finetune",), False),
        "finetune-encoder": (("finetune",), True),
        "finetune-held": (("finetune",), False),
        "prior-data+imitation": (("prior-data", "imitation"), False),
    }
    assert {one.finetune.learning_rate for one in made.values()} == {0.5}
    assert {name for name, one in made.items() if one.finetune.hold} == {"finetune-held"}
    longer = replace(CONFIG, strategy=StrategyConfig(finetune=FinetuningConfig(hold=9_000)))
    assert {c.stage.config.strategy.finetune.hold for c in cells(longer, config)} == {9_000}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--strategies", "magic"], "--strategies: magic"),
        (["--strategies", "none+prior-data"], "--strategies: none+prior-data"),
        (["--strategies", "cloning+imitation"], "--strategies: cloning+imitation"),
        (["--strategies", "finetune+imitation"], "--strategies: finetune+imitation"),
        (["--strategies", "none", "none"], "each row once"),
        (["--strategies", "none", "none@32"], "each row once"),
        (["--strategies", "none@0"], "--strategies: none@0"),
        (["--strategies", "none@many"], "--strategies: none@many"),
        (["--strategies", "zero-shot@8"], "--strategies: zero-shot@8"),
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
