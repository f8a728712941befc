"""How well clusters that nobody named agree with the tasks."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.metrics.cluster import contingency_matrix

from collectiverl.representation.clusters import fit_clusters


def agreement(found: Int[np.ndarray, "B"], task: np.ndarray) -> dict[str, float]:
    """Of clusters with tasks. Purity is the share of rows that are of their cluster's commonest task."""
    return {
        "nmi": float(normalized_mutual_info_score(task, found)),
        "ari": float(adjusted_rand_score(task, found)),
        "purity": float(contingency_matrix(task, found).max(axis=0).sum() / len(task)),
    }


def k_means(x: Float[np.ndarray, "B X"], task: np.ndarray, seed: int) -> dict[str, float]:
    """The agreement of as many clusters as there are tasks, and how far apart the tasks themselves lie."""
    kinds = len(set(task))
    with warnings.catch_warnings():  # fewer distinct points than tasks: a collapse, which the numbers show
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(kinds, random_state=seed).fit_predict(x)
    apart = silhouette_score(x, task) if 1 < kinds < len(x) else 0.0
    return agreement(found, task) | {"silhouette": float(apart)}


def mixture(
    x: Float[np.ndarray, "B X"], task: np.ndarray, seed: int
) -> tuple[dict[str, float], Int[np.ndarray, "B"]]:
    """The agreement of clusters whose number nobody gave, and the cluster of each row."""
    clusters = fit_clusters(x, most=2 * len(set(task)) + 10, seed=seed)
    found = np.asarray(jax.vmap(clusters.index)(jnp.asarray(x)))
    return agreement(found, task) | {"clusters": len(clusters.mean)}, found
