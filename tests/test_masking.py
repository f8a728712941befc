"""What masked reconstruction hides cannot be read off beside it, and is judged beside copying."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.representation import losses
from collectiverl.representation.objective import reconstruction
from collectiverl.representation.reconstruction import without_last_state
from collectiverl.representation.tokens import parts_of
from collectiverl.types import Window
from toy_buffers import SMALL, any_encoder

LENGTH, BATCH = 20, 64


def raw(seed=0) -> Window:
    rng = np.random.default_rng(seed)
    columns = [rng.normal(size=(BATCH, LENGTH, *more)).astype(np.float32) for more in ((4,), (2,), ())]
    return Window(*columns, np.ones((BATCH, LENGTH), bool))


@cache
def standardised():
    return eqx.filter_jit(any_encoder(SMALL).scales)


corrupt = jax.jit(losses.corrupt)


def runs(places) -> list[int]:
    """Lengths of the stretches that are True, along the first axis of columns."""
    edges = np.diff(np.pad(places.astype(int), ((1, 1), (0, 0))), axis=0)
    return [
        int(end - begin)
        for column in edges.T
        for begin, end in zip(np.flatnonzero(column == 1), np.flatnonzero(column == -1), strict=True)
        if begin > 0 and end < len(edges) - 1  # not cut off by the window's ends
    ]


def test_parts_are_hidden_in_spans_and_as_often_as_said():
    found = np.asarray(losses.spans(jax.random.key(0), (3, 400, 50)))
    assert found.mean() == pytest.approx(losses.MASKED, abs=0.01)
    assert found[:, 0].mean() == pytest.approx(losses.MASKED, abs=0.06)  # at the ends, too
    for part in found:
        assert min(runs(part)) >= losses.SPAN


def test_what_is_hidden_does_not_show_in_any_other_entry():
    """Of windows that differ in their hidden parts alone, the encoder reads the same."""
    windows = standardised()(raw())
    others = jax.tree.map(lambda column: jnp.asarray(np.zeros_like(column)), windows)
    _, places = corrupt(windows, others, jax.random.key(1))
    how = jax.random.uniform(jax.random.split(jax.random.key(1))[1], (3, 1, BATCH))
    zeroed = np.asarray(how)[2, 0] < losses.ZEROED
    moved = 9 * np.moveaxis(np.asarray(places)[2][..., None], 0, 1).astype(np.float32) + raw().state
    shown, also = (
        jax.tree.map(
            np.asarray, corrupt(standardised()(raw()._replace(state=state)), others, jax.random.key(1))[0]
        )
        for state in (raw().state, moved)
    )
    for one, two in zip(jax.tree.leaves(shown), jax.tree.leaves(also), strict=True):
        np.testing.assert_array_equal(one[:, zeroed], two[:, zeroed])


def test_the_last_state_shows_nowhere_when_it_is_to_be_filled_in():
    other = raw()._replace(
        state=raw().state + 5 * (np.arange(LENGTH) == LENGTH - 1)[:, None].astype(np.float32)
    )
    windows = [standardised()(window) for window in (raw(), other)]
    assert not np.allclose(*(np.asarray(window.change)[-1] for window in windows))
    without = jax.jit(without_last_state)
    for one, two in zip(*(jax.tree.leaves(without(window)) for window in windows), strict=True):
        np.testing.assert_array_equal(one, two)


def test_copying_takes_the_last_step_that_is_shown():
    encoder = any_encoder(SMALL)
    windows = standardised()(raw())
    places = np.zeros((3, LENGTH, BATCH), bool)
    places[2, 5:9], places[2, 0] = True, True
    truth = parts_of(windows, rewards=True)
    found = [np.asarray(part) for part in jax.jit(losses.copied)(truth, windows, places)]
    for step in range(5, 9):
        np.testing.assert_array_equal(found[2][step], truth[2][4])
    assert not np.asarray(found[2][0]).any()
    metrics = eqx.filter_jit(reconstruction)(encoder, windows, truth, jnp.asarray(places))
    truth = [np.asarray(part) for part in truth]
    assert metrics["reconstruction/state"] == 0
    by_hand = [((truth[2][4] - truth[2][t]) ** 2).mean() for t in range(5, 9)] + [(truth[2][0] ** 2).mean()]
    assert float(metrics["copied/state"]) == pytest.approx(float(np.mean(by_hand)), rel=1e-4)
