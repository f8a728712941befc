"""Perceptrons against NumPy, one by one and together."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drawn
from collectiverl.nn.mlp import MLP, Critic, Ensemble, LayerNorm, Linear

RNG = np.random.default_rng(0)
X = np.float32(RNG.normal(size=5))


@eqx.filter_jit
def of(module, *inputs):
    return module(*inputs)


def by_hand(mlp, x):
    mlp = jax.tree.map(np.asarray, mlp)
    for i, layer in enumerate(mlp.layers):
        x = layer.weight.T @ x + layer.bias
        if i < len(mlp.layers) - 1:
            if mlp.norms:
                x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * mlp.norms[i].weight + mlp.norms[i].bias
            x = np.maximum(x, 0)
    return x


def test_layer_norm_is_equinoxs():
    norm, reference = LayerNorm(7), eqx.nn.LayerNorm(7)
    weight, bias, x = np.float32(RNG.normal(size=(3, 7)))
    norm, reference = (
        eqx.tree_at(lambda n: (n.weight, n.bias), n, (weight, bias)) for n in (norm, reference)
    )
    np.testing.assert_allclose(of(norm, 10 * x + 3), of(reference, 10 * x + 3), rtol=1e-4, atol=1e-5)


def test_its_gradient_is_equinoxs():
    norm, reference = LayerNorm(7), eqx.nn.LayerNorm(7)
    weight, bias, *xs = np.float32(RNG.normal(size=(5, 7)))
    x, slope = jnp.asarray(np.stack(xs) * 3 + 1), np.float32(RNG.normal(size=(3, 7)))

    @eqx.filter_jit
    def gradients(norm, apply):
        norm = eqx.tree_at(lambda n: (n.weight, n.bias), norm, (weight, bias))
        grads = eqx.filter_grad(lambda pair: jnp.sum(slope * apply(pair[0], pair[1])))((norm, x))
        return grads[0].weight, grads[0].bias, grads[1]

    ours = gradients(norm, lambda n, x: n(x))
    theirs = gradients(reference, lambda n, x: jax.vmap(n)(x))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-5)


def test_a_constant_input_is_normalised_to_the_bias():
    assert np.allclose(LayerNorm(4)(jnp.full(4, 3.0)), 0)


def test_weights_begin_within_one_over_the_root_of_the_inputs():
    layer = Linear(25, 400, key=jax.random.key(0))
    for array in (layer.weight, layer.bias):
        assert np.abs(array).max() <= 0.2
        assert np.abs(array).max() > 0.19
        assert np.std(array) == pytest.approx(0.2 / np.sqrt(3), rel=0.1)
    assert layer.weight.shape == (25, 400)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_perceptron_by_hand(layer_norm, depth):
    mlp = drawn.module(MLP, 5, 3, 8, depth, layer_norm=layer_norm)
    assert len(mlp.layers) == depth + 1
    assert of(mlp, X).shape == (3,)
    np.testing.assert_allclose(of(mlp, X), by_hand(mlp, X), rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_its_members_each_with_weights_of_its_own():
    keys = jax.random.split(jax.random.key(2), 3)
    make = eqx.filter_jit(lambda k: MLP(5, 2, 8, 1, key=k))
    ensemble = Ensemble(make, 3, key=jax.random.key(2))
    alone = np.stack([of(make(key), X) for key in keys])
    np.testing.assert_allclose(of(ensemble, X), alone, rtol=1e-5, atol=1e-6)
    assert not np.allclose(alone[0], alone[1])


def test_critics_are_twins_that_disagree():
    critic = drawn.module(Critic, 3, 2, 8, 2, layer_norm=True)
    q = np.asarray(of(critic, X[:3], X[3:]))
    assert q.shape == (2,)
    assert q[0] != q[1]
    both = jax.tree.map(np.asarray, critic.ensemble.members)
    members = [jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in range(2)]
    np.testing.assert_allclose(q, [by_hand(member, X)[0] for member in members], rtol=1e-4, atol=1e-5)


def test_a_batch_is_each_example_alone():
    critic = drawn.module(Critic, 3, 2, 8, 2, layer_norm=True)
    obs, action = (np.float32(RNG.normal(size=(2, 7, n))) for n in (3, 2))
    alone = [
        [of(critic, o, a) for o, a in zip(os, actions, strict=True)]
        for os, actions in zip(obs, action, strict=True)
    ]
    np.testing.assert_allclose(of(critic, obs, action), alone, rtol=1e-5, atol=1e-6)
