"""Laws of the transformer and the recurrent encoders."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.nn.batch_last import normalize, project
from collectiverl.nn.mlp import LayerNorm, Linear
from collectiverl.nn.recurrent import Recurrent
from collectiverl.nn.transformer import Attention, Transformer, attend, dropout

DIM, N = 8, 6
TOKENS = jax.random.normal(jax.random.key(1), (DIM, N, 1))
MASK = jnp.array([False, True, True, False, True, True])
SHOWN = MASK[:, None]


@pytest.fixture(scope="module")
def transformer():
    return Transformer(DIM, 2, 2, 16, 0.1, key=jax.random.key(0))


def test_hidden_tokens_influence_no_other(transformer):
    garbage = jnp.where(SHOWN, TOKENS, 1e6)
    np.testing.assert_array_equal(transformer(TOKENS, SHOWN)[:, MASK], transformer(garbage, SHOWN)[:, MASK])


def test_hiding_a_token_is_leaving_it_out(transformer):
    short = transformer(TOKENS[:, MASK], jnp.ones((4, 1), bool))
    np.testing.assert_allclose(transformer(TOKENS, SHOWN)[:, MASK], short, atol=1e-5)


def test_sequences_of_a_batch_do_not_see_each_other(transformer):
    batch = jax.random.normal(jax.random.key(2), (DIM, N, 3))
    shown = jnp.stack([MASK, ~MASK, jnp.ones(N, bool)], axis=1)
    together = transformer(batch, shown)
    for i in range(3):
        alone = transformer(batch[:, :, i : i + 1], shown[:, i : i + 1])
        np.testing.assert_allclose(together[:, :, i : i + 1], alone, atol=1e-5)


def test_the_first_output_alone_is_the_first_of_all(transformer):
    shown = SHOWN.at[0].set(True)
    np.testing.assert_allclose(transformer.first(TOKENS, shown), transformer(TOKENS, shown)[:, 0], atol=1e-6)


def test_tokens_carry_no_order_of_their_own(transformer):
    order, everything = jnp.array([3, 1, 0, 2, 5, 4]), jnp.ones((N, 1), bool)
    shuffled = transformer(TOKENS[:, order], everything)
    np.testing.assert_allclose(shuffled, transformer(TOKENS, everything)[:, order], atol=1e-5)


def test_attention_by_hand():
    attention = Attention(1, 1, key=jax.random.key(0))
    one, zero = jnp.ones((1, 1)), jnp.zeros(1)
    attention = _with(attention, jnp.array([[1.0, 1.0, 2.0]]), jnp.zeros(3), one, zero)
    weight = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    found = attention(jnp.array([[[1.0], [2.0]]]), jnp.ones((2, 1), bool), queries=1)
    np.testing.assert_allclose(found, [[[weight @ [2.0, 4.0]]]], rtol=1e-6)


def _with(attention, qkv, qkv_bias, out, out_bias):
    def places(a):
        return (a.qkv.weight, a.qkv.bias, a.out.weight, a.out.bias)

    return eqx.tree_at(places, attention, (qkv, qkv_bias, out, out_bias))


def test_gradients_by_hand_are_those_of_automatic_differentiation():
    k_query, k_key, k_value = jax.random.split(jax.random.key(0), 3)
    query = jax.random.normal(k_query, (2, 4, 3, 5))
    key, value = (jax.random.normal(k, (2, 4, N, 5)) for k in (k_key, k_value))
    shown = jnp.tile(SHOWN, (1, 5))

    def plain(query, key, value):
        logits = jnp.where(shown, jnp.einsum("hcqb,hckb->hqkb", query, key), -jnp.inf)
        return jnp.einsum("hqkb,hckb->hcqb", jax.nn.softmax(logits, axis=2), value)

    def by_hand(query, key, value):
        return attend(query, key, value, shown)

    expected, pull = jax.vjp(plain, query, key, value)
    found, pull_by_hand = jax.vjp(by_hand, query, key, value)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for one, other in zip(pull_by_hand(jnp.cos(found)), pull(jnp.cos(expected)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_layers_batch_last_are_those_of_one_token_with_their_gradients():
    linear, norm = Linear(DIM, 3, key=jax.random.key(0)), LayerNorm(DIM)
    norm = eqx.tree_at(lambda n: (n.weight, n.bias), norm, (jnp.arange(1.0, DIM + 1), jnp.arange(DIM) / 2))
    x = jax.random.normal(jax.random.key(1), (DIM, N, 5))
    for layer, lanes in ((linear, project), (norm, normalize)):

        def alone(layer, x):
            return jnp.moveaxis(layer(jnp.moveaxis(x, 0, -1)), -1, 0)

        def total(function, layer, x):
            return jnp.sum(jnp.sin(function(layer, x)))

        np.testing.assert_allclose(lanes(layer, x), alone(layer, x), atol=1e-5)
        found, expected = (jax.grad(partial(total, f), argnums=(0, 1))(layer, x) for f in (lanes, alone))
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), found, expected)


def test_dropout_keeps_the_mean_and_needs_a_key():
    ones = jnp.ones(100_000)
    dropped = dropout(ones, 0.1, jax.random.key(0))
    assert abs(float(dropped.mean()) - 1) < 0.01
    assert abs(float((dropped == 0).mean()) - 0.1) < 0.01
    np.testing.assert_array_equal(dropout(ones, 0.1, None), ones)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_recurrent_encoder_skips_what_is_hidden(kind):
    recurrent = Recurrent(kind, DIM, 2, 0.0, key=jax.random.key(0))
    last, _ = recurrent(jnp.where(SHOWN, TOKENS, 1e6), SHOWN)
    short, outputs = recurrent(TOKENS[:, MASK], jnp.ones((4, 1), bool))
    np.testing.assert_allclose(last, short, atol=1e-6)
    np.testing.assert_array_equal(short, outputs[:, -1])
