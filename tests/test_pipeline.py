"""The whole pipeline on the toy task, run once by its command and then looked at from all sides."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import collectiverl
from collectiverl.artifacts import sealed
from collectiverl.artifacts.metrics import read_metrics
from collectiverl.cli import main
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import episodes
from collectiverl.stages import students
from collectiverl.student.prior_data import play
from collectiverl.studies.cells import cell_result

ROOT = Path(__file__).parents[1]
FIGURES = ("policy", "task", "success_any", "success_last", "interval", "return", "env_steps")
CONFIG = """
tasks: [toy-reach, toy-mirror]
told_nothing: true
student_tasks: [toy-mirror]
expert: {steps: 800, warmup: 200, eval_every: 400, stop_evaluations: 0, checkpoint_every: 200, sac: {depth: 1}}
student: {steps: 600, warmup: 200, eval_every: 300, stop_evaluations: 0, checkpoint_every: 200, sac: {depth: 1}}
transformer: {updates: 120, validation_every: 60, warmup: 10, encoder: {layers: 1}}
online: {expert_episodes: 6, learner_rounds: 1, learner_episodes: 6, first_updates: 50, round_updates: 50}
collective: {updates: 100, critic: {updates: 100}, sac: {depth: 1}}
"""


def command(root: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "collectiverl", "run", "--preset", "smoke", "--root", str(root), *args]


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run, smaller still than the preset."""
    root = tmp_path_factory.mktemp("runs")
    (root / "small.yaml").write_text(CONFIG)
    args = command(root, "--config", str(root / "small.yaml"))
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "smoke"


def figures(run: Path) -> list[dict]:
    rows = json.loads((run / "summary" / "end" / "summary.json").read_text())["policies"]
    return [{name: row[name] for name in FIGURES} for row in rows]


def test_the_summary_has_a_row_for_every_policy(finished):
    rows = json.loads((finished / "summary" / "end" / "summary.json").read_text())["policies"]
    assert [(row["policy"], row["task"]) for row in rows] == [
        ("scripted", "toy-reach"),
        ("scripted", "toy-mirror"),
        ("expert", "toy-reach"),
        ("expert", "toy-mirror"),
        ("told-nothing", "toy-reach"),
        ("told-nothing", "toy-mirror"),
        ("collective", "toy-reach"),
        ("collective", "toy-mirror"),
        ("student", "toy-mirror"),
        ("sac", "toy-mirror"),
    ]
    for row in rows:
        low, high = row["interval"]
        assert 0 <= low <= row["success_any"] <= high <= 1
        assert row["success_last"] <= row["success_any"]
        assert (row["env_steps"] > 0) == (row["policy"] != "scripted")
    steps = {
        kind: [row["env_steps"] for row in rows if row["policy"] == kind]
        for kind in ("expert", "told-nothing")
    }
    assert steps["told-nothing"][0] > sum(steps["expert"])  # it learned from them, and in steps of its own
    assert rows[0]["success_any"] == 1


def test_every_stage_is_sealed_and_says_what_it_was_made_from(finished):
    for name in (
        "model/toy-reach/seed_0",
        "model_col",
        "student/toy-mirror/seed_1",
    ):
        manifest = json.loads((finished / name / "manifest.json").read_text())
        assert manifest["files"]
        assert {"stage", "config", "inputs", "versions", "seed", "seconds"} <= manifest.keys()
    for name in ("experts", "end"):
        found = json.loads((finished / "summary" / name / "summary.json").read_text())
        assert (
            found["stage_seconds"].keys() == found["stage_core_seconds"].keys() == found["stage_load"].keys()
        )
        assert all(computed > 0 for computed in found["stage_core_seconds"].values())
    assert not list(finished.rglob("*.partial"))


def test_a_second_run_does_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("manifest.json")}
    args = command(finished.parent, "--config", str(finished.parent / "small.yaml"))
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("manifest.json")}


def test_a_folder_of_another_configuration_is_refused(finished, capsys):
    assert main.dispatch(["run", "--preset", "smoke", "--root", str(finished.parent)]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "belongs to another configuration" in message
    assert "--overwrite" in message


def test_a_corrupt_file_is_named(finished, tmp_path, capsys):
    copy = tmp_path / "seed_0"
    shutil.copytree(finished / "model/toy-reach/seed_0", copy)
    weights = copy / "agent.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert main.dispatch(["evaluate", str(copy), "toy-reach"]) == 2
    message = capsys.readouterr().err
    assert "agent.safetensors is corrupt" in message


def test_a_policy_for_other_shapes_is_refused(finished, capsys):
    assert main.dispatch(["evaluate", str(finished / "model/toy-reach/seed_0"), "reach"]) == 2
    assert "entries" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["", "model/toy-mirror/seed_0", "student/toy-mirror/seed_1"])
