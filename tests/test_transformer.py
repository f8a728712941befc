"""Laws of the transformer and the recurrent encoders."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.nn.recurrent import Recurrent
from collectiverl.nn.transformer import Attention, Transformer, dropout

DIM, N = 8, 6
TOKENS = jax.random.normal(jax.random.key(1), (N, DIM))
MASK = jnp.array([False, True, True, False, True, True])


@pytest.fixture(scope="module")
def transformer():
    return Transformer(DIM, 2, 2, 16, 0.1, key=jax.random.key(0))


def test_hidden_tokens_influence_no_other(transformer):
    garbage = jnp.where(MASK[:, None], TOKENS, 1e6)
    np.testing.assert_array_equal(transformer(TOKENS, MASK)[MASK], transformer(garbage, MASK)[MASK])


def test_hiding_a_token_is_leaving_it_out(transformer):
    short = transformer(TOKENS[MASK], jnp.ones(4, bool))
    np.testing.assert_allclose(transformer(TOKENS, MASK)[MASK], short, atol=1e-5)


def test_the_first_output_alone_is_the_first_of_all(transformer):
    shown = MASK.at[0].set(True)
    np.testing.assert_allclose(transformer.first(TOKENS, shown), transformer(TOKENS, shown)[0], atol=1e-6)


def test_tokens_carry_no_order_of_their_own(transformer):
    order, everything = jnp.array([3, 1, 0, 2, 5, 4]), jnp.ones(N, bool)
    shuffled = transformer(TOKENS[order], everything)
    np.testing.assert_allclose(shuffled, transformer(TOKENS, everything)[order], atol=1e-5)


def test_attention_by_hand():
    attention = Attention(1, 1, key=jax.random.key(0))
    one, zero = jnp.ones((1, 1)), jnp.zeros(1)
    attention = _with(attention, jnp.array([[1.0, 1.0, 2.0]]), jnp.zeros(3), one, zero)
    weight = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    found = attention(jnp.array([[1.0], [2.0]]), jnp.ones(2, bool), queries=1)
    np.testing.assert_allclose(found, [[weight @ [2.0, 4.0]]], rtol=1e-6)


def _with(attention, qkv, qkv_bias, out, out_bias):
    def places(a):
        return (a.qkv.weight, a.qkv.bias, a.out.weight, a.out.bias)

    return eqx.tree_at(places, attention, (qkv, qkv_bias, out, out_bias))


def test_dropout_keeps_the_mean_and_needs_a_key():
    ones = jnp.ones(100_000)
    dropped = dropout(ones, 0.1, jax.random.key(0))
    assert abs(float(dropped.mean()) - 1) < 0.01
    assert abs(float((dropped == 0).mean()) - 0.1) < 0.01
    np.testing.assert_array_equal(dropout(ones, 0.1, None), ones)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_recurrent_encoder_skips_what_is_hidden(kind):
    recurrent = Recurrent(kind, DIM, 2, 0.0, key=jax.random.key(0))
    last, _ = recurrent(jnp.where(MASK[:, None], TOKENS, 1e6), MASK)
    short, outputs = recurrent(TOKENS[MASK], jnp.ones(4, bool))
    np.testing.assert_allclose(last, short, atol=1e-6)
    np.testing.assert_array_equal(short, outputs[-1])
