"""Laws of the layouts, of masking, and of the encoder around them."""

from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drawn
from collectiverl.artifacts import sealed
from collectiverl.nn.mlp import LayerNorm
from collectiverl.representation.encoder import (
    ABOUT,
    WEIGHTS,
    EncoderConfig,
    load_encoder,
    save_encoder,
)
from collectiverl.representation.tokens import InterleavedTokens, JointTokens, parts_of
from collectiverl.types import UserError, Window
from toy_buffers import any_encoder
from training import same

L, S, A = 6, 4, 2
CONFIG = EncoderConfig(window=L, dim=8, layers=1, heads=2, feedforward=16)
BARE = replace(CONFIG, rewards=False)
KINDS = [
    CONFIG,
    replace(CONFIG, layout="interleaved"),
    replace(CONFIG, dim=32),  # heads of 16 entries: attention is made of matrix products
    BARE,
    replace(CONFIG, kind="gru"),
    replace(BARE, kind="lstm"),
]
IDS = ["joint", "interleaved", "wide heads", "bare", "gru", "lstm"]


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
    return Window(*padded, np.arange(size) >= size - seen)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_padding_never_changes_z(config):
    encode = encoding(config)
    window = a_window(seen=3)
    z = encode(window)
    if config in (CONFIG, KINDS[4]):  # another size is another program
        np.testing.assert_allclose(encode(a_window(seen=3, size=4)), z, atol=1e-5)

    def shown(column):
        return window.mask.reshape(-1, *[1] * (column.ndim - 1))

    for garbage in (1e6, np.nan):
        dirty = [np.where(shown(column), column, np.float32(garbage)) for column in window[:3]]
        np.testing.assert_array_equal(encode(Window(*dirty, window.mask)), z)


