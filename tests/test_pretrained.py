"""The policies that come with the package: whole, small enough, as good as their card says, and installed."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from collectiverl import load_policy
from collectiverl.artifacts import sealed
from collectiverl.cli import main
from collectiverl.collective.policy import CollectivePolicy
from collectiverl.envs.make import spec
from collectiverl.envs.tasks import resolve
from collectiverl.evaluation.evaluate import EvaluateConfig, evaluate
from collectiverl.policies import SHIPPED
from collectiverl.sac.policy import Expert
from collectiverl.types import UserError

TASKS = resolve(["MT10"])
ROWS = {  # of the experts' evaluations, by collection and task
    (card.parent.name, row["task"]): row
    for card in sorted(SHIPPED.glob("*/experts.json"))
    for row in json.loads(card.read_text())["policies"]
}


def test_ten_experts_are_those_of_mt10():
    assert {task for collection, task in ROWS if collection == "mt10"} == set(TASKS)


@pytest.mark.parametrize(("collection", "task"), ROWS)
def test_every_expert_is_whole_and_says_what_it_was_trained_from(collection, task):
    folder = SHIPPED / collection / task
    record = sealed.verify(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert record["config"]["task"] == summary["task"] == task
    began = record["config"]["demos"] or "scratch"
    assert summary["trained_from"] == began == ROWS[collection, task]["trained_from"]
    policy = load_policy(f"{collection}/{task.removesuffix('-v3')}", task=task)
    assert isinstance(policy, Expert)
    obs = np.random.default_rng(0).normal(size=(3, 39)).astype(np.float32)
    labels = policy.label(obs, policy.eval_action(obs))
    assert labels.q is not None  # critics come along
    assert np.isfinite(labels.q).all()


@pytest.mark.parametrize("name", ["mt10", "mt50"])
def test_a_collective_is_whole_and_loaded_by_the_collections_name(name):
    policy = load_policy(name, task="push")
    assert isinstance(policy, CollectivePolicy)
    assert policy.collective.tasks == resolve([name.upper()])
    assert policy.collective.conditioning.learns  # its encoder was trained with the actor
    assert not policy.collective.goals_hidden
    assert policy.collective.spec.state_index == spec("push-v3").state_index
    obs = np.random.default_rng(0).normal(size=(3, 39)).astype(np.float32)
    assert policy.eval_action(obs).shape == (3, 4)
    card, figures = (SHIPPED / name / "collective" / file for file in ("README.md", "figures.json"))
    for one in json.loads(figures.read_text()):
        assert f"{one['mean']['collective']['success_any']:.3f}" in card.read_text()
    assert f'load_policy("{name}")' in card.read_text()  # no path of the machine that exported it


def test_the_collective_plays_look_alikes_without_being_told_which():
    """`reach` and `pick-place` begin with the same observations: only rewards and what follows tell them apart."""
    for task in ("reach-v3", "pick-place-v3"):
        result = evaluate(load_policy("mt10"), task, EvaluateConfig(goals=(0, 1, 2)))
        assert result.rate_any >= 2 / 3


def test_the_one_that_sees_no_goals_is_whole_and_asks_for_rewards():
    policy = load_policy("mt10-hidden", task="push")
    assert isinstance(policy, CollectivePolicy)
    assert policy.collective.tasks == TASKS
    assert policy.collective.goals_hidden
    obs = np.random.default_rng(0).normal(size=(2, 39)).astype(np.float32)
    policy.eval_action(obs)
    policy.observe(np.ones(2, np.float32))
    policy.eval_action(obs)
    other = load_policy("mt10-hidden")
    other.eval_action(obs)
    with pytest.warns(UserWarning, match=r"call policy\.observe\(rewards\)"):
        other.eval_action(obs)
    other.eval_action(obs)  # said once
    with pytest.raises(UserError, match="a collective only: load 'mt10-hidden'"):
        load_policy("mt10-hidden/push")


def test_without_goals_it_finds_them_by_rewards_alone():
    goals = EvaluateConfig(goals=(0, 1, 2, 3, 4, 5), goals_hidden=True)
    assert evaluate(load_policy("mt10-hidden"), "window-close-v3", goals).rate_any >= 5 / 6


def test_together_they_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 40e6


@pytest.mark.parametrize(("collection", "task"), ROWS)
def test_the_card_tells_what_was_measured(collection, task):
    row = ROWS[collection, task]
    card = (SHIPPED / collection / "README.md").read_text()
    assert f"| `{task}` | {row['trained_from']} | {row['success_any']:.3f} |" in card


def test_one_of_them_plays_as_its_card_says():
    result = evaluate(load_policy("mt10/drawer-close"), "drawer-close-v3", EvaluateConfig(goals="held-out"))
    assert result.rate_any >= ROWS["mt10", "drawer-close-v3"]["success_any"] - 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("collection", "task"), ROWS)
def test_each_of_them_plays_as_its_card_says(collection, task):
    row = ROWS[collection, task]
    result = evaluate(
        load_policy(f"{collection}/{task}"), task, EvaluateConfig(goal_seeds=row["episodes"] // 50)
    )
    assert result.rate_any == pytest.approx(row["success_any"], abs=0.02)  # rounding differs between machines


def test_a_name_that_does_not_come_with_the_package_is_refused(capsys):
    with pytest.raises(UserError, match="no task 'pusch': did you mean"):
        load_policy("mt10/pusch")
    assert main.dispatch(["evaluate", "mt11/push", "push"]) == 2
    assert "mt10/push" in capsys.readouterr().err


@pytest.mark.slow
def test_they_are_in_the_wheel(tmp_path):
    root = Path(__file__).parents[1]
    args = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", tmp_path, root]
    subprocess.run(args, check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for collection, task in ROWS:
        assert f"collectiverl/pretrained/{collection}/{task}/agent.safetensors" in names
    for collection in ("mt10", "mt10-hidden", "mt50"):
        assert f"collectiverl/pretrained/{collection}/collective/collective.safetensors" in names
