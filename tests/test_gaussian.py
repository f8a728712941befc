"""The tanh-Gaussian: densities against SciPy and against integration, KL against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import drawn
from collectiverl.nn.gaussian import Actor, Gaussian, kl, squash

ONE = jnp.ones(1)


squashed = jax.jit(jax.vmap(squash, (None, 0)))
divergence = jax.jit(kl)


def a_gaussian(mean, log_std):
    return Gaussian(jnp.asarray(np.float32(mean)), jnp.asarray(np.float32(log_std)))


def log_density(gaussian, action):
    """Of actions on a leading axis, by the change of variables, in double precision."""
    u = np.arctanh(np.float64(action))
    normal = scipy.stats.norm(np.float64(gaussian.mean), np.exp(np.float64(gaussian.log_std)))
    return (normal.logpdf(u) - np.log1p(-np.square(action, dtype=np.float64))).sum(-1)


def test_log_density_agrees_with_scipy():
    gaussian = a_gaussian([0.3, -0.8, 0.0], [-1.0, 0.2, -2.0])
    noise = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    action, log_prob = map(np.asarray, squashed(gaussian, noise))
    inside = np.all(np.abs(action) < 0.999, axis=1)  # float32 cannot be inverted nearer to the bounds
    np.testing.assert_allclose(log_prob[inside], log_density(gaussian, action[inside]), atol=2e-3)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.5, -1.0), (-0.5, 0.5)])
def test_the_density_of_actions_integrates_to_one(mean, log_std):
    noise = np.linspace(-8, 8, 20_001, dtype=np.float32)[:, None]
    action, log_prob = squashed(a_gaussian([mean], [log_std]), noise)
    assert np.trapezoid(np.exp(np.float64(log_prob)), np.float64(action[:, 0])) == pytest.approx(1, abs=1e-3)


saturated = jax.jit(jax.value_and_grad(lambda m: squash(Gaussian(m * ONE, 0 * ONE), 0 * ONE)[1]))


@pytest.mark.parametrize("mean", [-40.0, -9.0, 9.0, 40.0])
def test_density_and_its_gradient_stay_finite_where_tanh_saturates(mean):
    value, slope = saturated(mean)
    assert np.isfinite(value)
    assert abs(value - (2 * abs(mean) - 2 * np.log(2) - 0.5 * np.log(2 * np.pi))) < 1e-3
    assert slope == pytest.approx(2 * np.sign(mean), abs=1e-3)


def test_samples_are_the_distribution_and_carry_its_density():
    gaussian = a_gaussian([0.2, -0.4], [-0.5, 0.1])
    action, log_prob = jax.jit(jax.vmap(gaussian.sample))(jax.random.split(jax.random.key(0), 4_000))
    assert action.shape == (4_000, 2)
    assert log_prob.shape == (4_000,)
    assert np.all(np.abs(action) <= 1)
    u = np.arctanh(np.clip(np.float64(action), -1 + 1e-7, 1 - 1e-7))
    for i in range(2):
        normal = scipy.stats.norm(float(gaussian.mean[i]), float(np.exp(gaussian.log_std[i])))
        assert scipy.stats.kstest(u[:, i], normal.cdf).pvalue > 0.01
    np.testing.assert_allclose(gaussian.mode, np.tanh(gaussian.mean), rtol=1e-6)


FINITE = st.floats(-2, 2, width=32)
PAIRS = hnp.arrays(np.float32, (2, 3), elements=FINITE)


@settings(max_examples=50, deadline=None)
@given(p=PAIRS, q=PAIRS)
def test_kl_is_the_closed_form_in_double_precision(p, q):
    (m1, l1), (m2, l2) = np.float64(p), np.float64(q)
    closed = (l2 - l1 + (np.exp(2 * l1) + (m1 - m2) ** 2) / (2 * np.exp(2 * l2)) - 0.5).sum()
    found = divergence(Gaussian(*jnp.asarray(p)), Gaussian(*jnp.asarray(q)))
    assert float(found) == pytest.approx(closed, rel=1e-4, abs=1e-4)
    assert found >= -1e-4


def test_kl_is_the_mean_log_ratio_of_the_actions_densities():
    p, q = a_gaussian([0.2, -0.4], [-0.5, -0.2]), a_gaussian([0.5, 0.1], [-0.3, 0.3])
    noise = np.random.default_rng(0).normal(size=(100_000, 2)).astype(np.float32)
    action, log_p = squashed(p, noise)
    inside = np.clip(np.float64(action), -1 + 1e-7, 1 - 1e-7)
    ratio = np.float64(log_p) - log_density(q, inside)
    assert ratio.mean() == pytest.approx(float(divergence(p, q)), abs=4 * ratio.std() / np.sqrt(len(ratio)))
    assert divergence(p, p) == pytest.approx(0, abs=1e-6)


def an_actor(bounds=(-5.0, 2.0)):
    return drawn.module(Actor, 4, 2, 16, 2, log_std_bounds=bounds)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_log_std_is_bounded_whatever_is_seen(scale):
    obs = scale * np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    gaussian = jax.tree.map(np.asarray, jax.jit(jax.vmap(an_actor()))(obs))
    assert gaussian.mean.shape == gaussian.log_std.shape == (200, 2)
    assert np.all((gaussian.log_std >= -5) & (gaussian.log_std <= 2))


def test_the_bound_is_centred_and_its_gradient_lives_beyond_it():
    actor = an_actor()
    gaussian, raw = jax.jit(lambda obs: (actor(obs), actor.mlp(obs)[2:]))(np.zeros(4, np.float32))
    np.testing.assert_allclose(gaussian.log_std, -1.5 + 3.5 * np.tanh(raw), rtol=1e-5)
