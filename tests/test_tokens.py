"""Laws of the layouts, of masking, and of the encoder around them."""

from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.artifacts import sealed
from collectiverl.representation.encoder import (
    ABOUT,
    WEIGHTS,
    EncoderConfig,
    fit_scales,
    load_encoder,
    save_encoder,
)
from collectiverl.representation.tokens import InterleavedTokens, JointTokens, Standard, parts_of
from collectiverl.types import UserError, Window
from toy_buffers import any_encoder

L, S, A = 6, 4, 2
CONFIG = EncoderConfig(window=L, dim=8, layers=1, heads=2, feedforward=16)
BARE = replace(CONFIG, rewards=False, changes=False)
KINDS = [
    CONFIG,
    replace(CONFIG, layout="interleaved"),
    BARE,
    replace(CONFIG, kind="gru"),
    replace(BARE, kind="lstm"),
]
IDS = ["joint", "interleaved", "bare", "gru", "lstm"]


def an_encoder(config=CONFIG):
    return any_encoder(config, S, A)


@cache
def encoding(config=CONFIG):
    """Compiled once for all tests of one kind."""
    return eqx.filter_jit(an_encoder(config))


def a_window(seen=L, size=L, seed=0):
    """`seen` steps behind padding that is zero."""
    rng = np.random.default_rng(seed)
    columns = [np.float32(rng.normal(size=shape)) for shape in ((seen, S), (seen, A), (seen,))]
    padded = [np.concatenate([np.zeros((size - seen, *c.shape[1:]), np.float32), c]) for c in columns]
    return Window(*map(jnp.asarray, padded), jnp.arange(size) >= size - seen)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_padding_never_changes_z(config):
    encode = encoding(config)
    window = a_window(seen=3)
    z = encode(window)
    np.testing.assert_allclose(encode(a_window(seen=3, size=4)), z, atol=1e-5)

    def shown(column):
        return window.mask.reshape(-1, *[1] * (column.ndim - 1))

    for garbage in (1e6, jnp.nan):
        dirty = [jnp.where(shown(column), column, garbage) for column in window[:3]]
        np.testing.assert_array_equal(encode(Window(*dirty, window.mask)), z)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_every_part_of_a_step_is_read_or_left_out(config):
    encode = encoding(config)
    window = a_window()
    z = encode(window)
    assert not np.allclose(encode(window._replace(state=window.state.at[2].add(1))), z)
    assert not np.allclose(encode(window._replace(action=window.action.at[2].add(1))), z)
    same = np.allclose(encode(window._replace(reward=window.reward.at[2].add(1))), z)
    assert same is not config.rewards


def test_order_matters():
    encode = encoding(BARE)
    window = a_window()
    backwards = jax.tree.map(lambda column: column[::-1], window)
    assert not np.allclose(encode(window), encode(backwards), atol=1e-3)


def test_z_has_length_sqrt_of_its_size():
    z = encoding()(a_window())
    assert np.mean(np.square(z)) == pytest.approx(1, rel=1e-4)


def test_interleaved_tokens_stand_in_the_order_of_cause_and_are_normalised_apart():
    parts = parts_of(a_standard(), rewards=True)
    tokens = InterleavedTokens((A, 1, S), 8, key=jax.random.key(0))
    laid_out = tokens(parts)
    assert laid_out.shape == (8, 3 * L, 1)
    np.testing.assert_allclose(laid_out.mean(axis=0), 0, atol=1e-6)
    changed = tokens((parts[0], parts[1].at[1].add(5.0), parts[2]))
    assert set(np.flatnonzero(~np.isclose(laid_out, changed).all(axis=(0, 2)))) <= {4}  # step 1's reward
    action, reward, state = tokens.outputs_of_parts(laid_out)
    np.testing.assert_array_equal(jnp.stack([action, reward, state], 2).reshape(8, -1, 1), laid_out)


def test_joint_tokens_are_one_a_step():
    tokens = JointTokens((A, 1, S), 8, key=jax.random.key(0))
    laid_out = tokens(parts_of(a_standard(), rewards=True))
    assert laid_out.shape == (8, L, 1)
    assert all(part is laid_out for part in tokens.outputs_of_parts(laid_out))


def a_standard() -> Standard:
    return an_encoder().standardize(a_window())


def test_standardising_is_by_the_training_data_and_changes_by_theirs():
    encoder = fit_scales(
        an_encoder(),
        np.float32([[0, 0, 0, 5], [2, 4, 6, 5]]),
        np.float32([1, 3]),
        np.float32([[1, 1, 1, 0], [-1, -1, -1, 0]]),
    )
    state = jnp.array([[9.0] * 4, [2, 4, 6, 5.05], [3, 4, 6, 5.05]])
    standard = encoder.standardize(
        Window(state, jnp.zeros((3, A)), jnp.array([9.0, 1, 3]), jnp.array([False, True, True]))
    )
    np.testing.assert_allclose(standard.state, [[0] * 4, [1, 1, 1, 1], [2, 1, 1, 1]], atol=1e-4)  # floor 0.05
    np.testing.assert_allclose(standard.reward[:, 0], [0, -1, 1], atol=1e-6)
    np.testing.assert_allclose(standard.change, [[0] * 4, [0] * 4, [1, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_a_saved_encoder_is_the_same(config, tmp_path):
    encoder = an_encoder(config)
    with sealed.stage(tmp_path / "encoder", name="train-transformer", config=config, inputs={}) as folder:
        save_encoder(folder, encoder, config)
    loaded, loaded_config = load_encoder(tmp_path / "encoder")
    assert loaded_config == config
    assert eqx.tree_equal(loaded, encoder)


def test_a_damaged_encoder_is_refused(tmp_path):
    with sealed.stage(tmp_path / "encoder", name="train-transformer", config=CONFIG, inputs={}) as folder:
        save_encoder(folder, an_encoder(), CONFIG)
    weights = tmp_path / "encoder" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match="corrupt"):
        load_encoder(tmp_path / "encoder")


def test_what_is_no_encoder_is_refused(tmp_path):
    with sealed.stage(tmp_path / "encoder", name="train-transformer", config=CONFIG, inputs={}) as folder:
        save_encoder(folder, an_encoder(), CONFIG)
        (folder / ABOUT).write_text('{"encoder": {"dims": 3}}')
    with pytest.raises(UserError, match=r"encoder\.json does not describe"):
        load_encoder(tmp_path / "encoder")


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ({"dim": 30}, "dim: 30"),
        ({"z_dim": 0}, "z-dim: 0"),
        ({"dropout": 1.0}, "dropout: 1.0"),
    ],
)
def test_nonsense_is_refused_by_name(setting, flag):
    with pytest.raises(ValueError, match=flag):
        EncoderConfig(**setting)
