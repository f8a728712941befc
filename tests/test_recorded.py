"""Recorded episodes as a dataset of Minari, read back by Minari."""

import importlib
import shutil
import sys

import minari
import numpy as np
import pytest
from minari.dataset.minari_dataset import parse_dataset_id

from collectiverl.artifacts.extras import extra
from collectiverl.cli import main
from collectiverl.data.episodes import EpisodeTable
from collectiverl.exchange.recorded import dataset_id, player
from collectiverl.types import UserError

NAME = "collectiverl/toy-reach/mixed-seed0-v0"


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """A function that records with more flags; Minari's datasets lie in a folder of the test."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    flags = [
        "record",
        "toy-reach",
        "--policy",
        "mixed",
        "--episodes",
        "4",
        "--run",
        "r",
        "--root",
        str(tmp_path),
    ]
    return lambda *more: main.dispatch([*flags, *more])


def test_minari_reads_what_was_recorded(recording, tmp_path, capsys):
    assert recording("--to", "minari") == 0
    assert f'minari.load_dataset("{NAME}")' in "".join(capsys.readouterr().out.split("\n"))
    table = EpisodeTable.open(tmp_path / "r/recorded/mixed/toy-reach/seed_0/episodes")
    dataset = minari.load_dataset(NAME)
    assert dataset.total_episodes == len(table) == 4
    assert dataset.total_steps == table.length.sum()
    for one, other in zip(dataset.iterate_episodes(), table, strict=True):
        assert one.observations.shape == (len(other) + 1, 6)
        np.testing.assert_array_equal(one.observations, other.obs)
        np.testing.assert_array_equal(one.actions, other.action)
        np.testing.assert_array_equal(one.rewards, other.reward)
        np.testing.assert_array_equal(one.infos["success"], [False, *other.success])
        assert one.truncations.tolist() == [False] * (len(other) - 1) + [not other.terminated]
        assert one.terminations.tolist() == [False] * (len(other) - 1) + [other.terminated]
        assert dataset.action_space.contains(one.actions[0])
        assert dataset.observation_space.contains(one.observations[0])


def test_a_dataset_is_not_replaced_unasked_which_is_said_before_the_work(recording, tmp_path, capsys):
    assert recording("--to", "minari") == 0
    assert minari.load_dataset(NAME).storage.metadata["algorithm_name"] == "mixed"
    shutil.rmtree(tmp_path / "r")
    assert recording("--to", "minari") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    assert recording("--to", "minari", "--overwrite") == 0


@pytest.mark.parametrize(
    ("task", "policy", "teacher", "name"),
    [
        ("pkg.my_tasks:Door", "scripted", "scripted", "collectiverl/pkg_my_tasks_Door/scripted-seed0-v0"),
        ("push-v3", "scripted", "mt10/push", "collectiverl/push-v3/mt10_push-seed0-v0"),
        ("push-v3", "mixed-skill", "mt10/push", "collectiverl/push-v3/mixed-skill-mt10_push-seed0-v0"),
        ("push-v3", "scripted", "./experts/{task}.zip", "collectiverl/push-v3/experts_task_zip-seed0-v0"),
        ("push-v3", "random", "mt10/push", "collectiverl/push-v3/random-seed0-v0"),
    ],
)
def test_minari_takes_the_names_of_all_tasks_and_teachers(task, policy, teacher, name):
    assert dataset_id(task, player(policy, teacher), 0) == name
    assert parse_dataset_id(name)[2] == 0


def test_without_the_flag_nothing_is_written_there(recording, tmp_path):
    assert recording() == 0
    assert not (tmp_path / "datasets" / "collectiverl").exists()


def test_an_extra_that_is_missing_is_named_before_the_work(recording, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "minari", None)
    assert recording("--to", "minari") == 2
    assert "pip install 'collectiverl[minari]'" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_what_an_extra_itself_lacks_is_not_taken_for_the_extra(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import something_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError, match="something_that_is_missing"):
        extra("broken_extra", "any")
    with pytest.raises(UserError, match=r"no_such_extra is not installed: pip install 'collectiverl\[any\]'"):
        extra("no_such_extra.part", "any")
