"""Scripted policies."""

import warnings

import numpy as np
import pytest

from collectiverl.envs.make import make_envs
from collectiverl.envs.scripted import SIGMA, ScriptedPolicy
from collectiverl.types import Policy


def test_a_scripted_policy_is_a_policy():
    assert isinstance(ScriptedPolicy(["toy-reach"]), Policy)


def test_each_environment_is_played_by_its_own_tasks_script():
    obs = np.array([[0, 0, 0, 0, 0.1, 0.05]] * 2, np.float32)
    actions = ScriptedPolicy(["toy-reach", "toy-swap"]).eval_action(obs)
    assert actions == pytest.approx(np.array([[1, 0.5], [0.5, 1]]))


def test_a_label_is_the_action_with_a_constant_spread_and_no_q():
    policy = ScriptedPolicy(["toy-turn"])
    obs = np.random.default_rng(0).uniform(-1, 1, (7, 6)).astype(np.float32)
    labels = policy.label(obs, np.zeros((7, 2)))
    assert np.array_equal(labels.mean, np.concatenate([policy.eval_action(one[None]) for one in obs]))
    assert np.allclose(labels.log_std, np.log(SIGMA))
    assert labels.q is None


def test_scripts_stay_in_the_action_space_and_do_not_warn():
    far = np.full((1, 39), 3.0, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        action = ScriptedPolicy(["reach-v3"]).eval_action(far)
    assert action.dtype == np.float32
    assert np.abs(action).max() <= 1


def test_the_script_solves_its_task():
    envs = make_envs("drawer-close-v3", 1, goals=[0])
    obs, policy, success = envs.reset(0), ScriptedPolicy(envs.tasks), False
    for _ in range(150):
        result = envs.step(policy.eval_action(obs))
        obs, success = result.obs, success or result.success.all()
    envs.close()
    assert success
