"""Probing: a deterministic movement on top of the action, where little is commanded."""

from dataclasses import replace

import equinox as eqx
import numpy as np
import pytest

from collectiverl.collective.policy import CollectivePolicy
from collectiverl.collective.probing import ProbingConfig, probe
from collectiverl.types import ConfigError
from toy_buffers import SPEC, any_collective

CONFIG = ProbingConfig(amplitude=0.4, period=8.0)
MOVING = (0, 1, 2)  # the fourth entry is a gripper


def probed(action, ages, config=CONFIG):
    ages = np.asarray(ages)
    return probe(np.tile(np.float32(action), (len(ages), 1)), ages, config, MOVING)


def test_at_rest_it_is_the_pattern_by_hand():
    turns = 2 * np.pi * np.arange(20) / 8
    pattern = 0.4 * np.stack([np.sin(turns), np.cos(turns), np.sin(turns / 2)], axis=1)
    found = probed([0.0, 0.0, 0.0, 0.7], range(20))
    np.testing.assert_allclose(found[:, :3], pattern, atol=1e-6)


def test_it_is_a_function_of_age_and_action_alone():
    one, two = probed([0.1, 0.0, 0.2, 0.0], [3, 3, 4])[:2]
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, probed([0.1, 0.0, 0.2, 0.0], [3])[0])


def test_the_gripper_is_left_alone():
    assert (probed([0.0, 0.0, 0.0, 0.7], range(20))[:, 3] == np.float32(0.7)).all()


def test_it_fades_as_the_commanded_action_grows():
    ages = range(40)

    def moved(commanded):
        action = np.float32([commanded, 0.0, 0.0, 0.0])
        return np.abs(probed(action, ages) - action).max()

    sizes = [moved(commanded) for commanded in (0.0, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(sizes, [0.4, 0.3, 0.2, 0.0], atol=1e-6)
    strong_gripper = np.float32([0.0, 0.0, 0.0, 1.0])  # which does not count as a movement
    assert np.abs(probed(strong_gripper, ages) - strong_gripper).max() == pytest.approx(0.4)


def test_actions_stay_in_their_range():
    found = probed([0.0, -0.5, 0.5, -1.0], range(40), ProbingConfig(amplitude=1.0))
    assert np.abs(found).max() <= 1


def test_without_amplitude_nothing_moves():
    action = np.float32([[0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_array_equal(probe(action, np.array([5]), ProbingConfig(), MOVING), action)


def test_a_robot_of_which_nothing_is_said_to_move_is_left_alone():
    action = np.float32([[0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_array_equal(probe(action, np.array([5]), CONFIG, ()), action)


def test_a_policy_probes_by_the_age_of_each_episode():
    """Reset one by one; what it remembers to have done is what was really done."""
    plain = any_collective("zeros")
    assert not plain.probing.amplitude
    at_rest = eqx.tree_at(
        lambda c: (c.agent.actor.mlp.layers[-1].weight, c.agent.actor.mlp.layers[-1].bias),
        replace(plain, probing=CONFIG),
        replace_fn=lambda x: 0 * x,
    )
    policy, obs = CollectivePolicy(at_rest), np.zeros((3, SPEC.obs_dim), np.float32)
    ages = np.zeros(3, int)
    for begins in ([True] * 3, [False] * 3, [False, True, False], [False] * 3, [True, False, False]):
        policy.reset(np.array(begins))
        ages = np.where(begins, 0, ages)
        action = policy.eval_action(obs)
        np.testing.assert_allclose(action, probe(0 * action, ages, CONFIG, SPEC.moving_index), atol=1e-6)
        np.testing.assert_array_equal(policy.running.action, action)
        ages += 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"amplitude": 1.5}, r"amplitude: 1\.5"), ({"period": 1.0}, r"period: 1\.0 must be at least 2")],
)
def test_nonsense_is_refused_by_name(setting, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        ProbingConfig(**setting)
