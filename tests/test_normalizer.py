"""The running statistics against NumPy's on all that was seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectiverl.nn.normalizer import CLIP, STD_FLOOR, Normalizer

DIM = 3
MEAN = np.array([0.0, 5.0, -200.0], np.float32)
SCALE = np.array([1.0, 0.1, 30.0], np.float32)


def batches(sizes, seed):
    rng = np.random.default_rng(seed)
    return [MEAN + SCALE * rng.normal(size=(size, DIM)).astype(np.float32) for size in sizes]


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.sampled_from([1, 2, 16]), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_statistics_are_those_of_all_batches_together(sizes, seed):
    seen = batches(sizes, seed)
    normalizer = Normalizer.identity(DIM)
    for batch in seen:
        normalizer = normalizer.update(batch)
    together = np.concatenate(seen).astype(np.float64)
    assert normalizer.count == len(together)
    np.testing.assert_allclose(normalizer.mean, together.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(normalizer.m2 / len(together), together.var(0), rtol=1e-3, atol=1e-4)
    std = np.maximum(together.std(0), STD_FLOOR)
    x = seen[0][0]
    by_hand = np.clip((x - together.mean(0)) / std, -CLIP, CLIP)
    np.testing.assert_allclose(
        normalizer(jnp.asarray(x)), by_hand, rtol=1e-2, atol=2e-2 if len(together) < 8 else 2e-3
    )


def test_before_anything_is_seen_it_is_the_identity():
    x = jnp.array([1e3, -5.0, 0.0])
    assert np.array_equal(Normalizer.identity(DIM)(x), x)


def test_what_never_moved_does_not_blow_up():
    normalizer = Normalizer.identity(1).update(np.full((50, 1), 0.3, np.float32))
    assert normalizer(jnp.array([0.3])) == pytest.approx(0, abs=1e-4)
    assert normalizer(jnp.array([0.3 + STD_FLOOR])) == pytest.approx(1, rel=1e-3)
    assert normalizer(jnp.array([9.0])) == CLIP


def test_experts_on_a_leading_axis_have_statistics_of_their_own():
    one, two = batches([16, 16], 0)
    blank = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), Normalizer.identity(DIM))
    both = jax.vmap(Normalizer.update)(blank, np.stack([one, two]))
    for i, batch in enumerate((one, two)):
        alone = Normalizer.identity(DIM).update(batch)
        np.testing.assert_allclose(both.mean[i], alone.mean, rtol=1e-5)
        np.testing.assert_allclose(both.m2[i], alone.m2, rtol=1e-4)
