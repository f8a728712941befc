"""Laws of the scales: what is fitted, and what a network reads of a raw window."""

import equinox as eqx
import jax
import numpy as np
import pytest

from collectiverl.data.episodes import EpisodeTable, Shard
from collectiverl.representation.batches import fit_scales, pack
from collectiverl.representation.scales import (
    FARTHEST,
    LARGEST_CHANGE,
    NEAR,
    REWARD_INPUTS,
    Scales,
    Standard,
)
from collectiverl.representation.tokens import inputs_of
from collectiverl.types import Episode, Window
from toy_buffers import SPEC, STATE_INDEX, buffers

S, A, L = 4, 2, 5


def fitted(points=()):
    """From numbers that are easy to divide by."""
    return Scales.fit(
        np.float32([[0, 0, 0, 5], [2, 4, 6, 5]]),
        np.float32([1, 3]),
        np.float32([[1, 1, 1, 0], [-1, -1, -1, 0]]),
        np.float32([2, 0, -1, 1]),
        points,
    )


def a_window(state=None, reward=None, mask=None):
    rng = np.random.default_rng(0)
    return Window(
        np.float32(rng.normal(size=(L, S)) if state is None else state),
        np.float32(rng.normal(size=(L, A))),
        np.float32(rng.normal(size=L) if reward is None else reward),
        np.ones(L, bool) if mask is None else np.asarray(mask),
    )


@eqx.filter_jit
def read(scales, window):
    return scales(window)


def test_the_fitted_statistics_by_hand():
    scales = fitted()
    state = np.float32([[9.0] * 4, [2, 4, 6, 5.05], [3, 4, 6, 5.05]])
    mask = np.array([False, True, True])
    standard = read(scales, Window(state, np.zeros((3, A), np.float32), np.float32([9, 1, 3]), mask))
    np.testing.assert_allclose(standard.state, [[0] * 4, [1, 1, 1, 1], [2, 1, 1, 1]], atol=1e-4)  # floor 0.05
    np.testing.assert_allclose(standard.reward[:, 0], [0, -1, 1], atol=1e-6)
    np.testing.assert_allclose(standard.change, [[0] * 4, [0] * 4, [1, 0, 0, 0]], atol=1e-6)
    assert float(scales.typical_change) == 1  # of the sizes 2, 1, 1: that of zero does not count
    np.testing.assert_array_equal(scales.reward_range, [1, 3])


