"""Laws of what reads a sequence: the causal transformer, the recurrent networks, and their parts."""

from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drawn
from collectiverl.nn.attention import AS_MATRICES, LARGEST, Attention, View, attend, pool
from collectiverl.nn.batch_last import normalize, project
from collectiverl.nn.mlp import LayerNorm, Linear
from collectiverl.nn.recurrent import Recurrent
from collectiverl.nn.transformer import CLSTransformer, dropout

DIM, N, BATCH = 8, 6, 3
REACH = 4  # tokens, itself included
TOKENS = drawn.normal(DIM, N, BATCH, seed=1)
ALL = np.ones((N, BATCH), bool)
MASK = np.array([False, True, True, False, True, True])
SHOWN = np.tile(MASK[:, None], BATCH)
KINDS = ("transformer", "wide heads", "gru", "lstm")  # a wide head's attention is made of matrix products


@cache
def a_model(kind, layers=2, reach=REACH):
    """Biases by distance begin alike for all tokens; here they are drawn."""
    if kind in ("gru", "lstm"):
        return drawn.module(Recurrent, kind, DIM, layers, 0.0)
    dim, heads = (2 * AS_MATRICES, 2) if kind == "wide heads" else (DIM, 2)
    return drawn.module(CLSTransformer, dim, layers, heads, 16, 0.1, reach)


@cache
def compiled(kind, name, **sizes):
    return eqx.filter_jit(getattr(a_model(kind, **sizes), name))


def every(kind, x=None, mask=ALL, **sizes):
    return np.asarray(compiled(kind, "every", **sizes)(tokens(kind) if x is None else x, mask))


def tokens(kind, length=N):
    dim = 2 * AS_MATRICES if kind == "wide heads" else DIM
    return drawn.normal(dim, length, BATCH, seed=1)


def flipped(x, places):
    """The same tokens, those at some places with the other sign."""
    changed = x.copy()
    changed[:, places] *= -1
    return changed


