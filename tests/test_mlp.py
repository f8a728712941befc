"""Perceptrons against NumPy, one by one and together."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.nn.mlp import MLP, Critic, Ensemble, LayerNorm, Linear

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=5), jnp.float32)


def by_hand(mlp, x):
    for i, layer in enumerate(mlp.layers):
        x = np.asarray(layer.weight).T @ x + layer.bias
        if i < len(mlp.layers) - 1:
            if mlp.norms:
                x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * mlp.norms[i].weight + mlp.norms[i].bias
            x = np.maximum(x, 0)
    return x


def test_layer_norm_is_equinoxs():
    norm, reference = LayerNorm(7), eqx.nn.LayerNorm(7)
    weight, bias, x = jnp.asarray(RNG.normal(size=(3, 7)), jnp.float32)
    norm, reference = (
        eqx.tree_at(lambda n: (n.weight, n.bias), n, (weight, bias)) for n in (norm, reference)
    )
    np.testing.assert_allclose(norm(10 * x + 3), reference(10 * x + 3), rtol=1e-4, atol=1e-5)


def test_its_gradient_is_equinoxs():
    norm, reference = LayerNorm(7), eqx.nn.LayerNorm(7)
    weight, bias, *xs = jnp.asarray(RNG.normal(size=(5, 7)), jnp.float32)
    x, slope = jnp.stack(xs) * 3 + 1, jnp.asarray(RNG.normal(size=(3, 7)), jnp.float32)

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
    mlp = MLP(5, 3, 8, depth, layer_norm=layer_norm, key=jax.random.key(1))
    assert len(mlp.layers) == depth + 1
    assert mlp(X).shape == (3,)
    np.testing.assert_allclose(mlp(X), by_hand(mlp, X), rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_its_members_each_with_weights_of_its_own():
    keys = jax.random.split(jax.random.key(2), 3)
    ensemble = Ensemble(lambda k: MLP(5, 2, 8, 1, key=k), 3, key=jax.random.key(2))
    alone = np.stack([MLP(5, 2, 8, 1, key=key)(X) for key in keys])
    np.testing.assert_allclose(ensemble(X), alone, rtol=1e-5, atol=1e-6)
    assert not np.allclose(alone[0], alone[1])


def test_critics_are_twins_that_disagree():
    critic = Critic(3, 2, 8, 2, layer_norm=True, key=jax.random.key(3))
    q = critic(X[:3], X[3:])
    assert q.shape == (2,)
    assert q[0] != q[1]
    members = [jax.tree.map(lambda leaf, i=i: leaf[i], critic.ensemble.members) for i in range(2)]
    np.testing.assert_allclose(q, [by_hand(member, X)[0] for member in members], rtol=1e-4, atol=1e-5)


def test_a_batch_is_each_example_alone():
    critic = Critic(3, 2, 8, 2, layer_norm=True, key=jax.random.key(3))
    obs, action = (jnp.asarray(RNG.normal(size=(2, 7, n)), jnp.float32) for n in (3, 2))
    alone = [
        [critic(o, a) for o, a in zip(os, actions, strict=True)]
        for os, actions in zip(obs, action, strict=True)
    ]
    np.testing.assert_allclose(critic(obs, action), alone, rtol=1e-5, atol=1e-6)