def trajectories(num=3, length=2 * L + 3, seed=0):
    """Whole episodes; the rewards of some steps are unknown, as that of the first always is."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.normal(size=shape).astype(np.float32)
        for shape in ((num, length, S), (num, length, A), (num, length))
    ]
    columns[1][:, 0] = 0
    columns[2][:, 0] = columns[2][0, 4:7] = columns[2][1, -1] = np.nan
    return Window(*columns, np.ones((num, length), bool))


@cache
def one_pass(config):
    return eqx.filter_jit(an_encoder(config).every)


def embedded(config, window):
    return np.asarray(one_pass(config)(window))


def flipped(window, steps):
    """The same trajectories, some steps with the other sign."""
    columns = [column.copy() for column in window[:3]]
    for column in columns:
        column[:, steps] *= -1
    return Window(*columns, window.mask)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_one_pass_and_step_by_step_give_the_same_z(config):
    """Episodes that begin at different times, longer than the window, rewards unknown in between."""
    encoder, whole = an_encoder(config), trajectories()
    num, length = whole.mask.shape
    step, delay = eqx.filter_jit(type(encoder).step), np.array([0, 2, 5])
    before = trajectories(seed=1)  # what the environments played until their episodes began
    state, found = encoder.begin(num), []
    for i in range(length + delay.max()):
        at = np.clip(i - delay, 0, length - 1)
        late = i - delay < 0

        def latest(column, other, at=at, late=late, i=i):
            place = np.arange(num)
            old = other[place, min(i, length - 1)]
            chosen = np.where(late.reshape(-1, *[1] * (old.ndim - 1)), old, column[place, at])
            return chosen[:, None]

        one = jax.tree.map(latest, whole, before)
        state, z = step(encoder, state, one, (i == 0) | (i == delay))
        found.append(z)
    expected = embedded(config, whole)
    for env, begin in enumerate(delay):
        lived = np.stack(found)[begin : begin + length, env]
        np.testing.assert_allclose(lived, expected[env], atol=1e-5)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_z_does_not_depend_on_what_comes_later(config):
    whole = trajectories()
    z, cut = embedded(config, whole), 4
    changed = embedded(config, flipped(whole, slice(cut, None)))
    np.testing.assert_array_equal(changed[:, :cut], z[:, :cut])
    assert (np.abs(changed - z)[:, cut:].max(axis=-1) > 1e-6).all()


@pytest.mark.parametrize("config", KINDS[:4], ids=IDS[:4])
def test_a_transformer_reads_its_window_and_no_more(config):
    """One layer: the step before the window counts only through the change since then."""
    whole = trajectories()
    z = embedded(config, whole)[:, -1]

    def changed(back):
        return np.abs(embedded(config, flipped(whole, -1 - back))[:, -1] - z).max()

    assert changed(L + 1) == 0
    assert changed(L - 1) > 1e-6


@pytest.mark.parametrize("config", [KINDS[0], KINDS[1], KINDS[4]], ids=["joint", "interleaved", "gru"])
def test_the_last_embedding_of_one_pass_is_that_of_the_window(config):
    """With one layer; with more, the first tokens of a window that is cut out know less."""
    window = jax.tree.map(lambda column: column[:, :L], trajectories())
    np.testing.assert_allclose(one_pass(config)(window)[:, -1], encoding(config)(window), atol=1e-5)


@pytest.mark.parametrize("config", [KINDS[0], KINDS[4]], ids=["transformer", "gru"])
def test_an_unknown_reward_is_none_of_zero_and_breaks_no_gradient(config):
    encoder, window = an_encoder(config), trajectories()
    unknown = window._replace(reward=np.full_like(window.reward, np.nan))
    zero = window._replace(reward=np.zeros_like(window.reward))
    both = jax.tree.map(lambda *columns: np.concatenate(columns), window, unknown)
    told = [embedded(config, w) for w in (unknown, zero, window)]
    assert np.abs(told[0] - told[1]).max() > 1e-3
    assert np.abs(told[0] - told[2]).max() > 1e-3

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(encoder):
        told, untold = jnp.split(encoder.every(both), 2)
        return jnp.sum(told[..., 0] + untold[..., 1])

    grads = jax.tree.map(np.asarray, slope(encoder))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert np.abs(grads.head.weight).max() > 0
    assert not any(np.abs(leaf).max() for leaf in jax.tree.leaves(grads.scales))


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_every_part_of_a_step_is_read_or_left_out(config):
    encode = encoding(config)
    window = a_window()
    z = encode(window)

    def unread(name):
        column = getattr(window, name).copy()
        column[2] += 1
        return np.allclose(encode(window._replace(**{name: column})), z)

    assert not unread("state")
    assert not unread("action")
    assert unread("reward") is not config.rewards


def test_order_matters():
    encode = encoding(BARE)
    window = a_window()
    backwards = jax.tree.map(lambda column: column[::-1], window)
    assert not np.allclose(encode(window), encode(backwards), atol=1e-3)


def test_z_has_length_sqrt_of_its_size():
    z = encoding()(a_window())
    assert np.mean(np.square(z)) == pytest.approx(1, rel=1e-4)


def test_interleaved_tokens_stand_in_the_order_of_cause_and_are_normalised_apart():
    parts = a_standard()
    tokens = plain_norms(drawn.module(InterleavedTokens, (A, 1, S), 8))
    lay_out = eqx.filter_jit(tokens)
    laid_out = np.asarray(lay_out(parts))
    assert laid_out.shape == (8, 3 * L, 1)
    np.testing.assert_allclose(laid_out.mean(axis=0), 0, atol=1e-6)
    changed = np.asarray(lay_out((parts[0], parts[1] + 5 * (np.arange(L) == 1)[:, None], parts[2])))
    assert set(np.flatnonzero(~np.isclose(laid_out, changed).all(axis=(0, 2)))) <= {4}  # step 1's reward
    outputs = tokens.outputs_of_parts(jnp.asarray(laid_out))
    np.testing.assert_array_equal(np.stack(outputs, 2).reshape(8, -1, 1), laid_out)


def test_joint_tokens_are_one_a_step():
    tokens = drawn.module(JointTokens, (A, 1, S), 8)
    laid_out = eqx.filter_jit(tokens)(a_standard())
    assert laid_out.shape == (8, L, 1)
    assert all(part is laid_out for part in tokens.outputs_of_parts(laid_out))


@cache
def a_standard():
    """The parts of a standardised window."""
    standardise = eqx.filter_jit(lambda scales, window: parts_of(scales(window), rewards=True))
    return standardise(an_encoder().scales, a_window())


def plain_norms(tokens):
    """The same tokens, normalised without a scale and a shift of their own."""
    plain = LayerNorm(8)
    return jax.tree.map(
        lambda part: plain if isinstance(part, LayerNorm) else part,
        tokens,
        is_leaf=lambda part: isinstance(part, LayerNorm),
    )


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_a_saved_encoder_is_the_same(config, tmp_path):
    encoder = an_encoder(config)
    with sealed.stage(tmp_path / "encoder", name="train-transformer", config=config, inputs={}) as folder:
        save_encoder(folder, encoder, config)
    loaded, loaded_config = load_encoder(tmp_path / "encoder")
    assert loaded_config == config
    assert same(loaded, encoder)


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
    with pytest.raises(UserError, match=r"encoder\.json does not (describe|say)"):
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
