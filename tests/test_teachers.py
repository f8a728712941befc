"""One flag says who teaches: experts of the run, scripts, the package's, files of other libraries, or an object."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from collectiverl import policies
from collectiverl.artifacts import configs, sealed
from collectiverl.cli import main
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.pipeline import executor, presets
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.plan import stages
from collectiverl.policies import load_policy
from collectiverl.sac.policy import Expert
from collectiverl.stages.base import execute
from collectiverl.stages.taking import take_expert_stage
from collectiverl.stages.teachers import source_of, teachers
from collectiverl.types import ConfigError, UserError
from test_commands import TINY

FOREIGN = Path(__file__).parent / "fixtures" / "foreign"
THREE = ("toy-reach", "toy-mirror", "toy-swap")
TEACHER = f"{FOREIGN}/sac_{{task}}.zip"
OBS = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setattr(executor, "use_threads", lambda count: None)


@pytest.mark.parametrize(
    ("teacher", "until", "kinds"),
    [
        ("sac", "experts", {"train-task", "evaluate", "summary"}),
        (TEACHER, "experts", {"take-expert", "evaluate", "summary"}),
        ("scripted", "collective", {"online-distill", "split-online-buffer", "distill-collective"}),
        ("my_experts:load", "collective", {"online-distill", "split-online-buffer", "distill-collective"}),
        (
            TEACHER,
            "collective",
            {"take-expert", "online-distill", "split-online-buffer", "distill-collective"},
        ),
    ],
)
def test_a_run_has_the_stages_that_its_teacher_needs(teacher, until, kinds):
    config = replace(TINY, tasks=THREE, teacher=teacher, student_tasks=())
    found = stages(config, until)
    assert {s.kind for s in found} - {"probe", "evaluate", "film", "summary"} == kinds - {
        "evaluate",
        "summary",
    }
    made = {s.out for s in found}
    assert all(name in made for s in found for name in s.inputs)
    [distill] = [s for s in found if s.kind == "online-distill"] or [None]
    if distill:
        assert distill.config.teacher == teacher
        assert len(distill.inputs) == (3 if teacher == TEACHER else 0)


def test_an_object_that_teaches_is_evaluated_by_its_name():
    config = replace(TINY, tasks=THREE, teacher="my_experts:load", student_tasks=())
    rows = [s.config for s in stages(config, "end") if s.kind == "evaluate" and s.config.kind == "expert"]
    assert [(row.policy, row.task) for row in rows] == [("my_experts:load", task) for task in THREE]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "run --teacher nobody",
            "--teacher: 'nobody' is none of sac, scripted, shipped, shipped-or-scripted; experts of your own",
        ),
        ("online-distill toy-reach --teacher nobody", "--teacher: 'nobody' is none of"),
        ("run --teacher my:load --until experts", "--until: my:load experts are neither trained nor copied"),
        (
            "run --preset smoke --tasks toy-reach --teacher no/{task}.zip",
            "there is no expert of toy-reach at no/toy-reach.zip",
        ),
        (
            "online-distill toy-reach --teacher no/{task}.zip",
            "there is no expert of toy-reach at no/toy-reach.zip",
        ),
    ],
)
def test_a_teacher_that_is_not_there_is_said_so(line, why, tmp_path, capsys):
    assert main.dispatch([*line.split(), "--root", str(tmp_path)]) == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_the_old_name_of_the_flag_is_answered_in_files(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("experts: scripted")
    with pytest.raises(UserError, match=r"no setting 'experts': it is called teacher .* now"):
        configs.load(path, RunConfig())


def test_an_expert_is_copied_as_data_and_stays_what_it_was(tmp_path):
    shutil.copy(FOREIGN / "sac_toy-swap.zip", tmp_path / "swap.zip")
    stage = take_expert_stage(str(tmp_path / "swap.zip"), "toy-swap", 0)
    summary = execute(tmp_path, stage)
    assert summary["trained_from"] == "Stable-Baselines3 SAC"
    folder = tmp_path / stage.out
    assert {path.suffix for path in folder.iterdir() if path.is_file()} == {".json", ".safetensors"}
    one, other = load_policy(folder, task="toy-swap"), load_policy(tmp_path / "swap.zip")
    assert np.array_equal(one.eval_action(OBS), other.eval_action(OBS))
    shutil.copy(FOREIGN / "sac_toy-reach.zip", tmp_path / "swap.zip")
    with pytest.raises(UserError, match="identity"):
        execute(tmp_path, take_expert_stage(str(tmp_path / "swap.zip"), "toy-swap", 0))


OBJECT = """
import numpy as np

def load(task):
    sign = {"toy-reach": 1, "toy-mirror": -1}[task]
    return lambda obs: np.clip((obs[:, 4:] - obs[:, :2]) * [sign, 1] / 0.1, -1, 1)
