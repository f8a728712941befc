"""Policies of the user's are judged like those of the package, and what is written about them has one form."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from collectiverl.cli import main
from collectiverl.evaluation.metalearning import Counted, MetaConfig, MetaEvaluation, meta_report
from collectiverl.pipeline import executor
from collectiverl.policies import load_policy, meta_player, told_tasks
from collectiverl.types import UserError

MODULE = """
import numpy as np

class Waits:
    '''Meta-World's Agent: it does nothing in the first steps of an episode, then goes straight to the goal.'''
    def __init__(self, task):
        self.sign = -1 if task == "toy-mirror" else 1
    def reset(self, env_mask):
        self.age = np.where(env_mask, 0, getattr(self, "age", 0))
    def eval_action(self, observations):
        action = np.clip((observations[:, 4:] - observations[:, :2]) * [self.sign, 1] / 0.1, -1, 1)
        action[self.age < 2] = 0
        self.age = self.age + 1
        return action

make = Waits
"""


@pytest.fixture
def my_policy(tmp_path, monkeypatch):
    (tmp_path / "waiting_policy.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(executor, "use_threads", lambda count: None)
    return "waiting_policy:make"


def test_an_agent_is_evaluated_and_its_file_says_what_happened_at_each_goal(my_policy, tmp_path):
    line = ["evaluate", my_policy, "toy-reach", "toy-mirror", "--goals", "0", "1", "7", "--num-envs", "2"]
    assert main.dispatch([*line, "--json", "found.json"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"schema", "policy", "protocol", "policies", "mean", "made", "versions"} <= found.keys()
    assert (found["schema"], found["policy"]) == (1, my_policy)
    assert found["protocol"]["goals"] == [0, 1, 7]
    assert found["mean"]["success_any"] == found["mean"]["success_last"] == 1
    for row, task in zip(found["policies"], ("toy-reach", "toy-mirror"), strict=True):
        assert (row["task"], row["episodes"], row["goals"]) == (task, 3, "visible")
        assert row["interval"][0] < row["success_any"] == 1
        assert [one["goal"] for one in row["each_goal"]] == [0, 1, 7]
        assert all(one["success_any"] and one["success_last"] for one in row["each_goal"])
        assert np.mean([one["return"] for one in row["each_goal"]]) == pytest.approx(row["return"], abs=0.01)
        assert max(one["first_success"] for one in row["each_goal"]) > 2  # it waited


def test_without_tasks_it_is_asked_for_them(my_policy, capsys):
    assert told_tasks(my_policy) == ()
    assert main.dispatch(["evaluate", my_policy]) == 2
    assert "name the tasks to play" in capsys.readouterr().err
    with pytest.raises(UserError, match="makes a policy for a task: say which one"):
        load_policy(my_policy)


def test_an_agent_of_the_users_adapts_and_its_rollouts_are_counted():
    seen, told = [], []
    names = ("eval_action", "reset", "init", "adapt_action", "adapt")
    agent = SimpleNamespace(**dict.fromkeys(names, lambda: "called"), step=seen.append)
    counted = Counted(agent, told.append)
    assert counted.adapt() == "called"
    over = SimpleNamespace(terminated=np.array([True, False, False]), truncated=np.array([True, False, True]))
    counted.step(over)
    assert (seen, told) == ([over], [2])


def test_an_agent_that_cannot_adapt_is_said_so(my_policy):
    made = meta_player(my_policy, "ML10")
    with pytest.raises(
        UserError, match="Waits is no MetaLearningAgent: it has no init, adapt_action, step, adapt"
    ):
        Counted(made, lambda count: None)


def test_the_protocol_of_meta_learning_writes_the_same_form():
    found = [MetaEvaluation("test", 2, {"push-v3": 0.5}, 10.0)]
    told = meta_report("mine", MetaConfig(rounds=2, evaluation_episodes=2), found)
    [row] = told["policies"]
    assert told["schema"] == 1
    assert (row["task"], row["success_any"], row["success_last"], row["episodes"]) == (
        "push-v3",
        0.5,
        None,
        4,
    )
    assert row["interval"][0] < 0.5 < row["interval"][1]
