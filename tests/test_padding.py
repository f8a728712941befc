"""Batches that are filled up: few sizes, and rows that nobody sees."""

import numpy as np
import pytest

from collectiverl.nn import padding
from collectiverl.sac.policy import AgentPolicy
from training import OBS, fresh


@pytest.mark.parametrize(("count", "size"), [(0, 16), (1, 16), (16, 16), (17, 32), (100, 112)])
def test_sizes_are_multiples(count, size):
    assert padding.filled(count) == size


@pytest.mark.parametrize("axis", [0, 1])
def test_outputs_have_the_rows_that_were_given(axis):
    x = np.arange(10, dtype=np.float32).reshape((5, 2) if axis == 0 else (2, 5))
    sizes = []

    def double(module, array):
        sizes.append(array.shape[axis])
        return {"twice": module * array}

    found = padding.call(double, 2, x, axis=axis)["twice"]
    np.testing.assert_array_equal(found, 2 * x)
    assert sizes == [16]


def test_an_agent_acts_alike_however_many_environments_there_are():
    obs = np.random.default_rng(0).normal(size=(11, OBS)).astype(np.float32)
    policy = AgentPolicy(fresh().agent)
    together = policy.eval_action(obs)
    for i, row in enumerate(obs):
        np.testing.assert_array_equal(policy.eval_action(row[None])[0], together[i])