def test_changes_and_statistics_do_not_cross_episodes():
    tables = buffers()[0]
    scales = fit_scales(pack(tables, STATE_INDEX), SPEC.points)
    played = [e for table in tables for e in table]
    states = [e.obs[:, list(STATE_INDEX)] for e in played]
    changes = np.concatenate([np.diff(s, axis=0) for s in states])
    rewards = np.concatenate([np.diff(e.reward) for e in played])
    np.testing.assert_allclose(scales.state.mean, np.concatenate(states).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(scales.change.m2, (changes**2).mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(scales.reward_change.m2, [(rewards**2).mean()], rtol=1e-4)
    assert float(scales.typical_change) == pytest.approx(np.median(np.abs(rewards)), rel=1e-4)
    assert not np.asarray(scales.change.mean).any()  # not centred: a state that rests reads as zero


def test_rewards_that_never_change_break_nothing():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(4, SPEC.obs_dim)).astype(np.float32)
    action, reward = np.zeros((3, A), np.float32), np.ones(3, np.float32)
    episode = Episode(
        obs=obs, action=action, reward=reward, success=reward > 1, task="toy-reach", phase="random"
    )
    scales = fit_scales(pack([EpisodeTable([Shard.of([episode])])], STATE_INDEX))
    found = read(scales, a_window(reward=np.ones(L)))
    assert all(np.isfinite(np.asarray(part, np.float32)).all() for part in found)


def test_padding_is_zero_whatever_stands_there():
    mask = np.arange(L) >= 2
    clean = read(fitted(SPEC.points), a_window(mask=mask))
    for garbage in (1e6, np.nan):
        dirty = [
            np.where(mask.reshape(-1, *[1] * (c.ndim - 1)), c, np.float32(garbage))
            for c in a_window(mask=mask)[:3]
        ]
        found = read(fitted(SPEC.points), Window(*dirty, mask))
        for name, one, other in zip(Standard._fields, found, clean, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
            assert not np.asarray(one)[:2].any()
    assert not np.asarray(clean.change)[2].any()  # the first shown step follows none
    assert np.asarray(clean.change)[3:].any(axis=-1).all()


def test_a_change_needs_both_rewards():
    unknown = np.array([np.nan, 1, np.nan, 2, 3])
    standard = read(fitted(), a_window(reward=unknown))
    np.testing.assert_array_equal(standard.known[:, 0], [0, 1, 0, 1, 1])
    changed = np.asarray(standard.reward_change)
    logit, changes = changed[:, 0], changed[:, 1:]
    np.testing.assert_array_equal(changes.any(axis=-1), [False, False, False, False, True])
    np.testing.assert_array_equal(np.asarray(standard.reward)[[0, 2], 0], 0)
    np.testing.assert_array_equal(logit[[0, 2]], 0)


def test_a_reward_of_zero_is_not_an_unknown_one():
    scales = fitted()
    zero, unknown = (
        inputs_of(read(scales, a_window(reward=np.full(L, r))), rewards=True)[1] for r in (0.0, np.nan)
    )
    assert zero.shape == (L, REWARD_INPUTS)
    assert not np.asarray(unknown).any()
    assert np.asarray(zero).any(axis=-1).all()


def test_small_changes_of_reward_are_told_apart_on_finer_scales():
    """On the scale of its deviation a change of a hundredth of it is lost; ten times finer it is not."""
    scales = fitted()
    near, nearer = (
        np.asarray(read(scales, a_window(reward=2 + step * np.arange(L))).reward_change)[1:, 1:]
        for step in (0.01, 0.02)
    )
    assert np.abs(near[:, 0]).max() < 0.02
    np.testing.assert_allclose(near[:, 2], 0.1, rtol=1e-2)  # in tenths of the typical change, which is 1
    np.testing.assert_allclose(nearer[:, 2], 0.2, rtol=1e-2)
    large = np.asarray(read(scales, a_window(reward=1 + 0.5 * np.arange(L))).reward_change)
    assert np.abs(large[:, 1:-1]).max() == LARGEST_CHANGE


def test_the_logit_spreads_out_rewards_near_the_best():
    """The same step counts more near the end of the range than in its middle."""
    logits = np.asarray(read(fitted(), a_window(reward=[2.0, 2.1, 2.9, 3.0, 30.0])).reward_change)[:, 0]
    assert logits[0] == pytest.approx(0, abs=1e-6)
    assert logits[3] - logits[2] > 3 * (logits[1] - logits[0])
    assert np.isfinite(logits[4])


def test_differences_are_those_of_every_two_points_near_and_clipped():
    points = ((0, 1), (2, 3), (1, 2))
    scales = fitted(points)
    state = np.zeros((L, S))
    state[1] = [0.0, 0.01, 0.02, -0.01]
    state[2] = [0.0, 0.0, 5.0, 0.0]
    found = np.asarray(read(scales, a_window(state=state)).difference) * NEAR
    assert found.shape == (L, 6) == (L, scales.difference_dim)
    np.testing.assert_allclose(found[1], [0.02, -0.02, 0.01, 0.01, -0.01, 0.03], atol=1e-6)
    np.testing.assert_allclose(found[2, :2], [FARTHEST * NEAR, 0], atol=1e-6)
    assert fitted().difference_dim == 0


def test_features_are_state_change_and_difference():
    standard = read(fitted(SPEC.points), a_window())
    assert standard.features.shape == (L, fitted(SPEC.points).feature_dim)
    parts = standard.state, standard.change, standard.difference
    np.testing.assert_array_equal(standard.features, np.concatenate(parts, axis=-1))


def test_no_gradient_changes_the_statistics():
    def total(scales):
        return sum(part.sum() for part in scales(a_window())[:-1])

    grads = jax.jit(jax.grad(total))(fitted(SPEC.points))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads))
