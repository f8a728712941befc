"""Running windows are those of the recorded episode; so are `gather`, `encode` and `embed_every`."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.representation.batches import gather, pack
from collectiverl.representation.context import begin_windows, embed_every, encode, push, reading
from collectiverl.representation.encoder import EncoderConfig
from collectiverl.types import Window
from toy_buffers import STATE_INDEX, any_encoder, buffers

CONFIG = EncoderConfig(window=6, dim=8, layers=2, heads=2, feedforward=16)
SHOWN = jnp.ones((1, 1), bool)


@pytest.fixture(scope="module")
def encoder():
    return any_encoder(CONFIG)


def lived(episode):
    """The steps of an episode as they come: what led to each state is known with it."""
    state = jnp.asarray(episode.obs[:, list(STATE_INDEX)])
    for t in range(len(episode)):
        action = episode.action[t - 1] if t else np.zeros_like(episode.action[0])
        reward = episode.reward[t - 1] if t else np.float32(np.nan)
        yield Window(state[None, t, None], jnp.asarray(action)[None, None], jnp.full((1, 1), reward), SHOWN)


@pytest.mark.parametrize("readout", ["cls", "last_state"])
def test_the_running_window_is_the_recorded_one(encoder, readout):
    """Two episodes, one after the other in the same environment."""
    table = buffers()[0][2].subset([0, 5])
    read = eqx.filter_jit(reading(encoder, readout))
    windows, found = begin_windows(encoder, 1), []
    for episode in table:
        for t, step in enumerate(lived(episode)):
            windows = push(windows, step, jnp.array([t == 0]))
            found.append(read(windows)[0])
    recorded = encode(encoder, table, STATE_INDEX, batch=32, readout=readout)
    np.testing.assert_allclose(np.stack(found), recorded, atol=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "gru"])
def test_every_embedding_of_an_episode_is_that_of_the_running_encoder(kind):
    encoder = any_encoder(EncoderConfig(kind=kind, window=6, dim=8, layers=2, heads=2, feedforward=16))
    table = buffers()[0][1].subset([3, 1])
    state, found = encoder.begin(1), []
    step = eqx.filter_jit(type(encoder).step)
    for episode in table:
        for t, latest in enumerate(lived(episode)):
            state, z = step(encoder, state, latest, jnp.array([t == 0]))
            found.append(z[0])
    np.testing.assert_allclose(np.stack(found), embed_every(encoder, table, STATE_INDEX), atol=1e-5)


def test_a_reset_forgets_only_its_own_environment(encoder):
    rng = np.random.default_rng(0)

    def step():
        columns = [rng.normal(size=(2, 1, *shape)) for shape in ((len(STATE_INDEX),), (2,), ())]
        return Window(*(jnp.asarray(c, jnp.float32) for c in columns), jnp.ones((2, 1), bool))

    running = begin_windows(encoder, 2)
    for _ in range(3):
        running = push(running, step(), jnp.zeros(2, bool))
    last = step()
    after = push(running, last, jnp.array([True, False]))
    fresh = push(begin_windows(encoder, 2), last, jnp.zeros(2, bool))
    np.testing.assert_array_equal(after.mask.sum(axis=1), [1, 4])
    read = eqx.filter_jit(encoder)
    np.testing.assert_allclose(read(after)[0], read(fresh)[0], atol=1e-6)
    assert not np.allclose(read(after)[1], read(fresh)[1], atol=1e-3)
    kept = jax.tree.map(lambda column: column[1], push(running, last, jnp.zeros(2, bool)))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b), after, kept)


def test_packed_windows_are_those_of_the_table():
    tables, _ = buffers()
    data = pack(tables, STATE_INDEX)
    rng = np.random.default_rng(0)
    for buffer, table in enumerate(tables):
        episode = rng.integers(0, len(table), 20)
        end = rng.integers(0, table.length[episode] + 1)
        context = rng.integers(1, 9, 20)
        first = data.first[data.offset[buffer] + episode]
        expected = table.windows(episode, end, 8, STATE_INDEX, context)
        numbers = map(jnp.asarray, (first, first + end, context))
        found = gather(data.rows, *numbers, 8)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_encoding_does_not_depend_on_the_batch(encoder):
    table = buffers()[0][0].subset([0, 3])
    whole = encode(encoder, table, STATE_INDEX, batch=64)
    assert whole.shape == (len(table.column("action")), CONFIG.z_dim)
    np.testing.assert_allclose(encode(encoder, table, STATE_INDEX, batch=32), whole, atol=1e-6)


def test_whole_episodes_are_embedded_alike_however_many_at_once(encoder, monkeypatch):
    table = buffers()[0][0].subset(range(5))
    embed = partial(embed_every, encoder, table, STATE_INDEX)
    whole = embed()
    monkeypatch.setattr("collectiverl.representation.context.AT_ONCE", 1)
    np.testing.assert_allclose(embed(), whole, atol=1e-6)
