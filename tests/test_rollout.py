"""The one episode loop: episodes are whole, and policies are told what they need."""

import numpy as np
import pytest

from collectiverl.envs import rollout
from collectiverl.envs.concat import Concatenated
from collectiverl.envs.core import leave
from collectiverl.envs.make import goals, make_envs
from collectiverl.envs.rollout import (
    EpisodeCollector,
    NoisyPolicy,
    RandomPolicy,
    episodes,
    first_success,
    last_success,
    steps,
)
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.toy import HORIZON, optimal_action


class Diary(RandomPolicy):
    """Acts at random and notes what it is told."""

    def __init__(self):
        super().__init__(2, 0)
        self.told = []

    def eval_action(self, observations):
        self.told.append(("act", observations.copy()))
        return super().eval_action(observations)

    def reset(self, env_mask):
        self.told.append(("reset", env_mask.copy()))

    def observe(self, rewards):
        self.told.append(("observe", rewards.copy()))


def collected(num_envs=3, per_env=2, seed=0, **kwargs):
    envs = make_envs("toy-turn", num_envs, **kwargs)
    return list(episodes(envs, RandomPolicy(2, seed), per_env=per_env, phase="random", seed=seed))


def test_episodes_are_whole_and_of_one_goal():
    played = collected()
    assert len(played) == 6
    for episode in played:
        assert len(episode) == HORIZON
        assert len(episode.obs) == HORIZON + 1
        assert episode.obs.dtype == episode.action.dtype == episode.reward.dtype == np.float32
        assert (episode.task, episode.phase, episode.terminated) == ("toy-turn", "random", False)
        assert np.all(episode.obs[:, 4:] == episode.obs[0, 4:])  # never another episode's observation
        assert np.array_equal(episode.obs[1:, 2:4], episode.obs[:-1, :2])  # each follows from the one before
        assert np.array_equal(episode.obs[0, :2], episode.obs[0, 2:4])  # the first is a first


def test_an_episode_says_which_goal_it_played():
    for episode in collected(goals=[3, 8, 5, 9], order="sequential"):
        assert episode.obs[0, [0, 1, 4, 5]] == pytest.approx(goals("toy-turn")[episode.goal], abs=1e-6)


def test_every_environment_gives_its_share():
    envs = Concatenated([make_envs(task, 2, goals="fresh") for task in ("toy-reach", "toy-swap")])
    played = list(episodes(envs, RandomPolicy(2, 0), per_env=2, phase="random", seed=0))
    assert sorted(e.task for e in played) == ["toy-reach"] * 4 + ["toy-swap"] * 4


def test_episodes_follow_from_the_seed():
    one, two, other = collected(seed=1), collected(seed=1), collected(seed=2)
    assert all(np.array_equal(a.obs, b.obs) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0].obs, other[0].obs)


@pytest.mark.parametrize("backend", ["reference", "envpool"])
def test_leaving_environments_behind_changes_no_episode(monkeypatch, backend):
    policy, limits = ScriptedPolicy(("drawer-close-v3",) * 4), np.array([1, 500, 4, 500])

    def played():
        envs = Concatenated(
            [make_envs("drawer-close-v3", 2, goals="fresh", backend=backend, horizon=80) for _ in "ab"]
        )
        found = list(episodes(envs, policy, per_env=1, phase="expert", seed=2, after_success=limits))
        judged = [*first_success(envs, policy, 3), *last_success(envs, policy, 3)]
        envs.close()
        return found, judged

    left = []
    monkeypatch.setattr(rollout, "leave", lambda envs, over: (left.append(over.copy()), leave(envs, over)))
    found, judged = played()
    assert any(0 < over.sum() < 4 for over in left)
    monkeypatch.setattr(rollout, "leave", lambda envs, over: None)
    expected, expected_judged = played()
    assert len({len(e) for e in found}) > 1
    for one, two in zip(found, expected, strict=True):
        assert np.array_equal(one.obs, two.obs)
        assert np.array_equal(one.action, two.action)
        assert np.array_equal(one.reward, two.reward)
    for one, two in zip(judged, expected_judged, strict=True):
        assert np.array_equal(one, two)


