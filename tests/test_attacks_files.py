"""The attack on files: hostile ones in a run that was not trained; a package that finds nothing would fail it."""

import random
import shutil
from pathlib import Path

import pytest
from attacks import files, lives
from attacks.hostile import EPISODES, HOSTILE, expert, harmed_episodes

import drawn
from collectiverl.artifacts import sealed
from collectiverl.artifacts.checkpoints import checkpoint
from collectiverl.data.episodes import EpisodeTable, write
from collectiverl.pipeline.config import claim
from collectiverl.sac.agent import SACConfig, init_agent
from collectiverl.sac.policy import save_agent
from collectiverl.stages.base import Stage, execute
from collectiverl.types import UserError
from test_episodes import some_episodes

NETWORKS = SACConfig(width=8, depth=1)


def trained(work):
    """An expert that did not learn, and its episodes."""
    save_agent(work.folder, drawn.module(init_agent, 6, 2, NETWORKS), NETWORKS, task="toy-reach")
    write(work.folder / "episodes", some_episodes(3))
    (work.folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    return {"task": "toy-reach", "success": 0.5}


STAGE = Stage(kind="train-task", subject="", out="model/toy-reach/seed_0", function=trained, config={})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root") / "run"
    folder.mkdir()
    claim(folder, lives.settings())
    execute(folder, STAGE)
    work = folder / files.INTERRUPTED
    work.mkdir()
    for _ in range(2):
        with checkpoint(work) as new:
            shutil.copy(expert(folder) / "agent.safetensors", new)
    return files.Run(folder, lives.settings(), [STAGE])


def test_the_run_is_whole(run):
    run.look()
    assert files.answer(run.look) == "nothing was found"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_message(run, tmp_path, name):
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    assert files.answer(HOSTILE[name](folder)) == ""


@pytest.mark.parametrize("name", EPISODES)
def test_hostile_episodes_are_refused_in_one_message(run, tmp_path, name):
    [shard] = run.folder.glob("model/**/episodes-*.h5")
    harmed_episodes(name, shard, tmp_path)
    assert files.answer(lambda: EpisodeTable.open(tmp_path)) == ""


def test_damages_are_found_and_leave_the_run_as_it_was(run):
    rows = files.damages(run, 40)
    assert {row.name for row in rows} >= {
        *("damaged files: agent.json", "damaged files: .h5", "damaged files: config.yaml"),
        *("damaged files: .jsonl", "damaged files: manifest.json", "damaged files: of checkpoints: .json"),
    }
    assert [row.failures for row in rows] == [()] * len(rows)
    run.look()


def test_what_is_not_found_fails(run, monkeypatch):
    monkeypatch.setattr(files.Run, "look", lambda run: None)
    monkeypatch.setattr(files, "by_verify", lambda run, path: None)
    monkeypatch.setattr(files, "by_user", lambda run, path: None)
    path = expert(run.folder) / "agent.json"
    assert "nothing was found" in files._damage(run, path, random.Random(0))
    sealed.verify(path.parent)


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (UserError("damaged"), ""),
        (UserError(""), "took"),
        (KeyError("a"), "KeyError"),
        (MemoryError(), "Memory"),
    ],
)
def test_an_answer_is_one_message(error, why):
    found = files.answer(raising(error))
    assert found.startswith(why) if why else not found
