"""How well the encoder tells tasks apart on episodes that it was not trained on.

Only here is it known which task an episode is of: to judge, never to train.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from collectiverl.data.episodes import EpisodeTable
from collectiverl.representation import losses
from collectiverl.representation.batches import Pack, Rows, gather, pack
from collectiverl.representation.clusters import fit_clusters
from collectiverl.representation.context import embed_all
from collectiverl.representation.encoder import Encoder
from collectiverl.representation.tokens import part_names, parts_of

CONTEXTS = (1, 2, 5, 10, 20)  # steps seen
SAMPLES = 1_500  # windows, of each side of the split and each context
CLUSTERED = 1_000  # windows; a silhouette's cost is their square


class Sample(NamedTuple):
    """Windows by row number, and the task each is of."""

    first: Int[np.ndarray, "B"]
    end: Int[np.ndarray, "B"]
    context: Int[np.ndarray, "B"]
    task: np.ndarray


def probe(
    encoder: Encoder,
    train_tables: Sequence[EpisodeTable],
    validation_tables: Sequence[EpisodeTable],
    state_index: Sequence[int],
    seed: int,
) -> dict:
    """Probes, clusterings and reconstruction errors, as plain JSON.

    `linear_probe` is the accuracy on held-out episodes by steps seen, all at an episode's start as in use;
    `anywhere` is that of full windows at random places; `raw` are the same numbers on the standardised
    observation's state alone; errors are in squared standard deviations.
    """
    rng = np.random.default_rng(seed)
    sides = [(pack(tables, state_index), _tasks(tables)) for tables in (train_tables, validation_tables)]
    by_context, raw_by_context = {}, {}
    for context in (c for c in CONTEXTS if c <= encoder.window):
        samples = [_at_start(*side, context, rng) for side in sides]
        by_context[str(context)], raw_by_context[str(context)] = _probe_both(encoder, sides, samples)
    samples = [_anywhere(*side, encoder.window, rng) for side in sides]
    anywhere, raw_anywhere = _probe_both(encoder, sides, samples)
    (held_out, _), chosen = sides[1], Sample(*(column[:CLUSTERED] for column in samples[1]))
    z, raw = _embed(encoder, held_out, chosen), _states(encoder, held_out, chosen)
    return {
        "tasks": len(set(sides[1][1])),
        "chance": 1 / len(set(sides[0][1])),
        "linear_probe": by_context | {"anywhere": anywhere},
        "clustering": _clustering(z, chosen.task, seed) | {"mixture": _mixture(z, chosen.task, seed)},
        "reconstruction": _reconstruction(encoder, held_out.rows, chosen, seed),
        "z": {name: float(value) for name, value in losses.spread(jnp.asarray(z)).items()},
        "raw": {
            "linear_probe": raw_by_context | {"anywhere": raw_anywhere},
            "clustering": _clustering(raw, chosen.task, seed),
        },
    }


def _tasks(tables: Sequence[EpisodeTable]) -> np.ndarray:
    return np.asarray([task for table in tables for task in table.tasks])


# -- which windows -----------------------------------------------------------------------------------------


def _at_start(data: Pack, tasks: np.ndarray, context: int, rng: np.random.Generator) -> Sample:
    """The first `context` steps of episodes that have as many."""
    long = np.flatnonzero(data.length >= context - 1)
    episode = rng.permutation(long)[:SAMPLES]
    first = data.first[episode]
    return Sample(first, first + context - 1, np.full(len(episode), context), tasks[episode])


def _anywhere(data: Pack, tasks: np.ndarray, size: int, rng: np.random.Generator) -> Sample:
    """Windows that end at any state."""
    episode = rng.integers(0, len(data.length), SAMPLES)
    first = data.first[episode]
    end = first + rng.integers(0, data.length[episode] + 1)
    return Sample(first, end, np.full(SAMPLES, size), tasks[episode])


def _embed(encoder: Encoder, data: Pack, sample: Sample) -> Float[np.ndarray, "B Z"]:
    return embed_all(encoder, data.rows, *sample[:3])


def _states(encoder: Encoder, data: Pack, sample: Sample) -> Float[np.ndarray, "B S"]:
    return np.asarray(jax.vmap(encoder.state_scale)(data.rows.state[sample.end]))


# -- probes and clusterings --------------------------------------------------------------------------------


def _probe_both(encoder: Encoder, sides, samples: Sequence[Sample]) -> tuple[float, float]:
    """Accuracy on embeddings, and on the raw last states."""
    tasks = [sample.task for sample in samples]
    pairs = list(zip((data for data, _ in sides), samples, strict=True))
    embedded = [_embed(encoder, data, sample) for data, sample in pairs]
    raw = [_states(encoder, data, sample) for data, sample in pairs]
    return linear_probe(*embedded, *tasks), linear_probe(*raw, *tasks)


def linear_probe(x: np.ndarray, held_out_x: np.ndarray, task: np.ndarray, held_out_task: np.ndarray) -> float:
    """Share of the held-out rows whose task logistic regression finds; one task alone is always found."""
    if len(set(task)) == 1:
        return float(np.mean(held_out_task == task[0]))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():  # separable classes never converge, and are told apart all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(model.fit(x, task).score(held_out_x, held_out_task))


def _clustering(x: np.ndarray, task: np.ndarray, seed: int) -> dict[str, float]:
    """How well as many k-means clusters as there are tasks agree with them, and how apart the tasks lie."""
    kinds = len(set(task))
    with warnings.catch_warnings():  # fewer distinct points than tasks: a collapse, which the numbers show
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(kinds, random_state=seed).fit_predict(x)
    apart = silhouette_score(x, task) if 1 < kinds < len(x) else 0.0
    return _agreement(found, task) | {"silhouette": float(apart)}


def _agreement(found: np.ndarray, task: np.ndarray) -> dict[str, float]:
    counts = np.unique(np.stack([found, np.unique(task, return_inverse=True)[1]]), axis=1, return_counts=True)
    (cluster, _), size = counts
    largest = sum(size[cluster == c].max() for c in set(cluster))
    return {
        "nmi": float(normalized_mutual_info_score(task, found)),
        "ari": float(adjusted_rand_score(task, found)),
        "purity": float(largest / len(task)),
    }


def _mixture(z: np.ndarray, task: np.ndarray, seed: int) -> dict[str, float]:
    """The same agreement for clusters whose number nobody gave."""
    clusters = fit_clusters(z, most=2 * len(set(task)) + 10, seed=seed)
    found = np.asarray(jax.vmap(clusters.index)(jnp.asarray(z)))
    return _agreement(found, task) | {"clusters": len(clusters.mean)}


# -- reconstruction ----------------------------------------------------------------------------------------


@eqx.filter_jit
def _errors(
    encoder: Encoder, rows: Rows, first: Array, end: Array, context: Array, key: PRNGKeyArray
) -> tuple[Float[Array, "parts"], Float[Array, ""]]:
    """Mean squared error at masked places, of each part, and of the last state when that alone is hidden."""
    windows = encoder.standardize(gather(rows, first, end, context, encoder.window))
    others = jax.tree.map(lambda x: jnp.roll(x, 1, axis=1), windows)
    hidden, places = losses.corrupt(windows, others, key)
    truth = parts_of(windows, encoder.rewards)
    errors = losses.reconstruction_errors(encoder.read(hidden).parts, truth, places)
    blind = windows._replace(state=windows.state.at[-1].set(0))
    last = encoder.read(blind).parts[-1][-1]
    return errors, jnp.mean((last - windows.state[-1]) ** 2)


def _reconstruction(encoder: Encoder, rows: Rows, sample: Sample, seed: int) -> dict[str, float]:
    masked, last = _errors(encoder, rows, *map(jnp.asarray, sample[:3]), key=jax.random.key(seed))
    names = part_names(encoder.rewards)
    by_part = {f"masked_{name}": float(error) for name, error in zip(names, masked, strict=True)}
    return {"masked": float(masked.mean()), **by_part, "last_state": float(last)}