# -- one pass, and token by token ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_and_token_by_token_give_the_same(kind):
    """Sequences that are longer than the reach, and one that begins anew on the way."""
    length, anew = 11, 4
    x, mask = tokens(kind, length), np.ones((length, BATCH), bool)
    model, step = a_model(kind), compiled(kind, "step")
    state, found = model.begin(BATCH), []
    for i in range(length):
        begins = np.array([i == 0, i in (0, anew), i == 0])
        state, summary = step(state, x[:, i], begins)
        found.append(summary)
    found = np.stack(found, axis=1)
    whole = every(kind, x, mask)
    np.testing.assert_allclose(found[..., ::2], whole[..., ::2], atol=1e-5)
    np.testing.assert_allclose(found[:, :anew, 1], whole[:, :anew, 1], atol=1e-5)
    late = every(kind, np.roll(x, -anew, axis=1), mask)[:, : length - anew, 1]
    np.testing.assert_allclose(found[:, anew:, 1], late, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_summary_does_not_depend_on_what_comes_later(kind):
    changed = every(kind, flipped(tokens(kind), slice(3, None)))
    np.testing.assert_array_equal(changed[:, :3], every(kind)[:, :3])
    assert (np.abs(changed - every(kind))[:, 3:].max(axis=0) > 1e-4).all()


def test_a_token_sees_as_far_back_as_layers_times_reach():
    """CLS reads in the last layer, so two layers see two reaches, less the place that they share."""
    for layers, seen in ((1, REACH), (2, 2 * REACH - 1)):
        length = seen + 1
        x, mask = tokens("transformer", length), np.ones((length, BATCH), bool)
        before = every("transformer", x, mask, layers=layers)[:, -1]
        too_far = every("transformer", flipped(x, 0), mask, layers=layers)[:, -1]
        np.testing.assert_array_equal(too_far, before)
        in_reach = every("transformer", flipped(x, 1), mask, layers=layers)[:, -1]
        assert np.abs(in_reach - before).max() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_summary_is_the_last_of_all(kind):
    model, x = a_model(kind), tokens(kind)
    summary, outputs = eqx.filter_jit(model)(x, SHOWN)
    assert outputs.shape == x.shape
    np.testing.assert_allclose(compiled(kind, "last")(x, SHOWN), summary, atol=1e-6)
    np.testing.assert_allclose(every(kind, x, SHOWN)[:, -1], summary, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_tokens_influence_nothing(kind):
    garbage = np.where(SHOWN, tokens(kind), np.float32(1e6))
    expected = every(kind, mask=SHOWN)[:, MASK]
    np.testing.assert_array_equal(every(kind, garbage, SHOWN)[:, MASK], expected)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_recurrent_network_skips_what_is_hidden(kind):
    short = every(kind, TOKENS[:, MASK], np.ones((4, BATCH), bool))
    np.testing.assert_allclose(every(kind, mask=SHOWN)[:, MASK], short, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_a_batch_do_not_see_each_other(kind):
    shown = np.stack([MASK, ~MASK, np.ones(N, bool)], axis=1)
    together = every(kind, mask=shown)
    for i in range(BATCH):
        places = np.roll(np.arange(BATCH), -i)
        moved = every(kind, tokens(kind)[..., places], shown[:, places])[..., 0]
        np.testing.assert_allclose(moved, together[..., i], atol=1e-5)


def test_only_how_far_back_a_token_lies_counts():
    """The same tokens later in a longer sequence have the same outputs, once they see no others."""
    x = tokens("transformer", 2 * N)
    later = every("transformer", x, np.tile(np.arange(2 * N)[:, None] >= N, BATCH))[:, N:]
    np.testing.assert_allclose(later, every("transformer", x[:, N:]), atol=1e-5)


def test_order_is_seen_by_the_distances_alone():
    backwards = TOKENS[:, ::-1].copy()
    assert np.abs(every("transformer", backwards) - every("transformer"))[:, -1].max() > 1e-3
    model = a_model("transformer", layers=1, reach=N)
    flat = eqx.tree_at(lambda m: m.blocks[0].attention.position, model, jnp.zeros((2, N)))
    last = eqx.filter_jit(flat.last)
    np.testing.assert_allclose(last(backwards, ALL), last(TOKENS, ALL), atol=1e-5)


def test_heads_begin_with_biases_that_fall_with_the_distance_but_for_one():
    position = np.asarray(Attention(8, 4, 5, key=jax.random.key(0)).position)
    assert not position[0].any()
    assert not position[:, 0].any()
    falls = np.diff(position[1:])
    assert (falls < 0).all()
    np.testing.assert_allclose(falls, np.broadcast_to(falls[:, :1], falls.shape), rtol=1e-5)
    assert len(np.unique(falls[:, 0])) == 3


# -- attention -----------------------------------------------------------------------------------------------


def test_attention_by_hand():
    attention = drawn.module(Attention, 1, 1, 2)
    places = lambda a: (a.qkv.weight, a.qkv.bias, a.out.weight, a.out.bias, a.position)  # noqa: E731
    parts = jnp.array([[1.0, 1.0, 2.0]]), jnp.zeros(3), jnp.ones((1, 1)), jnp.zeros(1)
    attention = eqx.tree_at(places, attention, (*parts, jnp.array([[0.5, -0.5]])))
    x = np.array([[[1.0], [2.0]]], np.float32)
    view = View(jnp.ones((2, 1), bool), np.array([[1], [0]]))
    weight = np.exp([2.0 - 0.5, 4.0 + 0.5])  # the query is 2; the first token lies one back
    expected = weight / weight.sum() @ [2.0, 4.0]
    found = jax.jit(lambda x: attention(x[:, 1:], attention.remember(x), view))(x)
    np.testing.assert_allclose(found, [[[expected]]], rtol=1e-6)


@partial(jax.jit, static_argnums=0)
def with_gradients(function, *inputs):
    found, pull = jax.vjp(function, *inputs)
    return found, pull(jnp.cos(found))


def test_both_ways_to_attend_and_their_gradients_are_the_plain_ones():
    shown = np.arange(N)[:, None, None] <= np.arange(3)[None, :, None] + 2
    shown = np.tile(shown, (1, 1, 5))
    shown[0, :, 0] = False
    bias = drawn.normal(2, N, 3)

    def plain(query, key, value, bias):
        logits = jnp.einsum("hcqb,hckb->hkqb", query, key) + bias[..., None]
        weight = jax.nn.softmax(jnp.where(shown, logits, -jnp.inf), axis=1)
        return jnp.einsum("hkqb,hckb->hcqb", weight, value)

    def ours(query, key, value, bias):
        return attend(query, key, value, jnp.asarray(shown), bias)

    for entries in (4, AS_MATRICES):
        query = drawn.normal(2, entries, 3, 5, seed=1, scale=0.3)
        key, value = (drawn.normal(2, entries, N, 5, seed=seed, scale=0.3) for seed in (2, 3))
        for found, expected in zip(
            *(jax.tree.leaves(with_gradients(f, query, key, value, bias)) for f in (ours, plain)), strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_one_query_at_all_places_sees_what_it_would_see_at_each(scale):
    """Also with weights that lie many orders of magnitude apart; where it sees nothing it has no gradient."""
    distance = np.arange(2, N)[None] - np.arange(N)[:, None]
    within, mask = (distance >= 0) & (distance < REACH), np.tile(MASK[:, None], 5)
    mask[: REACH + 2, 0] = False
    position = drawn.normal(2, REACH)

    def at_each(query, key, value, position):
        bias = position[:, np.clip(distance, 0, REACH - 1)]
        everywhere = jnp.broadcast_to(query[:, :, None, None], (2, 4, distance.shape[1], 5))
        found = attend(everywhere, key, value, jnp.asarray(within)[:, :, None] & mask[:, None], bias)
        return jnp.where(sees, found, 0)

    def at_all(query, key, value, position):
        kernel = jnp.where(within, jnp.exp(position[:, np.clip(distance, 0, REACH - 1)]), 0)
        return pool(query, key, value, jnp.asarray(mask), kernel)

    sees = (within[:, :, None] & mask[:, None]).any(axis=0)
    assert not sees.all()
    query, *others = (drawn.normal(2, 4, *more, seed=1, scale=scale) for more in ((), (N, 5), (N, 5)))
    assert scale < 1 or 20 < np.ptp(np.einsum("hc,hcnb->hnb", query, others[0])) < 2 * LARGEST
    for found, expected in zip(
        *(jax.tree.leaves(with_gradients(f, query, *others, position)) for f in (at_all, at_each)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_layers_batch_last_are_those_of_one_token_with_their_gradients():
    linear, norm = drawn.module(Linear, DIM, 3), LayerNorm(DIM)
    norm = eqx.tree_at(lambda n: (n.weight, n.bias), norm, (jnp.arange(1.0, DIM + 1), jnp.arange(DIM) / 2))
    x = drawn.normal(DIM, N, 5)
    for layer, lanes in ((linear, project), (norm, normalize)):

        def alone(layer, x):
            return jnp.moveaxis(layer(jnp.moveaxis(x, 0, -1)), -1, 0)

        def total(function, layer, x):
            return jnp.sum(jnp.sin(function(layer, x)))

        @jax.jit
        def both(layer, x, lanes=lanes, alone=alone):
            return [
                (f(layer, x), jax.grad(partial(total, f), argnums=(0, 1))(layer, x)) for f in (lanes, alone)
            ]

        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), *both(layer, x))


def test_dropout_keeps_the_mean_and_needs_a_key():
    ones = jnp.ones(100_000)
    dropped = dropout(ones, 0.1, jax.random.key(0))
    assert abs(float(dropped.mean()) - 1) < 0.01
    assert abs(float((dropped == 0).mean()) - 0.1) < 0.01
    np.testing.assert_array_equal(dropout(ones, 0.1, None), ones)
