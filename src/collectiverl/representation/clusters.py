"""Clusters of embeddings that nobody counted beforehand: a Dirichlet-process mixture of Gaussians."""

import warnings

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

MIN_WEIGHT = 0.01  # components below this share of the data are not counted as clusters


class Clusters(eqx.Module):
    """A mixture of K Gaussians; maps an embedding to the mean of its likeliest one, usable in its place."""

    log_weight: Float[Array, "K"]
    mean: Float[Array, "K Z"]
    root: Float[Array, "K Z Z"]  # R with precision R R^T

    @classmethod
    def blank(cls, count: int, dim: int) -> "Clusters":
        """In the shape of `count` clusters, to be filled from a file."""
        return cls(jnp.zeros(count), jnp.zeros((count, dim)), jnp.zeros((count, dim, dim)))

    def log_likelihood(self, z: Float[Array, "Z"]) -> Float[Array, "K"]:
        """Of `z` with each cluster, up to a constant."""
        whitened = jnp.einsum("kz,kzw->kw", z[None] - self.mean, self.root)
        half_log_det = jnp.log(jnp.diagonal(self.root, axis1=1, axis2=2)).sum(axis=1)
        return self.log_weight + half_log_det - 0.5 * jnp.sum(whitened**2, axis=1)

    def index(self, z: Float[Array, "Z"]) -> Array:
        return jnp.argmax(self.log_likelihood(z))

    def __call__(self, z: Float[Array, "Z"]) -> Float[Array, "Z"]:
        return self.mean[self.index(z)]


def fit_clusters(z: Float[np.ndarray, "B Z"], *, most: int, seed: int) -> Clusters:
    """At most `most` clusters; how many there are, the mixture decides (Blei and Jordan 2006)."""
    from sklearn.exceptions import ConvergenceWarning  # here: a second to import, for every command line
    from sklearn.mixture import BayesianGaussianMixture

    mixture = BayesianGaussianMixture(
        n_components=min(most, len(z)),
        weight_concentration_prior_type="dirichlet_process",
        reg_covar=1e-4,
        max_iter=200,
        random_state=seed,
    )
    with (
        warnings.catch_warnings()
    ):  # a bound still rising after 200 rounds separates the clusters all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(z.astype(np.float64))
    used = mixture.weights_ >= min(MIN_WEIGHT, mixture.weights_.max())
    arrays = np.log(mixture.weights_), mixture.means_, mixture.precisions_cholesky_
    return Clusters(*(jnp.asarray(array[used], jnp.float32) for array in arrays))
