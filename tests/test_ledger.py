"""Every table of README and docs is the one that the ledger makes."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.results import RESULTS, shortcomings
from results.cross_play import cross_play
from results.ledger import FOLDER
from results.speeds import CORE_SECONDS
from results.students import HALF_KNOWN, RATIO_TASKS, SETTING
from results.tables import MARKED, PAGES, ROOT, TABLES, written

from collectiverl.artifacts import files, provenance, sealed
from collectiverl.studies.cells import named
from collectiverl.types import UserError
from results import ledger, speeds

ENTRIES = sorted(FOLDER.glob("*/*.json"))
SUCCESS = ("success_any", "success_last")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_pages_tables_are_those_of_the_ledger(page):
    assert written(page.read_text()) == page.read_text(), "run 'make tables'"


def test_every_marked_table_is_made_by_somebody():
    named = {name for page in PAGES for _, name, *_ in MARKED.findall(page.read_text())}
    assert named <= set(TABLES)
    assert named


def columns(name: str) -> dict[str, list[str]]:
    """The columns of a table, by their heads."""
    head, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in TABLES[name]().splitlines()
    )
    return {title: list(column) for title, *column in zip(head, *rows, strict=True)}


def test_the_front_page_has_the_figures_of_the_pages_behind_it():
    front = columns("front")
    for goals, name in (("visible", "mt10"), ("hidden", "mt10-hidden")):
        any_step, last_step = (columns(name)[title] for title in ("any step", "last step"))
        assert front[f"one policy, goals {goals}"] == [*any_step, f"**{last_step[-1]}**", "3"]
    assert front["its expert"][:11] == columns("mt10")["expert"]
    assert front["its expert"][11] == columns("mt10")["expert, last step"][-1]
    with_z = columns("controls")["with `z`"]
    assert with_z == [*front["one policy, goals hidden"][:10], *with_z[10:]]


OF_MT50 = ("any step", "last step", "expert", "expert, last step", "told nothing")
NUMBER = re.compile(r"\d+\.\d+(?![.\w])")


def in_prose(page: str) -> list[str]:
    """Its numbers with decimals that stand in no table, code or link, and are no version of Python."""
    others = r"```.*?```|`[^`]*`|\]\([^)]*\)|Python [\d.]+"
    return NUMBER.findall(re.sub(others, "", MARKED.sub("", page), flags=re.DOTALL))


def test_every_decimal_in_the_prose_of_the_front_page_is_one_of_the_ledger():
    """Of students: how many times fewer steps, from the least to the most, and the medians; of MT50, the means."""
    controls = columns("controls")
    alone = [f"{float(controls[told][10].strip('*')):.2f}" for told in ("told nothing", "told the task")]
    rows = columns("students")
    fewer = dict(zip(rows["task"], rows["times fewer"], strict=True))
    medians = {title: NUMBER.findall(cell)[0] for title, cell in fewer.items() if "median" in title}
    each = [
        NUMBER.findall(cell)[0]
        for title, cell in fewer.items()
        if title not in medians and NUMBER.search(cell)
    ]
    helped = [min(each, key=float), max(each, key=float), *medians.values()]
    fifty = [columns("mt50")[title][-1].strip("*") for title in OF_MT50]
    for page in PAGES[:2]:
        assert set(in_prose(page.read_text())) == {*helped, *alone, *fifty}


MEASURED = re.compile(r"success|any step|last step|interval|seconds|updates/s|steps/s|each seed|fewer", re.I)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_of_measurements_is_written_by_hand(page):
    by_hand = MARKED.sub("", page.read_text())
    heads = re.findall(r"^(\|.*\|)\n\|[ \-:|]+\|$", by_hand, re.MULTILINE)
    assert not [head for head in heads if MEASURED.search(head)]


def has_whole_history() -> bool:
    """Whether the checkout knows all commits; a shallow one and an unpacked archive do not."""
    try:
        return provenance.git(ROOT, "rev-parse", "--is-shallow-repository") == "false"
    except (OSError, subprocess.CalledProcessError):
        return False


WHOLE_HISTORY = has_whole_history()


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_an_entry_says_how_it_was_made(path):
    entry = json.loads(path.read_text())
    assert entry["command"].startswith(("collectiverl ", "examples/"))
    assert re.fullmatch("[0-9a-f]{40}", entry["commit"])
    assert entry["machine"]["cpu"]
    if "sources" in entry and WHOLE_HISTORY:
        assert provenance.git(ROOT, "rev-parse", f"{entry['commit']}:src") == entry["sources"]
    if path.parent.name == "students":  # one cell of a comparison
        assert 0 <= entry["success"] <= 1
        return
    if path.parent.name == "encoder":  # a probe
        assert all(0 <= accuracy <= 1 for accuracy in entry["linear_probe"].values())
        return
    if path.parent.name == "memory" and "stage_memory" in entry:  # one stage of a run
        assert all(peak > 0 for peak in entry["stage_memory"].values())
        return
    if path.parent.name == "memory":  # the same command on two commits
        assert all(re.fullmatch("[0-9a-f]{40}", entry[when]["commit"]) for when in ("before", "after"))
        assert entry["before"]["peak_memory"] > entry["after"]["peak_memory"] > 0
        return
    if "labeller" in entry:  # cross-play
        shares = [row for group in entry["groups"] for key in SUCCESS for row in group[key]]
        assert all(0 <= share <= 1 for row in shares for share in row)
        return
    assert all(0 <= row["success_any"] <= 1 and row["episodes"] for row in entry["policies"])


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_an_entry_names_no_folder_of_the_machine_that_made_it(path):
    entry = json.loads(path.read_text())
    named = [entry.get("policy", ""), *(row["policy"] for row in entry.get("policies", []))]
    assert not [policy for policy in named if Path(policy).is_absolute()]


def test_an_evaluation_of_a_policy_that_lay_elsewhere_is_told_of_by_its_place_beside_the_file(tmp_path):
    policy = str(tmp_path / "run" / "model" / "push-v3" / "seed_0")
    found = {
        "made": "",
        "versions": {},
        "policy": policy,
        "policies": [{"policy": policy}, {"policy": "mt10"}],
    }
    files.write_json(tmp_path / "found.json", found)
    kept = ledger._evaluated(tmp_path / "found.json")
    assert kept["policy"] == kept["policies"][0]["policy"] == "run/model/push-v3/seed_0"
    assert kept["policies"][1]["policy"] == "mt10"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_speed_that_is_kept_can_be_trusted(path):
    document = json.loads(path.read_text())
    assert not shortcomings(document, core_seconds=path.stem in CORE_SECONDS)
    if WHOLE_HISTORY:
        assert provenance.git(ROOT, "cat-file", "-t", document["about"]["commit"]) == "commit"


def test_nothing_in_the_ledger_is_out_of_its_folders():
    """What lies beside them says neither how it was made, nor is it looked at by the tests above."""
    assert not list(FOLDER.glob("*.json"))


def test_a_speed_of_a_busy_machine_or_of_changed_code_is_not_shown(tmp_path, monkeypatch):
    about = {"commit": "0" * 7, "load": 0.2, "beside": 0.1, "cpu": "Z80", "cores": 2, "date": "today"}
    table = {"title": "t", "columns": ["speed"], "rows": [["42"]]}
    monkeypatch.setattr(speeds, "RESULTS", tmp_path)

    def shown(name="loop", **changes):
        document = {"about": about | {"command": "python -m benchmarks.loop"} | changes, "table": table}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        return "| 42 |" in TABLES[f"speed-{name}"]()

    assert "not measured" in TABLES["speed-loop"]()
    assert shown()
    assert not shown(load=0.6)
    assert not shown(beside=0.6)
    assert not shown(commit="abc-dirty")
    assert not shown(commit=None)
    assert shown("encoder", load=3.0, beside=1.5)


def test_a_table_of_meta_learning_leaves_holes_where_no_run_is(monkeypatch):
    def row(task, rate, **about):
        return {"task": task, "success_any": rate, "success_last": rate / 2, **about}

    kept = {
        "meta/ml10_seed_": [],
        "meta/ml10-single_seed_": [
            {"policies": [row("push-v3", rate, new=False), row("sweep-into-v3", 0.2, new=True)]}
            for rate in (1.0, 0.5)
        ],
    }
    monkeypatch.setattr(ledger, "read", kept.__getitem__)
    table = TABLES["ml10"]().splitlines()
    assert table[2] == "| train | `push` | ? | ? | 0.750 | 1.000, 0.500 | 0.375 |"
    assert table[4] == "| test | `sweep-into` | ? | ? | 0.200 | 0.200, 0.200 | 0.100 |"
    kept["meta/ml10_seed_"] = [
        {"policies": [row("push-v3", 0.9, split="train"), row("push-v3", 0, split="test")]}
    ]
    assert TABLES["ml10"]().splitlines()[2].startswith("| train | `push` | 0.900 | 0.900 | 0.750 |")
    kept.update({key: [] for key in kept})
    assert "no run" in TABLES["ml10"]()


def student(strategy, seed, steps, *, updates=32, **changes):
    """A cell of a comparison, as the ledger has it."""
    plain = strategy == "none"
    cell = {"strategy": named(strategy, updates), "task": "soccer-v3", "seed": seed, "steps": steps}
    cell |= {"limit": 60_000, "collective": "" if plain else "mt10", "area": 0.2 if plain else 0.6}
    return cell | {"success": 1.0, "seconds": 60.0} | changes


def test_the_table_of_students_has_holes_where_no_run_is(monkeypatch):
    map_of = {"policies": [{"task": "soccer-v3", "success_any": 0.5}], "seed": 0}
    kept = {"students/": [], "transfer/mt10_seed_": []}
    monkeypatch.setattr(ledger, "read", kept.__getitem__)
    rows = TABLES["students"]().splitlines()[2:]
    assert len(rows) == 8
    assert all(row.endswith("| ? | ? | ? | ? | ? | ? | 0/0 |") for row in rows)
    kept["transfer/mt10_seed_"] = [map_of]
    other = student("finetune", 1, 99, collective="another")
    kept["students/"] = [student("none", 1, None, success=0.5), student("none", 2, 40_000), other]
    assert (
        "| `soccer` | 0.50 | > 60,000; 40,000 | ? | ? | ? | 0.75 / ? | 2/0 |"
        in TABLES["students"]().splitlines()
    )
    kept["students/"].append(student("finetune", 1, 20_000))
    lines = TABLES["students"]().splitlines()
    assert "| `soccer` | 0.50 | > 60,000; 40,000 | 20,000 | ≥ 3.00 | +0.50 | 0.75 / 1.00 | 2/1 |" in lines
    assert lines[-1] == "| half-known, 1 task: median, mean |  |  |  | **≥ 3.00** | +0.50 |  |  |"
    kept["students/"] += [student("none", 1, None, limit=200_000), student("finetune", 1, 99, limit=10_000)]
    assert (
        TABLES["students"]().splitlines() == lines
    )  # these were allowed more, and fewer, steps than the others
    map_of["policies"][0]["success_any"] = 0.04
    assert TABLES["students"]().splitlines()[-1].startswith("| unknown, 1 task: median")


COMMIT = "0" * 40


@pytest.fixture
def clean(monkeypatch):
    """A checkout without changes, in which runs are made."""
    monkeypatch.setattr(ledger.provenance, "git", lambda folder, *args: "" if "status" in args else COMMIT)
    monkeypatch.setattr(ledger.provenance, "commit", lambda: COMMIT)


def test_a_stage_of_a_run_that_went_no_further_is_an_entry_too(tmp_path, clean):
    with sealed.stage(tmp_path / "stage", name="online-distill", config={}, inputs={}, seed=3) as work:
        files.write_json(work / "summary.json", {})
    found = ledger.entry(
        ledger.Entry(run=tmp_path, name="memory/mt50", command="collectiverl", stage="stage")
    )
    assert found["stage_memory"]["stage"] > 10**7
    assert found["seed"] == 3
    assert found["core_seconds"] >= 0
    assert len(found["load"]) == 2


def test_an_entry_has_the_commit_that_made_the_run_and_none_that_was_changed(tmp_path, clean, monkeypatch):
    for name, commit in (("kept", "1" * 40), ("changed", "1" * 40 + "-dirty"), ("installed", None)):
        monkeypatch.setattr(ledger.provenance, "commit", lambda commit=commit: commit)
        with sealed.stage(tmp_path / name, name="online-distill", config={}, inputs={}) as work:
            files.write_json(work / "summary.json", {})

    def of(name):
        return ledger.entry(ledger.Entry(run=tmp_path, name=name, command="collectiverl", stage=name))

    assert of("kept")["commit"] == "1" * 40
    assert of("installed")["commit"] == COMMIT  # the checkout's
    with pytest.raises(UserError, match="in no commit"):
        of("changed")


def test_of_a_probe_what_it_found_is_kept(tmp_path, clean):
    goals = {"reach-v3": {"0": 5.0}}
    found = {"linear_probe": {"1": 0.5}, "reconstruction": {"masked": 1.0}, "confusion": {}, "goals": goals}
    with sealed.stage(tmp_path / "probe", name="probe", config={}, inputs={}) as work:
        files.write_json(work / "summary.json", found)
    config = ledger.Entry(run=tmp_path, name="x", command="collectiverl", stage="probe")
    entry = ledger.entry(config)
    assert entry["linear_probe"] == {"1": 0.5}
    assert entry["goals"] == goals
    assert "confusion" not in entry


def test_of_cross_play_who_plays_what_how_well_is_kept_and_becomes_a_table(tmp_path, clean, monkeypatch):
    group = {
        "tasks": ["a-v3", "b-v3"],
        "success_any": [[1, 0.5], [0.25, 1]],
        "success_last": [[0.75, 0], [0, 1]],
    }
    found = {"episodes": 4, "groups": [group], "labeller": {"a-v3": "a-v3", "b-v3": "b-v3"}, "confused": []}
    with sealed.stage(tmp_path / "cross_play", name="cross-play", config={}, inputs={}) as work:
        files.write_json(work / "summary.json", found)
    config = ledger.Entry(run=tmp_path, name="x", command="collectiverl", stage="cross_play")
    entry = ledger.entry(config)
    assert {name: entry[name] for name in ("episodes", "groups", "labeller")} == {
        name: found[name] for name in ("episodes", "groups", "labeller")
    }
    monkeypatch.setattr(ledger, "read", lambda name: [entry])
    assert cross_play("any")[1:] == [
        ["`a`", "`a`", "1.00", "0.75", "yes"],
        ["`a`", "`b`", "0.25", "0.00", ""],
        ["`b`", "`a`", "0.50", "0.00", ""],
        ["`b`", "`b`", "1.00", "1.00", "yes"],
    ]


def test_the_most_memory_is_that_of_all_runs_of_a_preset(monkeypatch):
    runs = {"collective/mt50_seed_": 1.5e9, "memory/mt50_seed_": 2.25e9}
    made = {name: [{"stage_memory": {"online_distill/MT50/seed_0": peak}}] for name, peak in runs.items()}
    monkeypatch.setattr(ledger, "read", lambda name: made.get(name, []))
    assert TABLES["memory"]().splitlines()[0] == "| stage | `mt50` |"
    assert TABLES["memory"]().splitlines()[2] == "| online distillation | 2.25 |"


def test_of_a_task_that_the_collective_knows_no_ratio_is_claimed(monkeypatch):
    cells = [student("none", 1, 9_000), student("finetune", 1, 3_000)]
    half = {"policies": [{"task": "soccer-v3", "success_any": 0.5}], "seed": 0}
    found = {"students/": cells, "transfer/mt10_seed_": [half]}
    monkeypatch.setattr(ledger, "read", found.__getitem__)
    assert TABLES["students"]().splitlines()[-1].startswith("| half-known, 1 task: median, mean |")
    found["transfer/mt10_seed_"] = [{"policies": [{"task": "soccer-v3", "success_any": 0.9}], "seed": 0}]
    lines = TABLES["students"]().splitlines()
    assert "| `soccer` | 0.90 | 9,000 | 3,000 | known |  | 1.00 / 1.00 | 1/1 |" in lines
    assert not any("median" in line for line in lines)


def test_tasks_on_which_settings_are_chosen_have_a_table_of_their_own(monkeypatch):
    chosen_on = {"task": "faucet-close-v3", "updates": 16}
    cells = [student("none", 1, 900, **chosen_on), student("prior-data+imitation", 1, None, **chosen_on)]
    cells.append(student("finetune", 1, 300))
    monkeypatch.setattr(ledger, "read", {"students/": cells, "transfer/mt10_seed_": []}.__getitem__)
    assert TABLES["students-settings"]().splitlines()[2:] == ["| `faucet-close` | 900 | > 60,000 | ? |"]
    rows = TABLES["students"]().splitlines()[2:]
    assert not any("faucet-close" in row for row in rows)
    assert "| `soccer` | ? | ? | 300 | ? | ? | ? / 1.00 | 0/1 |" in rows


def test_students_that_are_held_stand_beside_those_that_are_not(monkeypatch):
    short = {"task": "push-wall-v3", "limit": 16_000}
    cells = [student("finetune", 1, None, updates=16, **short), student("finetune-held", 1, 9, **short)]
    cells += [student("finetune", 2, 9, updates=16, **short | {"area": 0.25})]
    cells += [student("finetune", 3, 9, updates=16, task="push-wall-v3", area=0.9)]  # was allowed more
    monkeypatch.setattr(ledger, "read", {"students/": cells}.__getitem__)
    lines = TABLES["students-held"]().splitlines()
    assert lines[0] == "| task | `finetune@16` | `finetune-held@16` | `finetune@32` | `finetune-held@32` |"
    assert lines[2:] == ["| `push-wall` | 0.60 (not solved); 0.25 (9) | ? | ? | 0.60 (9) |"]


def test_the_two_strategies_that_shape_rewards_have_a_table_of_their_own(monkeypatch):
    cells = [student("none", 1, 900), student("likelihood", 1, None), student("likelihood", 1, 1, updates=8)]
    monkeypatch.setattr(ledger, "read", {"students/": cells, "transfer/mt10_seed_": []}.__getitem__)
    lines = TABLES["students-shaping"]().splitlines()
    assert lines[0] == "| task | `none` | `finetune` | `likelihood` | `potential` |"
    assert "| `soccer` | 900 | ? | > 60,000 | ? |" in lines
    assert len(lines) == 2 + len(HALF_KNOWN)


def test_what_reconstruction_is_worth_is_a_row_with_it_and_a_row_without(monkeypatch):
    def probed(accuracy):
        errors = {"masked": 2 * accuracy, "copied": 0.5, "masked_state": 0.7, "copied_state": 0.6}
        return {"linear_probe": {"1": accuracy, "anywhere": 0.9}, "reconstruction": errors}

    kept = {"encoder/with_seed_": [probed(0.25), probed(0.75)], "encoder/without_seed_": [probed(0.5)]}
    monkeypatch.setattr(ledger, "read", kept.__getitem__)
    lines = TABLES["reconstruction"]().splitlines()
    assert (
        lines[0]
        == "| trained | 1 step | anywhere | hidden parts | by copying | hidden states | states by copying | seeds |"
    )
    assert lines[2].startswith(
        "| with reconstruction | 0.50 (0.25 to 0.75) | 0.90 (0.90 to 0.90) | 1.00 (0.50"
    )
    assert lines[3].startswith("| InfoNCE alone | 0.50 (0.50 to 0.50) |")
    monkeypatch.setattr(ledger, "read", lambda name: [])
    assert "no run" in TABLES["reconstruction"]()


def test_core_minutes_stand_beside_minutes_with_the_load_and_holes_where_they_are_not_known(monkeypatch):
    row = {"policy": "collective", "task": "fetch-reach", "success_any": 1.0, "success_last": 1.0}
    run = {"policies": [row | {"episodes": 50}], "mean": {"collective": row}}
    run |= {"stage_seconds": {"a": 300.0, "b": 60.0}, "seed": 0}
    computed = {"stage_core_seconds": {"a": 200.0, "b": 40.0}, "stage_load": {"a": [0.1, 1], "b": [2, 3]}}
    unknown = computed | {"stage_core_seconds": {"a": None, "b": 40.0}}
    kept = {"collective/fetch_seed_": [run], "teachers/fetch": []}
    monkeypatch.setattr(ledger, "read", kept.__getitem__)
    assert TABLES["fetch"]().splitlines()[-1] == "| minutes of all stages |  |  |  | 6 |  |  |"
    kept["collective/fetch_seed_"] = [run, run | computed, run | unknown]
    assert TABLES["fetch"]().splitlines()[-1] == "| core-minutes |  |  |  | ?, 4 (load 0.1 to 3.0), ? |  |  |"


def test_no_setting_is_chosen_on_a_task_that_is_reported():
    assert not set(SETTING) & set(HALF_KNOWN)


def test_replay_ratios_are_compared_on_the_tasks_on_which_settings_are_chosen(monkeypatch):
    task = "faucet-close-v3"
    cells = [student("none", 1, steps, task=task, updates=n) for n, steps in ((4, None), (8, 900))]
    monkeypatch.setattr(ledger, "read", {"students/": cells, "transfer/mt10_seed_": []}.__getitem__)
    lines = TABLES["students-ratios"]().splitlines()
    assert lines[0] == "| task | student | 4 updates | 8 updates | 16 updates | 32 updates |"
    assert "| `faucet-close` | plain SAC | > 60,000 | 900 | ? | ? |" in lines
    assert "| `faucet-close` | with help | ? | ? | ? | ? |" in lines
    assert "| geometric mean of 0 | plain SAC | ? | ? | ? | ? |" in lines
    assert len(lines) == 2 + 2 * (len(RATIO_TASKS) + 1)
    cells += [student("none", 1, steps, task=task, updates=n) for n, steps in ((16, 400), (32, 100))]
    cells += [student("none", 1, steps, task=SETTING[0], updates=n) for n, steps in ((4, 400), (8, 800))]
    cells += [student("none", 1, steps, task=SETTING[0], updates=n) for n, steps in ((16, 400), (32, 3_200))]
    lines = TABLES["students-ratios"]().splitlines()
    assert "| geometric mean of 2 | plain SAC | 4,899 | 849 | 400 | 566 |" in lines
    assert "| `faucet-close` | 400 | ? | ? |" in TABLES["students-settings"]().splitlines()  # with 16 updates


def test_cells_of_a_comparison_become_entries_one_by_one(tmp_path, clean):
    folder = tmp_path / "comparison" / "none" / "soccer-v3" / "seed_1"
    train = {"stop_success": 0.9, "stop_evaluations": 2, "steps": 60_000, "updates_per_step": 16}
    settings = {"config": {"train": train}, "inputs": {}, "seed": 1}
    with sealed.stage(folder, name="train-student", **settings) as work:
        found = {"task": "soccer-v3", "success": 0.98, "env_steps": 512, "seconds": 3.0}
        files.write_json(work / "summary.json", found)
        lines = [{"step": s, "eval/success": 1.0, "eval/episodes": 50} for s in (256, 512)]
        (work / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "comparison" / "none" / "soccer-v3" / "seed_2.partial").mkdir()  # not finished
    config = ledger.Entry(run=tmp_path, name="students", command="collectiverl compare-students", cells=True)
    [(name, entry)] = ledger.cells(config)
    assert name == "students/none_soccer-v3_seed_1"
    assert entry["command"] == config.command
    assert (entry["strategy"], entry["steps"], entry["area"]) == (
        "none",
        512,
        pytest.approx(1 - 256 / 60_000),
    )
    assert entry["core_seconds"] >= 0
    assert json.loads(ledger._lines(entry)) == entry
    train["updates_per_step"] = 8  # whatever the folder is called
    with sealed.stage(folder.with_name("seed_3"), name="train-student", **settings | {"seed": 3}) as work:
        files.write_json(work / "summary.json", found)
        (work / "metrics.jsonl").write_text(
            json.dumps({"step": 256, "eval/success": 1.0, "eval/episodes": 50}) + "\n"
        )
    made = dict(ledger.cells(config))
    assert list(made) == ["students/none_soccer-v3_seed_1", "students/none@8_soccer-v3_seed_3"]
    train["steps"] = 200_000
    with sealed.stage(folder.with_name("seed_4"), name="train-student", **settings | {"seed": 4}) as work:
        files.write_json(work / "summary.json", found)
        shutil.copy(folder / "metrics.jsonl", work)
    assert "students/none@8_soccer-v3_200000_steps_seed_4" in dict(ledger.cells(config))
    assert made["students/none@8_soccer-v3_seed_3"]["collective"] == ""
    with pytest.raises(UserError, match="no finished cell"):
        list(ledger.cells(replace(config, run=tmp_path / "nothing")))


def test_rows_of_an_ablation_become_entries_and_a_table(tmp_path, clean, monkeypatch):
    """The manifest has the seed of the run, the folder that of the training."""
    about = {
        "group": "window",
        "variant": "window_5",
        "tasks": ["push-v3"],
        "goals_hidden": True,
        "teacher": "sac",
    }
    found = {"success_any": 0.75, "success_last": 0.5, "by_task": {"push-v3": 0.75}}
    for seed in (0, 2):
        folder = tmp_path / "ablation" / "window" / "window_5" / f"seed_{seed}"
        with sealed.stage(folder, name="ablate", config=about | {"seed": 0}, inputs={}) as work:
            files.write_json(work / "summary.json", found | {"success_any": 0.75 + 0.1 * seed})
    config = ledger.Entry(run=tmp_path, name="ablation/hidden", command="collectiverl ablate", cells=True)
    made = dict(ledger.cells(config))
    assert list(made) == [f"ablation/hidden/window_window_5_seed_{seed}" for seed in (0, 2)]
    assert [one["seed"] for one in made.values()] == [0, 2]
    monkeypatch.setattr(ledger, "read", {"ablation/hidden/": list(made.values())}.__getitem__)
    lines = TABLES["ablation"]().splitlines()
    assert "| window | `window_5` | 0.850 | 0.75, 0.95, ? | 0.500 | 0.75 |" in lines
    assert "| encoder | `gru` | ? | ? | ? | ? |" in lines


def test_an_evaluation_becomes_an_entry_if_it_says_what_was_evaluated(tmp_path, clean):
    file = tmp_path / "found.json"
    found = {"policies": [], "seed": 3, "made": "today", "versions": {}, "benchmark": "ML10"}
    file.write_text(json.dumps(found))
    config = ledger.Entry(run=file, name="meta/ml10_seed_3", command="collectiverl evaluate-meta runs/ml10")
    entry = ledger.entry(config)
    assert found.items() <= entry.items()
    assert entry["command"] == config.command
    file.write_text(json.dumps(found | {"incomplete": True}))
    with pytest.raises(UserError, match="has not come to its end"):
        ledger.entry(config)
    file.write_text(json.dumps({"policies": []}))
    with pytest.raises(UserError, match="does not say made, versions"):
        ledger.entry(config)
