"""The judge: numbers that can be told beforehand, and a whole report on a trained encoder."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from collectiverl.representation.clusters import Clusters, fit_clusters
from collectiverl.representation.probe import linear_probe, probe
from toy_buffers import STATE_INDEX, buffers, trained


def blobs(rng, per_blob=60):
    """Four clouds far apart, and the number of each."""
    centres = 10 * np.eye(4)
    label = np.repeat(np.arange(4), per_blob)
    return (centres[label] + rng.normal(size=(len(label), 4))).astype(np.float32), label


def test_a_linear_probe_separates_blobs_and_not_noise():
    rng = np.random.default_rng(0)
    x, label = blobs(rng)
    assert linear_probe(x, blobs(rng)[0], label, label) == 1.0
    noise = rng.normal(size=x.shape)
    assert linear_probe(noise, rng.normal(size=x.shape), label, label) < 0.5
    assert linear_probe(x[:60], x[:60], label[:60], label[:60]) == 1.0  # one task alone


def test_the_mixture_finds_how_many_clusters_there_are():
    x, label = blobs(np.random.default_rng(0))
    clusters = fit_clusters(x, most=12, seed=0)
    assert clusters.mean.shape == (4, 4)
    snapped = np.asarray(jax.vmap(clusters)(x))
    for blob in range(4):
        own = snapped[label == blob]
        assert (own == own[0]).all()
        np.testing.assert_allclose(own[0], x[label == blob].mean(axis=0), atol=0.2)


def test_the_likelihood_of_a_cluster_by_hand():
    roots = jnp.array([[[1.0]], [[0.5]]])  # sigma 1 and 2
    clusters = Clusters(jnp.log(jnp.array([0.5, 0.5])), jnp.zeros((2, 1)), roots)
    found = clusters.log_likelihood(jnp.array([2.0]))

    def normal(sigma):
        return np.log(0.5) - np.log(sigma) - 0.5 * (2 / sigma) ** 2

    np.testing.assert_allclose(found, [normal(1), normal(2)], rtol=1e-6)
    assert clusters.index(jnp.array([2.0])) == 1
    assert clusters.index(jnp.array([0.5])) == 0


def test_the_trajectory_tells_the_task_and_the_state_does_not():
    found = probe(trained(), *buffers(), STATE_INDEX, seed=0)
    assert json.loads(json.dumps(found)) == found
    assert found["linear_probe"]["20"] > 0.9
    assert found["linear_probe"]["1"] < 0.6
    assert max(found["raw"]["linear_probe"].values()) < 0.6
    assert found["clustering"]["nmi"] > 0.5 > found["raw"]["clustering"]["nmi"]
    assert found["reconstruction"]["masked_state"] < 0.5  # of the variance
    assert found["z"]["z/std"] > 0.3
    assert probe(trained(), *buffers(), STATE_INDEX, seed=0) == found
