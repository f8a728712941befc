"""Reward shaping: the likelihood, its schedule, and that without weight it is plain SAC."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.collective.policy import Collective
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.rollout import RandomPolicy, steps
from collectiverl.sac.agent import SACConfig, init_agent
from collectiverl.student.shaping import LikelihoodShaping, ShapingConfig, likelihood, scheduled_weight
from training import TRAIN, same, trainer

TASKS = ("toy-reach", "toy-mirror")
SPEC = spec("toy-reach")


@pytest.fixture(scope="module")
def collective():
    """Fresh networks told the task: what they do is arbitrary, and enough."""
    config = SACConfig(width=16, log_std_min=-5.0, log_std_max=2.0)
    agent = init_agent(len(TASKS) + SPEC.state_dim, SPEC.action_dim, config, jax.random.key(0))
    return Collective(
        agent=agent,
        encoder=None,
        clusters=None,
        conditioning="task_id",
        tasks=TASKS,
        state_index=SPEC.state_index,
    )


def shaping(collective, **kwargs):
    return LikelihoodShaping(collective, ("toy-reach",) * TRAIN.num_envs, ShapingConfig(**kwargs))


def test_the_likelihood_is_one_at_the_mean_and_falls_from_there():
    mean, std = jnp.array([0.3, -0.5]), jnp.array([0.2, 0.5])
    assert likelihood(mean, mean, std) == 1
    away = likelihood(mean + std, mean, std)
    assert away == pytest.approx(np.exp(-0.5 * 2))
    assert 0 < likelihood(jnp.array([-1.0, 1.0]), mean, std) < away


@pytest.mark.parametrize(
    ("env_steps", "weight"), [(0, 5.0), (100, 5.0), (150, 2.5), (190, 0.5), (200, 0.0), (10_000, 0.0)]
)
def test_the_weight_is_constant_and_then_falls_to_nothing(env_steps, weight):
    config = ShapingConfig(weight=5.0, constant_steps=100, decay_steps=100)
    assert scheduled_weight(config, env_steps) == pytest.approx(weight)


def test_without_decay_the_weight_falls_at_once():
    config = ShapingConfig(weight=5.0, constant_steps=100, decay_steps=0)
    assert [scheduled_weight(config, at) for at in (0, 99, 100)] == [5.0, 5.0, 0.0]


@pytest.mark.parametrize("floor", [0.01, 3.0])
def test_the_bonus_is_the_collectives_likelihood_of_each_action(collective, floor):
    judge = shaping(collective, sigma_floor=floor)
    judge.reset(np.ones(TRAIN.num_envs, bool))
    envs = make_envs("toy-reach", TRAIN.num_envs, goals="fresh")
    for _, step in zip(range(3), steps(envs, RandomPolicy(2, 0), 0), strict=False):
        bonus = judge.bonus(step)
        assert bonus.shape == (TRAIN.num_envs,)
        assert np.all((bonus > 0) & (bonus <= 1))
        for i in range(TRAIN.num_envs):
            seen = np.concatenate([[1, 0], step.obs[i, list(SPEC.state_index)]]).astype(np.float32)
            gaussian = collective.agent.policy(jnp.asarray(seen))
            std = np.maximum(np.exp(gaussian.log_std), floor)
            by_hand = np.exp(-0.5 * np.sum(((step.action[i] - np.tanh(gaussian.mean)) / std) ** 2))
            assert bonus[i] == pytest.approx(by_hand, rel=1e-4, abs=1e-7)


def run(shaping=None, **changes):
    one = trainer(replace(TRAIN, **changes), shaping=shaping)
    return one.run()[0], one


def check_that_no_weight_is_plain_sac(collective, **changes):
    plain, one = run(**changes)
    shaped, two = run(shaping(collective, weight=0.0), **changes)
    assert one.state.updates == two.state.updates
    assert same(one.state, two.state)
    assert same(plain.agent, shaped.agent)
    assert two.replay.data.bonus.any()  # it was judged, and did not count
    return int(two.state.updates[0])


def test_without_weight_it_is_plain_sac_bit_for_bit(collective):
    assert check_that_no_weight_is_plain_sac(collective) > 300


@pytest.mark.slow
def test_without_weight_it_is_plain_sac_bit_for_bit_after_two_thousand_updates(collective):
    assert check_that_no_weight_is_plain_sac(collective, steps=4_200) >= 2_000


def test_with_weight_it_is_not(collective):
    (_, one), (_, two) = run(steps=200), run(shaping(collective, weight=5.0), steps=200)
    assert not same(one.state.agent, two.state.agent)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"weight": -1.0}, r"shaping\.weight=-1\.0"),
        ({"decay_steps": -1}, r"shaping\.decay-steps=-1"),
        ({"sigma_floor": 0.0}, r"shaping\.sigma-floor=0\.0 must be positive"),
    ],
)
def test_nonsense_is_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=message):
        ShapingConfig(**setting)
