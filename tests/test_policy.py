"""The door of every policy: what is given is checked and copied, what is returned is the caller's."""

import os
import pickle
import warnings
from functools import cache

import numpy as np
import pytest

from collectiverl import load_policy
from collectiverl.envs.make import spec
from collectiverl.envs.policy import CheckedPolicy
from collectiverl.nn import forks
from collectiverl.sac.agent import expert_of
from collectiverl.sac.policy import Expert
from collectiverl.types import UserError, ValueUnit
from training import OBS, fresh

OBSERVED = np.arange(6, dtype=np.float32).reshape(2, 3)


class Diary(CheckedPolicy):
    """Keeps all that it takes in; its actions cannot be written to."""

    remembers = True

    def __init__(self, places=None):
        super().__init__(3, 2, places)
        self.taken = []

    def _act(self, obs):
        self.taken.append(obs)
        action = np.zeros((len(obs), 2), np.float32)
        action.flags.writeable = False
        return action

    def _reset(self, env_mask):
        self.taken.append(env_mask)

    def _observe(self, rewards):
        self.taken.append(rewards)


class Forgetful(Diary):
    remembers = False


def playing(kind=Diary, count=2, **kwargs):
    """A policy that plays environments, and has noted nothing yet."""
    policy = kind(**kwargs)
    policy.eval_action(np.zeros((count, 3)))
    policy.taken.clear()
    return policy