def test_any_policy_is_loaded_by_its_path_and_plays_any_number_of_environments(finished, path):
    policy = collectiverl.load_policy(finished / path)
    for count in (1, 3):
        envs = make_envs("toy-mirror", count)
        played = list(episodes(envs, policy, per_env=1, phase="expert", seed=0))
        assert len(played) == count
        assert all(np.abs(e.action).max() <= 1 for e in played)


def test_rewards_are_optional(finished, recwarn):
    policy, obs = collectiverl.load_policy(finished), np.zeros((2, 6), np.float32)
    for _ in range(3):
        assert np.isfinite(policy.eval_action(obs)).all()
    assert not recwarn.list


def test_a_loaded_policy_is_deterministic_and_forgets_between_episodes(finished):
    policy = collectiverl.load_policy(finished)
    envs = make_envs("toy-mirror", 2, goals=[0, 1], order="sequential")
    first, second = (list(episodes(envs, policy, per_env=1, phase="expert", seed=0)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.action, b.action)


@pytest.mark.parametrize(
    ("verb", "use", "kept"),
    [
        ("train-student", "finetune", "collective.json"),
        ("train_student_finetuning", "finetune", "collective.json"),
        ("train-student", "prior-data imitation", "agent.json"),
    ],
)
def test_students_learn_by_their_own_command(finished, tmp_path, verb, use, kept):
    root = tmp_path / "runs"
    shutil.copytree(finished, root / "smoke")
    args = [verb, "toy-reach", "600", "--run", "smoke", "--root", str(root), "--eval-every", "200"]
    assert main.dispatch([*args, "--strategy.use", *use.split()]) == 0
    student = root / "smoke" / "student" / "toy-reach" / "seed_1"
    assert (student / kept).is_file()
    policy = collectiverl.load_policy(student)
    assert policy.eval_action(np.zeros((2, 6), np.float32)).shape == (2, 2)


@pytest.mark.parametrize(
    ("one", "other", "weights"),
    [
        ("--strategy.use prior-data imitation", "--strategy.use prior-data", "agent.safetensors"),
        ("--strategy.imitation.weight 9", "--strategy.imitation.weight 0", "collective.safetensors"),
    ],
    ids=["own networks", "the collective's"],
)
def test_a_collective_that_never_succeeds_is_not_imitated(
    finished, tmp_path, monkeypatch, one, other, weights
):
    """The student is then, bit for bit, one that is not told to imitate."""
    root, made = tmp_path / "runs", []
    args = ["train-student", "toy-turn", "600", "--root", str(root), "--eval-every", "200", "--run"]
    monkeypatch.setattr(students, "play", lambda *how: play(*how)._replace(success=0.0))
    for name, flags in (("one", one), ("other", other)):
        shutil.copytree(finished, root / name)
        preset = ["--strategy.use", "finetune"] if "use" not in flags else []
        assert main.dispatch([*args, name, *preset, *flags.split()]) == 0
        made.append(root / name / "student" / "toy-turn" / "seed_1")
    assert len({(folder / weights).read_bytes() for folder in made}) == 1
    found = json.loads((made[0] / "summary.json").read_text())
    assert (found["mentor_success"], found["mentor_steps"], found["played_before"]) == (0, 10 * 25, 0)
    assert found["env_steps"] >= 600


def test_students_are_compared_by_one_command_that_goes_on_where_it_was(finished, tmp_path, capsys):
    strategies = ["zero-shot", "cloning", "none", "prior-data+imitation"]
    options = ["--preset", "smoke", "--root", str(tmp_path), "--run", "students"]
    sizes = ["--seeds", "1", "--steps", "600", "--eval-every", "200", "--eval-episodes", "8"]
    sizes += ["--eval-first", "4", "--updates-per-step", "2", "--plain-updates-per-step", "2"]
    args = ["compare-students", *options, *sizes, "--collective", str(finished), "--tasks", "toy-mirror"]
    assert main.dispatch([*args, "--strategies", *strategies]) == 0
    folder = tmp_path / "students" / "comparison" / "smoke"
    found = json.loads((folder / "comparison.json").read_text())
    rows = {row["strategy"]: row for row in found["rows"]}
    assert set(rows) == set(strategies)
    assert rows["none"]["ratio"]["value"] == 1
    for name in ("none", "prior-data+imitation"):
        assert rows[name]["curve"][0]["steps"][-1] <= 650
        assert set(rows[name]["curve"][0]["episodes"]) <= {4, 8}
        assert 0 <= rows[name]["area"][0] <= 1
    assert (folder / "curves.png").is_file()
    capsys.readouterr()
    assert main.dispatch([*args, "--strategies", *strategies]) == 0
    assert "all 5 stages are done" in capsys.readouterr().out
    result = folder / "comparison.json"
    assert main.dispatch([*args, "--strategies", "none"]) == 0  # a smaller question forgets no answer
    assert json.loads(result.read_text())["rows"] == found["rows"]
    result.write_text(result.read_text()[:100])  # damaged, it is made anew: the students are all there
    assert main.dispatch([*args, "--strategies", *strategies]) == 0
    assert json.loads(result.read_text())["rows"] == found["rows"]
    assert cell_result(folder / "prior-data+imitation@2" / "toy-mirror" / "seed_1")["limit"] == 600
    more = ["--strategies", "none", "--seeds", "2"]  # and the table keeps its holes
    assert main.dispatch([*[arg for arg in args if arg not in ("--seeds", "1")], *more]) == 0
    rows = {row["strategy"]: row for row in json.loads(result.read_text())["rows"]}
    assert [rows[name]["holes"] for name in strategies] == [0, 1, 0, 1]
    assert rows["prior-data+imitation"]["ratio"]["seeds"] == 1
    assert main.dispatch([*args, "--strategies", "none", "--success", "0.01", "--overwrite"]) == 0
    [row] = json.loads(result.read_text())["rows"]  # what was judged otherwise is left out
    assert row["strategy"] == "none"


def test_a_map_of_transfer_is_made_task_by_task(finished, tmp_path, capsys):
    file = tmp_path / "map.json"
    options = ["--preset", "smoke", "--root", str(tmp_path), "--run", "mapped", "--cores", "1"]
    args = ["transfer", str(finished), *options, "--json", str(file)]
    assert main.dispatch([*args, "--goals", "0", "1", "--tasks", "toy-turn"]) == 0
    assert main.dispatch([*args, "--goals", "0", "1"]) == 0  # the rest of its suite
    assert "2 of 3 stages are done, 1 to do" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert {row["task"] for row in found["policies"]} == {"toy-turn", "toy-swap"}
    assert found["trained_for"] == ["toy-reach", "toy-mirror"]
    assert all(row["new"] and row["episodes"] == 2 for row in found["policies"])
    assert {"made", "versions", "seed", "files"} <= found.keys()  # what the ledger asks for
    assert (tmp_path / "mapped" / "transfer" / "smoke" / "transfer.png").stat().st_size > 5_000
    assert (tmp_path / "mapped" / "transfer" / "smoke" / "toy-turn" / "manifest.json").is_file()


@pytest.fixture(scope="session")
def with_transformer(finished, tmp_path_factory) -> Path:
    """The finished run, and a trajectory transformer, which its own collective does without."""
    root = tmp_path_factory.mktemp("transformer")
    shutil.copytree(finished, root / "smoke")
    options = ["--run", "smoke", "--root", str(root)]
    for task in ("toy-reach", "toy-mirror"):
        assert main.dispatch(["split-buffer", task, *options]) == 0
    assert main.dispatch(["train-transformer", *options]) == 0
    return root / "smoke"


# of the other conditionings, test_conditioning.py has the laws
@pytest.mark.parametrize("conditioning", ["tuned", "cluster"])
def test_what_a_transformer_learned_conditions_a_policy(with_transformer, tmp_path, conditioning):
    assert plays(distilled(with_transformer, tmp_path, conditioning))


def test_a_conditioning_without_its_transformer_says_how_to_get_it(finished, tmp_path, capsys):
    root = tmp_path / "runs"
    shutil.copytree(finished, root / "smoke")
    shutil.rmtree(root / "smoke" / "model_col")
    args = [
        "distill-collective",
        "--run",
        "smoke",
        "--root",
        str(root),
        "--conditioning",
        "cls",
        "--learner",
        "",
    ]
    assert main.dispatch(args) == 2
    assert "train-transformer" in capsys.readouterr().err


def distilled(run: Path, tmp_path: Path, conditioning: str) -> Path:
    """A copy of the run whose collective is made anew, with another conditioning."""
    copy = tmp_path / "runs" / run.name
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "model_col")
    args = ["distill-collective", "--run", run.name, "--root", str(copy.parent)]
    assert main.dispatch([*args, "--conditioning", conditioning, "--learner", ""]) == 0
    return copy