"""


def test_an_object_is_recorded_and_labels(tmp_path, monkeypatch):
    (tmp_path / "toy_experts.py").write_text(OBJECT)
    monkeypatch.chdir(tmp_path)
    flags = ["--teacher", "toy_experts:load", "--run", "r", "--root", str(tmp_path), "--episodes", "5"]
    assert main.dispatch(["record", "toy-mirror", *flags]) == 0
    played = EpisodeTable.open(
        tmp_path / "r" / "recorded" / "scripted" / "toy-mirror" / "seed_0" / "episodes"
    )
    assert [(e.phase, bool(e.success.any())) for e in played] == [("expert", True)] * 5
    assert all(np.allclose(e.action, e.labels.mean, atol=1e-6) for e in played)


def test_each_task_is_labelled_by_its_own_expert(tmp_path):
    for task in THREE:
        execute(tmp_path, take_expert_stage(TEACHER, task, 0))
    found = teachers(tmp_path, THREE, TEACHER, 0)
    for task, teacher in found.items():
        labels = teacher.label(OBS, np.zeros((5, 2), np.float32))
        own = load_policy(FOREIGN / f"sac_{task}.zip")
        assert np.array_equal(labels.mean, own.eval_action(OBS))
        assert labels.unit == (1.0, 0.9)
    assert list(found) == list(THREE)


@pytest.mark.slow  # compiling takes half a minute
def test_three_experts_of_another_library_become_one_collective(tmp_path):
    """The commands of docs/own-experts.md, one at a time and with little training."""
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(sealed.to_jsonable(replace(TINY, tasks=THREE, teacher=TEACHER))))
    options = ["--run", "r", "--root", str(tmp_path), "--config", str(config)]
    assert main.dispatch(["online-distill", *THREE, *options]) == 0
    for task in THREE:
        assert main.dispatch(["split-online-buffer", task, *options]) == 0
    assert main.dispatch(["distill-collective", "--tasks", *THREE, *options]) == 0
    run = tmp_path / "r"
    buffer = EpisodeTable.open(run / "online_buffer" / "toy-swap" / "seed_0" / "train")
    expert = load_policy(FOREIGN / "sac_toy-swap.zip")
    np.testing.assert_allclose(buffer[0].labels.mean, expert.eval_action(buffer[0].obs[:-1]), atol=1e-5)
    about = json.loads((run / "model_col" / "collective.json").read_text())
    assert about["tasks"] == list(THREE)
    assert (about["sac"]["reward_scale"], about["sac"]["gamma"]) == (
        1.0,
        0.9,
    )  # values are those of the teachers
    assert load_policy(run, task="toy-swap").eval_action(OBS).shape == (5, 2)


@pytest.mark.slow  # a minute
def test_that_collective_plays_as_its_experts_do(tmp_path):
    args = ["run", "--preset", "smoke", "--tasks", *THREE, "--teacher", TEACHER, "--root", str(tmp_path)]
    assert main.dispatch([*args, "--until", "collective", "--cores", "2"]) == 0
    found = json.loads((tmp_path / "smoke" / "summary" / "collective" / "summary.json").read_text())
    assert found["mean"]["collective"]["success_any"] >= 0.9


def test_a_larger_collection_includes_the_experts_of_a_smaller():
    reach = policies.SHIPPED / "mt10" / "reach-v3"
    assert policies.shipped("mt50/reach") == policies.shipped("mt10/reach") == reach
    assert policies.collection_of("push-v3") == "mt10"
    assert policies.collection_of("toy-reach") == "mt50"
    assert policies.is_shipped("push-v3")
    assert not policies.is_shipped("toy-reach")


def test_a_later_expert_of_a_task_is_that_of_the_larger_collection_alone():
    own, smaller = (policies.shipped(f"{name}/door-open") for name in ("mt50", "mt10"))
    assert own != smaller
    assert own == policies.SHIPPED / "mt50" / "door-open-v3"
    assert policies.shipped(source_of("shipped", "door-open-v3")) == smaller
    assert policies.shipped(source_of("shipped-or-scripted", "door-open-v3")) == own


def test_without_any_expert_there_is_none_to_summarize():
    config = replace(presets.smoke(), teacher="shipped-or-scripted").resolved()
    with pytest.raises(
        ConfigError, match="until: shipped-or-scripted experts are neither trained nor copied"
    ):
        stages(config, "experts")


def test_where_no_expert_comes_with_the_package_the_script_teaches(tmp_path, monkeypatch):
    folder = policies.SHIPPED / "mt10" / "push-v3"
    monkeypatch.setattr(policies, "_shipped_experts", lambda collection: {"push-v3": folder})
    tasks = ("push-v3", "assembly-v3")
    config = replace(presets.quickstart(), tasks=tasks, teacher="shipped-or-scripted", told_nothing=False)
    every = stages(config, "collective")
    assert [stage.subject for stage in every if stage.kind == "take-expert"] == ["push-v3"]
    [online] = [stage for stage in every if stage.kind == "online-distill"]
    assert set(online.inputs) == {"model/push-v3/seed_0"}
    judged = {
        s.config.task: s.config.policy for s in every if s.kind == "evaluate" and s.config.kind == "expert"
    }
    assert judged == {"push-v3": "model/push-v3/seed_0", "assembly-v3": "scripted:assembly-v3"}
    execute(tmp_path, take_expert_stage(config.teacher, "push-v3", 0))
    found = teachers(tmp_path, tasks, config.teacher, 0)
    assert isinstance(found["push-v3"], Expert)
    assert isinstance(found["assembly-v3"], ScriptedPolicy)