def test_a_policy_is_told_of_each_reward_and_of_each_new_episode_before_it_acts_there():
    policy, envs = Diary(), make_envs("toy-turn", 2, goals="fresh")
    played = [step for _, step in zip(range(HORIZON + 3), steps(envs, policy, 0), strict=False)]
    kinds = [kind for kind, _ in policy.told]
    assert kinds[0] == "reset"
    assert policy.told[0][1].all()
    assert kinds[1:] == ["act", "observe"] * (HORIZON + 1) + ["reset"] + ["act", "observe"] * 2
    rewards = [told for kind, told in policy.told if kind == "observe"]
    assert all(np.array_equal(a, b.result.reward) for a, b in zip(rewards, played, strict=True))
    seen = [told for kind, told in policy.told if kind == "act"]
    assert np.array_equal(seen[0], played[0].obs)
    assert all(np.array_equal(a, b.result.obs) for a, b in zip(seen[1:], played[:-1], strict=True))


def test_a_restarted_collector_forgets_what_was_running():
    envs = make_envs("toy-reach", 1, goals="fresh")
    collector = EpisodeCollector(envs, "random", 0)
    for _, step in zip(range(10), steps(envs, RandomPolicy(2, 0), 0), strict=False):
        collector.add(step)
    collector.restart()
    ended = []
    for _, step in zip(range(HORIZON), steps(envs, RandomPolicy(2, 0), 1), strict=False):
        ended += collector.add(step)
    assert [(owner, len(episode)) for owner, episode in ended] == [(0, HORIZON)]


def test_the_scripted_policy_succeeds_at_first():
    envs = make_envs("toy-reach", 20, goals="fresh")
    success, returns = first_success(envs, ScriptedPolicy(("toy-reach",)), 0)
    assert success.all()
    assert (returns > 0).all()


class Passing:
    """Solves the task, then leaves the goal."""

    def __init__(self, leaves_after):
        self.leaves_after, self.age = leaves_after, 0

    def eval_action(self, obs):
        self.age += 1
        action = optimal_action("toy-reach", obs)
        return action if self.age <= self.leaves_after else np.ones_like(action)

    def reset(self, env_mask):
        pass

    def observe(self, rewards):
        pass


def test_success_at_the_last_step_is_that_of_policies_that_stay():
    envs = make_envs("toy-reach", 20, goals="fresh")
    stays, leaves = Passing(HORIZON), Passing(HORIZON - 4)
    assert last_success(envs, stays, 0)[0].all()
    won, gained = last_success(envs, leaves, 0)
    assert not won.any()
    passed, same = first_success(envs, Passing(HORIZON - 4), 0)
    assert passed.all()
    assert np.array_equal(gained, same)


def test_returns_are_counted_until_the_first_success():
    envs = make_envs("toy-reach", 5, goals="fresh")
    success, returns = first_success(envs, ScriptedPolicy(("toy-reach",)), 3)
    by_hand, over = np.zeros(5, np.float32), np.zeros(5, bool)
    obs = envs.reset(3)
    while not over.all():
        result = envs.step(optimal_action("toy-reach", obs))
        by_hand += np.where(over, 0, result.reward)
        over |= result.success
        obs = result.obs
    np.testing.assert_allclose(returns, by_hand)
    assert success.all()


def test_a_diluted_policy_is_itself_at_share_0_and_chance_at_share_1():
    obs = np.zeros((2, 6), np.float32)
    scripted = ScriptedPolicy(("toy-reach",))
    policy = NoisyPolicy(scripted, np.array([0.0, 1.0]), seed=0, hold=3)
    acted = np.stack([policy.eval_action(obs) for _ in range(30)])
    assert (acted[:, 0] == scripted.eval_action(obs)[0]).all()
    held = acted[:, 1].reshape(10, 3, 2)
    assert (held == held[:, :1]).all()
    assert len(np.unique(held[:, 0, 0])) == 10


def test_a_diluted_policy_dilutes_as_much_as_it_is_told():
    share, obs = np.array([0.3]), np.zeros((1, 6), np.float32)
    scripted = ScriptedPolicy(("toy-reach",))
    policy = NoisyPolicy(scripted, share, seed=0, hold=1)
    own = [(policy.eval_action(obs) == scripted.eval_action(obs)).all() for _ in range(1_000)]
    assert abs(1 - np.mean(own) - 0.3) < 0.06  # four standard errors
