"""Stages by themselves: what stands in for an expert's training, and where things are called what."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from collectiverl.artifacts.contents import hashes
from collectiverl.artifacts.manifests import write_manifest
from collectiverl.cli import main
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.tasks import resolve
from collectiverl.policies import load_policy
from collectiverl.stages.base import execute, wall_seconds
from collectiverl.stages.online import LONGEST, online_path
from collectiverl.stages.recording import Record, record_stage
from collectiverl.stages.taking import take_expert_stage


def test_mixed_skill_goes_from_random_to_scripted(tmp_path):
    flags = ["--root", str(tmp_path), "--run", "r", "--episodes", "40", "--num-envs", "20"]
    assert main.dispatch(["record", "toy-reach", "--policy", "mixed-skill", *flags]) == 0
    table = EpisodeTable.open(
        tmp_path / "r" / "recorded" / "mixed-skill" / "toy-reach" / "seed_0" / "episodes"
    )
    assert len(table) == 40
    share = [
        np.isclose(e.action, e.labels.mean, atol=1e-6).all(1).mean() for e in table
    ]  # of the teacher's actions
    by_env = np.reshape(share, (2, 20)).mean(0)
    assert by_env[-1] == 1
    assert by_env[0] < 0.1
    assert np.corrcoef(by_env, np.arange(20))[0, 1] > 0.8


def test_a_shipped_expert_is_taken_as_it_is_and_can_be_recorded(tmp_path):
    stage = take_expert_stage("shipped", "reach-v3", 0)
    assert execute(tmp_path, stage)["taken_from"] == "mt10/reach-v3"
    obs = np.random.default_rng(0).normal(size=(4, 39)).astype(np.float32)
    mine, theirs = load_policy(tmp_path / stage.out), load_policy("mt10/reach")
    assert np.array_equal(mine.eval_action(obs), theirs.eval_action(obs))
    record = Record(
        task="reach-v3",
        policy="mixed-skill",
        teacher="shipped",
        episodes=2,
        num_envs=2,
        horizon=20,
        backend="metaworld",
    )
    recording = record_stage(record, 0)
    assert execute(tmp_path, recording)["episodes"] == 2
    [first, _] = EpisodeTable.open(tmp_path / recording.out / "episodes")
    np.testing.assert_allclose(first.labels.mean, theirs.eval_action(first.obs[:-1]), atol=1e-6)


def test_a_task_that_does_not_come_with_the_package_is_said_so(tmp_path, capsys):
    flags = [
        "--root",
        str(tmp_path),
        "--preset",
        "smoke",
        "--teacher",
        "shipped",
        "--cores",
        "1",
    ]  # one fails first
    assert main.dispatch(["run", *flags]) == 2
    assert "mt50 comes with no toy-reach" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["MT10", "MT25", "MT50"])
def test_a_benchmark_has_its_name_as_a_folder(name):
    assert online_path(resolve([name]), 3) == f"online_distill/{name}/seed_3"


def test_many_tasks_have_a_short_name_of_their_own():
    some, others = resolve(["MT50"])[:30], resolve(["MT50"])[1:31]
    assert online_path(("reach-v3", "push-v3"), 0) == "online_distill/reach-v3+push-v3/seed_0"
    assert len(online_path(some, 0)) < LONGEST + len("online_distill//seed_0")
    assert online_path(some, 0) != online_path(others, 0)
    assert online_path(some, 0) != online_path(some[::-1], 0)


def test_summary_is_json(tmp_path):
    flags = ["--root", str(tmp_path), "--run", "r", "--episodes", "4"]
    assert main.dispatch(["record", "toy-swap", *flags]) == 0
    folder = tmp_path / "r" / "recorded" / "scripted" / "toy-swap" / "seed_0"
    assert json.loads((folder / "summary.json").read_text())["success"] == 1


def test_stages_side_by_side_count_once_by_the_clock(tmp_path):
    """Two overlap, the third comes a minute later."""
    for name, began, took in (("a", 0, 10), ("b", 5, 20), ("inside", 6, 2), ("later", 85, 7)):
        ended = datetime.fromtimestamp(1_800_000_000 + began + took, UTC)
        record = {
            "stage": "s",
            "seconds": float(took),
            "created": f"{ended:%FT%TZ}",
            "config": {},
            "inputs": {},
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text("{}")
        write_manifest(
            tmp_path / name, record | {"seed": 0, "versions": {}}, hashes(tmp_path / name, ["summary.json"])
        )
    assert wall_seconds(tmp_path / name for name in ("later", "b", "inside", "a")) == 25 + 7
    assert wall_seconds([tmp_path / "a"]) == 10
    assert wall_seconds([]) == 0