def at(row, entry, value, dtype=np.float32):
    array = OBSERVED.astype(dtype)
    array[row, entry] = value
    return array


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.eval_action(OBSERVED[0]), r"shape \[3\], not \[N, 3\].*observation\[None\]"),
        (lambda p: p.eval_action(OBSERVED[:, :2]), r"shape \[2, 2\], not \[N, 3\]"),
        (lambda p: p.eval_action(OBSERVED[None]), r"shape \[1, 2, 3\]"),
        (lambda p: p.eval_action(OBSERVED[:0]), r"shape \[0, 3\]"),
        (lambda p: p.eval_action(OBSERVED[:1]), r"1 observations, but .* 2 environments: call reset"),
        (lambda p: p.eval_action([[1, 2, 3], [1, 2]]), "no array"),
        (lambda p: p.eval_action(OBSERVED.astype(str)), "of type <U32"),
        (lambda p: p.eval_action(OBSERVED.astype(complex)), "of type complex128"),
        (lambda p: p.eval_action([[None] * 3] * 2), "of type object"),
        (lambda p: p.eval_action(at(1, 2, np.nan)), "environment 1 is nan at entry 2"),
        (lambda p: p.eval_action(at(0, 1, -np.inf)), "environment 0 is -inf at entry 1"),
        (lambda p: p.eval_action(at(1, 0, 1e200, float)), r"environment 1 is 1e\+200 at entry 0"),
        (lambda p: p.reset([0, 1]), r"type int64, not Booleans"),
        (lambda p: p.reset(True), r"shape \(\)"),
        (lambda p: p.reset(np.ones((2, 1), bool)), r"shape \(2, 1\)"),
        (lambda p: p.reset(np.ones(0, bool)), r"shape \(0,\)"),
        (lambda p: p.reset([True, False, False]), "for 3 environments, but .* playing 2"),
        (lambda p: p.observe(1.0), r"shape \[\], not \[2\]"),
        (lambda p: p.observe(np.zeros(3)), r"shape \[3\], not \[2\]"),
        (lambda p: p.observe(np.zeros((2, 1))), r"shape \[2, 1\], not \[2\]"),
        (lambda p: p.observe([0, np.inf]), "reward of environment 1 is inf"),
        (lambda p: p.observe(["0", "1"]), "rewards are of type"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_and_changes_nothing(call, message):
    policy = playing()
    with pytest.raises(UserError, match=message):
        call(policy)
    assert policy.taken == []
    assert policy.num_envs == 2
    policy.eval_action(OBSERVED)
    policy.observe([0, 1])


def test_what_can_be_meant_is_taken_in():
    policy = playing()
    policy.eval_action(OBSERVED.tolist())
    policy.observe([1, np.nan])  # unknown in environment 1
    policy.reset([True, False])
    for taken, given in zip(policy.taken, (OBSERVED, [1, np.nan], [True, False]), strict=True):
        np.testing.assert_array_equal(taken, given)


def test_what_it_keeps_and_what_it_returns_are_nobody_elses():
    policy, given = playing(), (OBSERVED.copy(), np.ones(2, np.float32), np.ones(2, bool))
    action = policy.eval_action(given[0])
    policy.observe(given[1])
    policy.reset(given[2])
    for array in given:
        array[:] = 0
    np.testing.assert_array_equal(policy.taken[0], OBSERVED)
    assert policy.taken[1].all()
    assert policy.taken[2].all()
    action += 0.1
    assert action.dtype == np.float32


def test_another_number_of_environments_begins_all_together():
    policy = playing()
    policy.reset(np.ones(3, bool))
    policy.eval_action(np.zeros((3, 3)))
    policy.observe(np.zeros(3))


def test_what_remembers_nothing_plays_any_number_at_any_step():
    policy = playing(Forgetful)
    policy.eval_action(OBSERVED[:1])
    with pytest.raises(UserError, match=r"shape \[2\], not \[1\]"):
        policy.observe(np.zeros(2))


def test_what_is_made_for_some_environments_plays_no_other_number():
    policy = playing(places=2)
    for call in (lambda: policy.eval_action(np.zeros((3, 3))), lambda: policy.reset(np.ones(3, bool))):
        with pytest.raises(UserError, match="made for 2 environments, not for 3"):
            call()


def test_rewards_before_the_first_step_are_of_none():
    policy = Diary()
    policy.observe(np.ones(4))
    assert policy.taken == []


@pytest.mark.parametrize(
    ("action", "message"),
    [([[0, 0], [np.nan, 0]], "not finite in environment 1"), ([0, 0], r"shape \[2\], not \[2, 2\]")],
)
def test_actions_that_are_none_never_leave(action, message):
    policy = playing()
    policy._act = lambda obs: np.array(action)
    with pytest.raises(UserError, match=message):
        policy.eval_action(OBSERVED)


# -- the policies of the package ------------------------------------------------------------------------------


@cache
def policy_of(kind) -> CheckedPolicy:
    if kind == "expert":
        return Expert(expert_of(fresh().agent, 0), ValueUnit(1.0, 0.9))
    return load_policy(f"{kind}:toy-turn")


@pytest.mark.parametrize("kind", ["scripted", "random", "expert"])
def test_each_has_the_door(kind):
    policy = policy_of(kind)
    assert isinstance(policy, CheckedPolicy)
    action = policy.eval_action(np.zeros((2, OBS)))
    action += 0.1  # as noise of an exploration is added
    for wrong in (np.zeros((2, OBS + 1)), np.full((2, OBS), np.nan)):
        with pytest.raises(UserError):
            policy.eval_action(wrong)
    with pytest.raises(UserError, match=r"made for observations of 6 entries .*, reach-v3 has 39 and 4"):
        policy.check(spec("reach-v3"))


def test_a_named_policy_of_a_task_of_other_shapes_is_refused():
    for name in ("random:toy-reach", "scripted:toy-reach"):
        with pytest.raises(UserError, match="push-v3 has 39 and 4"):
            load_policy(name, task="push")


@pytest.mark.parametrize("kind", ["scripted", "expert"])
def test_steps_to_label_are_checked_too(kind):
    policy = policy_of(kind)
    obs, action = np.zeros((3, OBS)), np.zeros((3, 2))
    assert len(policy.label(obs, action).mean) == 3
    for wrong, message in [
        ((obs[0], action), r"not \[N, 6\]: give one row for each step"),
        ((obs, action[:, :1]), r"actions are of shape \[3, 1\]"),
        ((obs, action[:2]), "3 observations and 2 actions"),
        ((obs, action + np.nan), "in actions, that of step 0 is nan at entry 0"),
    ]:
        with pytest.raises(UserError, match=message):
            policy.label(*wrong)


def test_a_policy_sent_to_another_process_acts_alike():
    policy, obs = policy_of("expert"), np.random.default_rng(0).normal(size=(2, OBS))
    sent = pickle.loads(pickle.dumps(policy))
    np.testing.assert_array_equal(sent.eval_action(obs), policy.eval_action(obs))


# -- forks ----------------------------------------------------------------------------------------------------


def in_a_fork(act) -> int:
    """The exit status of a forked process: 0 if `act` returns, 2 if it raises a `UserError`."""
    with warnings.catch_warnings(action="ignore"):  # JAX and Python warn of forks
        child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        except UserError as error:
            status = 2 if "JAX hangs after a fork" in str(error) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_after_a_fork_what_computes_with_jax_is_refused_and_the_rest_plays_on():
    expert = policy_of("expert")
    expert.eval_action(np.zeros((2, OBS)))
    assert in_a_fork(lambda: expert.eval_action(np.zeros((2, OBS)))) == 2
    assert in_a_fork(lambda: load_policy("mt10/push")) == 2
    for kind in ("scripted", "random"):
        assert in_a_fork(lambda kind=kind: policy_of(kind).eval_action(np.zeros((2, OBS)))) == 0
    expert.eval_action(np.zeros((2, OBS)))  # here nothing has changed


def test_a_fork_of_a_process_that_never_computed_may(monkeypatch):
    monkeypatch.setattr(forks, "_used", False)
    assert in_a_fork(forks.use) == 0
