"""A policy that is told no rewards reads none: they are unknown to it, not zero."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.collective.policy import CollectivePolicy
from collectiverl.representation.scales import Scales
from collectiverl.student.trained_encoder import pack, trained_encoder, unpack
from collectiverl.types import UserError, Window
from toy_buffers import any_collective

READERS = ("own", "tuned", "cls", "last_state", "cluster")
STEPS = 4


def shifted(collective):
    """The same collective, to which a reward of 0 would be another number of standard deviations."""

    def shift(node):
        if not isinstance(node, Scales):
            return node
        reward = jax.tree.map(lambda leaf: leaf + 3.0, node.reward)
        values = (
            node.state,
            node.change,
            reward,
            node.reward_change,
            node.typical_change,
            node.reward_range + 1,
        )
        return Scales(*values, node.points)

    return jax.tree.map(shift, collective, is_leaf=lambda node: isinstance(node, Scales))


def actions(collective, reward):
    """What the policy does at some steps; `reward` is what it is told, None: nothing."""
    policy, rng = CollectivePolicy(collective, ("toy-reach",) * 2), np.random.default_rng(0)
    found = []
    for _ in range(STEPS):
        found.append(policy.eval_action(rng.uniform(-1, 1, (2, 6)).astype(np.float32)))
        if reward is not None:
            policy.observe(np.full(2, reward, np.float32))
    return np.stack(found)


@pytest.mark.parametrize("name", READERS)
def test_a_policy_that_is_told_no_rewards_does_not_take_them_for_zero(name):
    collective = any_collective(name)
    untold = actions(collective, None)
    assert np.isfinite(untold).all()
    np.testing.assert_array_equal(untold, actions(collective, np.nan))
    np.testing.assert_array_equal(untold, actions(shifted(collective), None))
    if name != "cluster":  # whose embeddings may lie in the same cluster
        assert not np.array_equal(untold, actions(collective, 0.0))


def test_rewards_are_copied_and_those_of_a_refused_call_are_forgotten():
    obs, found = np.random.default_rng(0).uniform(-1, 1, (STEPS, 2, 6)), []
    for careless in (False, True):
        policy, rewards = CollectivePolicy(any_collective()), np.ones(2, np.float32)
        for step in obs:
            found.append(policy.eval_action(step))
            policy.observe(rewards)
            if careless:
                rewards[:] = 50  # the next step's, before the policy acts again
                for call, given in [
                    (policy.observe, rewards[:1]),
                    (policy.eval_action, np.where(step == step[1, 3], np.nan, step)),
                    (policy.eval_action, step[:1]),
                ]:
                    with pytest.raises(UserError):
                        call(given)
                rewards[:] = 1
    np.testing.assert_array_equal(found[:STEPS], found[STEPS:])


def test_missing_rewards_are_asked_for_when_they_are_missing_and_only_then():
    policy, obs = CollectivePolicy(any_collective(goals_hidden=True)), np.zeros((2, 6))

    def warned(told, begin=(True, True)):
        """Warnings of an episode in which the rewards of the first `told` steps are told."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            policy.reset(begin)
            for step in range(STEPS):
                policy.eval_action(obs)
                if step < told:
                    policy.observe(np.zeros(2))
        return len(said)

    assert warned(STEPS - 1) == 0  # the last reward is of no use where the episode is over
    assert warned(STEPS) == 0
    assert warned(0) == 1  # once, not at every step
    assert warned(0) == 0
    assert warned(STEPS) == 0
    assert warned(1) == 1  # after rewards were told, anew
    assert warned(STEPS - 1) == 0
    assert warned(STEPS, begin=(True, False)) == 1  # environment 1 plays on, and its last reward is missing


@pytest.mark.parametrize("name", ["own", "cls"])
def test_an_encoder_that_is_tuned_takes_absent_rewards_for_unknown(name):
    """Its windows are stored flat, and embedded anew in every update."""
    reader, again = trained_encoder(any_collective(name)), trained_encoder(shifted(any_collective(name)))
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=(2, reader.steps, *more)).astype(np.float32) for more in ((4,), (2,))]
    absent = jnp.full((2, reader.steps), jnp.nan)
    window = Window(*map(jnp.asarray, columns), absent, jnp.ones((2, reader.steps), bool))
    flat = pack(window)
    assert np.isnan(unpack(flat, reader.steps, 2).reward).all()
    embed = eqx.filter_jit(lambda reader, flat: reader(flat))
    found = np.asarray(embed(reader, flat))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, embed(again, flat))
    slope = jax.jit(jax.grad(lambda obs: reader(jnp.where(jnp.isnan(flat), flat, obs)).sum()))
    grads = slope(jnp.nan_to_num(flat))
    assert np.isfinite(grads).all()
