"""What summaries say of a training: success on goals that chose nothing, and all steps that were played for it."""

import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collectiverl.artifacts.metrics import read_metrics
from collectiverl.artifacts.paths import EPISODES
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.sac.evaluation import AFTERWARDS, Evaluation, Evaluator
from collectiverl.stages.base import execute
from collectiverl.stages.experts import TrainTask, _side_by_side, demonstrations, train_task_stage
from collectiverl.stages.recording import Record, record_stage
from collectiverl.types import ConfigError
from training import TRAIN

ROOT = Path(__file__).parents[1]
SHORT = replace(TRAIN, steps=200, stop_success=0.5, stop_evaluations=1)


@pytest.fixture
def lucky(monkeypatch):
    """Evaluations in training always succeed; one afterwards does in a quarter of the episodes."""

    def play(self, agents, env_steps, stream=2):
        return Evaluation(np.full(1, 0.25 if stream == AFTERWARDS else 1.0), np.zeros(1), self.episodes)

    monkeypatch.setattr(Evaluator, "play", play)


def test_what_stopped_a_training_is_not_its_success(lucky, tmp_path):
    found = execute(tmp_path, train_task_stage(TrainTask(task="toy-reach", train=SHORT, demos=""), 0))
    assert found["success"] == 0.25
    assert found["solved_at"] == 100


def test_demonstrations_count_as_steps(lucky, tmp_path):
    stage = train_task_stage(TrainTask(task="toy-reach", train=SHORT, demos="scripted:3"), 0)
    found = execute(tmp_path, stage)
    assert found["played_before"] == 3 * 25
    assert found["solved_at"] == 100 + 75
    [first, *_] = read_metrics(tmp_path / stage.out)
    assert first["step"] == 100
    assert found["env_steps"] >= 100 + 75


def test_an_expert_of_two_tasks_has_the_demonstrations_of_both_and_leaves_episodes_of_its_own(tmp_path):
    train = replace(SHORT, steps=400, sampling=replace(SHORT.sampling, period=50, warmup=0, episodes=1))
    both = TrainTask(task="toy-reach", also=("toy-swap",), train=train, demos="scripted:3")
    stage = train_task_stage(both, 0)
    found = execute(tmp_path, stage)
    assert found["played_before"] == 2 * 3 * 25
    left = EpisodeTable.open(tmp_path / stage.out / EPISODES)
    assert {episode.task for episode in left} == {"toy-reach"}


def test_demonstrations_are_imitated_if_that_is_asked_for(tmp_path):
    """And resumed: what nobody advises is stored as nan."""
    train = replace(SHORT, steps=300, stop_evaluations=0, demo_imitation=1.0)
    kept = {}
    for name, weight in (("not", None), ("imitated", 1.0)):
        config = TrainTask(task="toy-reach", train=replace(train, demo_imitation=weight), demos="scripted:3")
        execute(tmp_path / name, stage := train_task_stage(config, 0))
        kept[name] = ["actor/advice_kept" in row for row in read_metrics(tmp_path / name / stage.out)]
    assert not any(kept["not"])
    assert all(kept["imitated"])
    alone = train_task_stage(TrainTask(task="toy-reach", train=train, demos=""), 0)
    execute(tmp_path / "alone", alone)
    assert not any("actor/advice_kept" in row for row in read_metrics(tmp_path / "alone" / alone.out))


def test_look_alikes_are_demonstrated_by_one_script():
    played = demonstrations(
        TrainTask(task="toy-reach", also=("toy-swap",), train=SHORT, demos="scripted:3"), 0
    )
    assert Counter(episode.task for episode in played) == {"toy-reach": 3, "toy-swap": 3}
    script = ScriptedPolicy(("toy-reach",))
    for e in played:
        assert np.array_equal(e.action, np.concatenate([script.eval_action(obs[None]) for obs in e.obs[:-1]]))


@pytest.mark.parametrize("also", [("toy-reach",), ("toy-swap", "toy-swap")])
def test_no_expert_learns_a_task_twice(also):
    with pytest.raises(ConfigError, match="names a task twice"):
        TrainTask(task="toy-reach", also=also)


@pytest.mark.parametrize(("count", "shares"), [(8, [3, 3, 2]), (1, [1, 1, 1])])
def test_environments_are_shared_out_evenly(count, shares):
    group = ("toy-reach", "toy-swap", "toy-turn")
    envs = _side_by_side([group, ("toy-mirror",)], "auto", count)
    assert [envs.tasks.count(task) for task in (*group, "toy-mirror")] == [*shares, count]


def test_recorded_episodes_count_as_steps(tmp_path):
    assert execute(tmp_path, record_stage(Record(task="toy-reach", episodes=4), 0))["env_steps"] == 4 * 25


def test_returns_are_called_what_they_are(lucky, tmp_path):
    stage = train_task_stage(TrainTask(task="toy-reach", train=SHORT, demos=""), 0)
    execute(tmp_path, stage)
    assert "eval/return_to_success" in read_metrics(tmp_path / stage.out)[0]


def test_the_quickstart_writes_nothing_that_git_tracks():
    """Its make target installs and runs; what both write is ignored."""
    written = ["runs/quickstart/config.yaml", ".venv/bin/python", "src/collectiverl.egg-info/PKG-INFO"]
    written.append("src/collectiverl/__pycache__/types.pyc")
    done = subprocess.run(["git", "-C", ROOT, "check-ignore", *written], capture_output=True, text=True)
    assert done.stdout.split() == written