def plays(run: Path) -> bool:
    action = collectiverl.load_policy(run, task="toy-reach").eval_action(np.zeros((2, 6), np.float32))
    return action.shape == (2, 2) and bool(np.isfinite(action).all())


def test_experts_alone_are_trained_judged_and_given_away(finished, tmp_path, capsys):
    """Of a finished run they are all done; what is exported plays without the run."""
    root = tmp_path / "runs"
    shutil.copytree(finished, root / "smoke")
    options = ["--run", "smoke", "--root", str(root)]
    assert main.dispatch(["run", *options, "--until", "experts"]) == 0
    found = json.loads((root / "smoke" / "summary" / "experts" / "summary.json").read_text())
    assert [row["task"] for row in found["policies"]] == ["toy-reach", "toy-mirror"]
    assert {row["trained_from"] for row in found["policies"]} == {"scratch"}
    assert found["env_steps"] == sum(row["env_steps"] for row in found["policies"])
    out = tmp_path / "given"
    assert main.dispatch(["export", *options, "--out", str(out)]) == 0
    card = (out / "README.md").read_text()
    assert all(
        f"`{row['task']}`" in card and f"{row['success_any']:.3f}" in card for row in found["policies"]
    )
    one, other = (
        collectiverl.load_policy(p, task="toy-reach")
        for p in (out / "toy-reach", root / "smoke/model/toy-reach/seed_0")
    )
    obs = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    assert np.array_equal(one.eval_action(obs), other.eval_action(obs))
    capsys.readouterr()
    assert main.dispatch(["export", *options, "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    small = tmp_path / "small"
    assert main.dispatch(["export", *options, "--half", "--out", str(small)]) == 0
    halved = collectiverl.load_policy(small / "toy-reach", task="toy-reach")
    assert np.abs(halved.eval_action(obs) - one.eval_action(obs)).max() < 0.01
    bytes_of = [(folder / "toy-reach" / "agent.safetensors").stat().st_size for folder in (small, out)]
    assert bytes_of[0] < 0.7 * bytes_of[1]
    both = ["export", *options, "--more", "smoke", "--out", str(tmp_path / "both")]
    assert main.dispatch(both) == 2
    assert "both have an expert of toy-reach" in capsys.readouterr().err
    assert main.dispatch([*both, "--what", "collective"]) == 2
    assert "--more: is for experts in the format folder" in capsys.readouterr().err


def test_experts_of_several_runs_are_given_away_in_one_folder(finished, tmp_path, capsys):
    root, out = tmp_path / "runs", tmp_path / "given"
    parts = {"one": "toy-reach", "two": "toy-mirror"}
    for name, task in parts.items():
        shutil.copytree(finished / "model", root / name / "model")
        flags = ["--run", name, "--root", str(root), "--config", str(finished / "config.yaml")]
        assert main.dispatch(["run", *flags, "--tasks", task, "--until", "experts"]) == 0
    alone = [json.loads((root / name / "summary/experts/summary.json").read_text()) for name in parts]
    assert (
        main.dispatch(["export", "--run", "one", "--root", str(root), "--more", "two", "--out", str(out)])
        == 0
    )
    found = json.loads((out / "experts.json").read_text())
    assert found["tasks"] == sorted(parts.values())
    assert found["policies"] == [row for one in alone[::-1] for row in one["policies"]]
    assert found["env_steps"] == sum(one["env_steps"] for one in alone)
    assert found["steps_to_0.9"] == alone[0]["steps_to_0.9"] | alone[1]["steps_to_0.9"]
    assert all(sealed.is_sealed(out / task) for task in parts.values())
    assert all(f"`{task}`" in (out / "README.md").read_text() for task in parts.values())


def test_a_collective_is_given_away_with_the_figures_of_its_seeds(finished, tmp_path, capsys):
    root, out = tmp_path / "runs", tmp_path / "given"
    for name in ("smoke", "other"):
        shutil.copytree(finished, root / name)
    options = ["--run", "smoke", "--root", str(root)]
    flags = ["export", *options, "--what", "collective", "--seeds", "other", "--out", str(out)]
    assert main.dispatch(flags) == 0
    mean = json.loads((root / "smoke" / "summary" / "end" / "summary.json").read_text())["mean"][
        "collective"
    ]["success_any"]
    assert f"{mean:.3f}, {mean:.3f}" in (out / "README.md").read_text()
    obs = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    one, other = (collectiverl.load_policy(path) for path in (out, root / "smoke"))
    assert np.array_equal(one.eval_action(obs), other.eval_action(obs))
    half = tmp_path / "half"
    assert main.dispatch([*flags[:-1], str(half), "--half"]) == 0
    halved = collectiverl.load_policy(half).eval_action(obs)
    assert 0 < np.abs(halved - collectiverl.load_policy(out).eval_action(obs)).max() < 0.02
    assert "half precision" in (half / "README.md").read_text()
    assert "half precision" not in (out / "README.md").read_text()
    shutil.rmtree(out)
    settings = (root / "other" / "config.yaml").read_text()
    (root / "other" / "config.yaml").write_text(settings.replace("mixed_skill: 48", "mixed_skill: 40"))
    assert main.dispatch(flags) == 2
    assert "mixed_skill" in capsys.readouterr().err


def test_ablations_are_rows_of_a_table_and_are_made_once(finished, tmp_path, capsys):
    """Here of policies that need no trajectory."""
    root = tmp_path / "runs"
    shutil.copytree(finished, root / "smoke")
    flags = ["ablate", "--run", "smoke", "--root", str(root), "--only", "conditioning"]
    flags += ["--rows", "zeros", "task_id", "--episodes", "4", "--seeds", "1"]
    for left in ("2 to do", "nothing to do"):
        assert main.dispatch(flags) == 0
        assert left in capsys.readouterr().out
    rows = json.loads((root / "smoke" / "ablation.json").read_text())["rows"]
    assert {row["variant"] for row in rows} == {"zeros", "task_id"}
    for row in rows:
        assert 0 <= row["seeds"][0]["success_any"] <= 1
    assert main.dispatch([*flags, "--only", "weather"]) == 2
    assert "weather" in capsys.readouterr().err


def test_experts_are_not_given_away_before_they_are_judged(tmp_path, capsys):
    assert main.dispatch(["export", "--run", "none", "--root", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "run --until experts" in capsys.readouterr().err


@pytest.mark.slow
def test_experts_trained_in_one_program_lie_where_others_look_for_them(finished, tmp_path):
    args = command(tmp_path, "--config", str(finished.parent / "small.yaml"), "--until", "experts")
    args += ["--vectorize", "--expert.steps", "500"]
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for task in ("toy-reach", "toy-mirror"):
        folder = tmp_path / "smoke" / "model" / task / "seed_0"
        assert json.loads((folder / "summary.json").read_text())["task"] == task
        assert collectiverl.load_policy(folder, task=task)
        assert list((folder / "episodes").iterdir())
        course = read_metrics(folder)
        assert {"eval/success", "eval/episodes"} <= course[0].keys()
        assert not any(name.startswith("toy-") for name in course[0])
        assert course[-1]["seconds"] <= json.loads((folder / "summary.json").read_text())["seconds"] + 1


@pytest.mark.parametrize("demos", ["scripted", "scripted:0", "random:5", "scripted:x"])
def test_demonstrations_that_do_not_exist_are_refused(demos, tmp_path, capsys):
    options = ["--preset", "smoke", "--root", str(tmp_path)]
    assert main.dispatch(["train-task", "toy-reach", *options, "--demos", demos]) == 2
    assert f"--demos: {demos!r}" in capsys.readouterr().err


def killed_until_done(root: Path, kills: int, seed: int) -> int:
    """Runs the pipeline, killing it `kills` times at random moments; returns how many kills hit it at work."""
    rng, hits = random.Random(seed), 0
    args = command(root, "--config", str(root / "small.yaml"))
    for _ in range(kills):
        process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(3, 9))
        hits += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return hits


@pytest.mark.slow
def test_killed_at_ten_random_moments_a_run_ends_with_the_same_figures(finished, tmp_path):
    shutil.copy(finished.parent / "small.yaml", tmp_path)
    assert killed_until_done(tmp_path, kills=10, seed=0) >= 3
    assert figures(tmp_path / "smoke") == figures(finished)
