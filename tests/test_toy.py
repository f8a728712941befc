"""The toy task: laws of its motion, reward and optimum."""

import numpy as np
import pytest

from collectiverl.envs.goals import NUM_GOALS
from collectiverl.envs.make import goals
from collectiverl.envs.toy import HORIZON, MATRICES, MAX_REWARD, STEP, TASKS, ToyVectorEnv, optimal_action


def play(envs, policy, steps=HORIZON, seed=0):
    obs, results = envs.reset(seed), []
    for _ in range(steps):
        results.append(envs.step(policy(obs)))
        obs = results[-1].obs
    return results


@pytest.mark.parametrize("task", TASKS)
def test_a_step_moves_by_the_tasks_own_matrix(task):
    envs = ToyVectorEnv(task, 1)
    before = envs.reset(0)[0]
    action = np.array([0.3, -0.7])
    after = envs.step(action[None]).obs[0]
    assert after[:2] == pytest.approx(np.clip(before[:2] + STEP * MATRICES[task] @ action, -1, 1), abs=1e-6)
    assert np.array_equal(after[2:4], before[:2])
    assert np.array_equal(after[4:], before[4:])


@pytest.mark.parametrize("task", TASKS)
def test_the_optimal_policy_solves_every_goal_before_the_time_limit(task):
    envs = ToyVectorEnv(task, NUM_GOALS, order="sequential")
    last = play(envs, lambda obs: optimal_action(task, obs), HORIZON - 5)[-1]
    assert last.success.all()
    assert last.reward == pytest.approx(np.full(NUM_GOALS, MAX_REWARD), abs=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_no_action_beats_the_optimal_one(task):
    rng = np.random.default_rng(0)
    for seed in range(20):
        envs = ToyVectorEnv(task, 64, goals=[seed], order="sequential")
        obs = envs.reset(0)
        actions = rng.uniform(-1, 1, (64, 2))
        actions[0] = optimal_action(task, obs[0])
        assert envs.step(actions).reward.argmax() == 0


def test_another_variants_optimum_is_no_optimum():
    envs = ToyVectorEnv("toy-mirror", NUM_GOALS, order="sequential")
    results = play(envs, lambda obs: optimal_action("toy-reach", obs))
    assert np.mean([result.success for result in results]) < 0.5


def test_actions_beyond_the_action_space_are_clipped():
    one, two = ToyVectorEnv("toy-reach", 1), ToyVectorEnv("toy-reach", 1)
    one.reset(0), two.reset(0)
    assert np.array_equal(one.step(np.full((1, 2), 9.0)).obs, two.step(np.ones((1, 2))).obs)


@pytest.mark.parametrize("task", TASKS)
def test_the_first_observation_shows_start_and_goal_and_nothing_of_the_task(task):
    envs = ToyVectorEnv(task, NUM_GOALS, order="sequential")
    obs = envs.reset(0)
    assert obs[:, [0, 1, 4, 5]] == pytest.approx(goals(task), abs=1e-6)
    assert np.array_equal(obs[:, :2], obs[:, 2:4])
    assert np.array_equal(envs.goals(), np.arange(NUM_GOALS))
