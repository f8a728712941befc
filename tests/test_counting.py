"""What summaries say of a training: success on goals that chose nothing, and all steps that were played for it."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collectiverl.artifacts.metrics import read_metrics
from collectiverl.sac.evaluation import AFTERWARDS, Evaluation, Evaluator
from collectiverl.stages.base import execute
from collectiverl.stages.experts import TrainTask, train_task_stage
from collectiverl.stages.recording import Record, record_stage
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
