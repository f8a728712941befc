"""What is told of the episodes of a training."""

from itertools import islice

import numpy as np
import pytest

from collectiverl.envs.concat import Concatenated
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import RandomPolicy, steps
from collectiverl.envs.toy import HORIZON
from collectiverl.sac.sampling import EpisodeSampler
from collectiverl.sac.settings import SamplingConfig

EXPERTS, ENVS = 2, 4


def played(count):
    """A sampler that took so many steps, and the rewards of these steps."""
    envs = make_envs("toy-reach", ENVS, goals="fresh")
    sampler = EpisodeSampler(envs, EXPERTS, SamplingConfig(period=10**6, warmup=10**6, episodes=0), seed=0)
    rewards, taken = [], []
    for step in islice(steps(envs, RandomPolicy(2, seed=0), seed=0), count):
        sampler.add(step, 0, finished=False)
        if not step.result.began.any():
            rewards.append(step.result.reward)
        taken.append(sampler.take_returns())
    return np.array(rewards), taken


def test_a_return_is_told_when_its_episode_is_whole():
    rewards, taken = played(3 * HORIZON + 5)
    told = [values["train/return"] for values in taken if values]
    assert len(told) == len(rewards) // HORIZON  # of the one that runs, nothing is told
    assert not any(taken[: HORIZON - 1])
    for i, returns in enumerate(told):
        whole = rewards[i * HORIZON : (i + 1) * HORIZON].sum(0)
        assert returns == pytest.approx(whole.reshape(EXPERTS, -1).mean(1), rel=1e-5)


def test_episodes_that_end_between_two_looks_are_averaged_and_told_once():
    envs = make_envs("toy-reach", ENVS, goals="fresh")
    sampler = EpisodeSampler(envs, 1, SamplingConfig(period=10**6, warmup=10**6, episodes=0), seed=0)
    for step in islice(steps(envs, RandomPolicy(2, seed=0), seed=0), 2 * HORIZON + 1):
        sampler.add(step, 0, finished=False)
    rewards, _ = played(2 * HORIZON + 1)
    assert sampler.take_returns()["train/return"] == pytest.approx(rewards.sum(0).mean() / 2, rel=1e-5)
    assert sampler.take_returns() == {}


def test_of_an_expert_of_two_tasks_the_episodes_of_its_own_are_sampled():
    envs = Concatenated([make_envs(task, 2, goals="fresh") for task in ("toy-swap", "toy-reach")])
    sampler = EpisodeSampler(envs, 1, SamplingConfig(period=1, warmup=0, episodes=2), seed=0)
    for step in islice(steps(envs, RandomPolicy(2, seed=0), seed=0), 3 * HORIZON + 3):
        sampler.add(step, 0, finished=False)
    assert [episode.task for episode in sampler.experts[0].sampled] == ["toy-swap"] * 2
    sampler = EpisodeSampler(envs, 1, SamplingConfig(period=10**6, warmup=10**6, episodes=4), seed=0)
    for step in islice(steps(envs, RandomPolicy(2, seed=0), seed=0), HORIZON + 1):
        sampler.add(step, 0, finished=True)
    assert len(sampler.experts[0].sampled) == 2  # its own task's environments play no more in one round
    sampler = EpisodeSampler(envs, 2, SamplingConfig(period=1, warmup=0, episodes=2), seed=0)
    for step in islice(steps(envs, RandomPolicy(2, seed=0), seed=0), 3 * HORIZON + 3):
        sampler.add(step, 0, finished=False)
    assert {e.task for e in sampler.experts[1].sampled} == {"toy-reach"}


def test_what_is_sampled_of_an_expert_of_two_tasks_are_the_last_of_its_episodes():
    """Of three rounds four are kept, of which the two of the last round are sampled."""
    envs = Concatenated([make_envs(task, 2, goals="fresh") for task in ("toy-swap", "toy-reach")])
    sampler = EpisodeSampler(envs, 1, SamplingConfig(period=10**6, warmup=10**6, episodes=4), seed=0)
    last = list(islice(steps(envs, RandomPolicy(2, seed=0), seed=0), 3 * HORIZON + 2))
    for i, step in enumerate(last, start=1):
        sampler.add(step, 0, finished=i == len(last))
    ends = np.stack([e.obs[-1] for e in sampler.experts[0].sampled])
    np.testing.assert_array_equal(ends, last[-1].result.obs[:2])
