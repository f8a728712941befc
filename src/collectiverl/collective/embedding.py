"""The `z` of stored steps under each conditioning, and the untrained collective that goes with it."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from collectiverl.collective.policy import EMBEDDED, Collective, Conditioning, one_hot
from collectiverl.data.episodes import EpisodeTable
from collectiverl.nn.normalizer import Normalizer
from collectiverl.representation.clusters import Clusters, fit_clusters
from collectiverl.representation.context import encode
from collectiverl.representation.encoder import Encoder
from collectiverl.sac.agent import SACConfig, init_agent
from collectiverl.types import EnvSpec, UserError

ZEROS_DIM = 1  # something to condition on that says nothing
CLUSTERED = 5_000  # embeddings that the mixture is fitted to


def embed(
    table: EpisodeTable,
    conditioning: Conditioning,
    encoder: Encoder | None,
    clusters: Clusters | None,
    tasks: Sequence[str],
    state_index: Sequence[int],
) -> Float[np.ndarray, "M Z"]:
    """The embedding of each stored step, as the policy will have it when it acts there."""
    if conditioning == "task_id":
        return np.repeat(one_hot(table.tasks, tasks), table.length, axis=0)
    if conditioning == "zeros":
        return np.zeros((int(table.length.sum()), ZEROS_DIM), np.float32)
    assert encoder is not None
    z = encode(encoder, table, state_index, readout="last_state" if conditioning == "last_state" else "cls")
    return z if clusters is None else np.asarray(jax.vmap(clusters)(jnp.asarray(z)))


def prepare(
    train: EpisodeTable,
    encoder: Encoder | None,
    conditioning: Conditioning,
    sac: SACConfig,
    spec: EnvSpec,
    *,
    seed: int,
) -> tuple[Collective, Float[np.ndarray, "M Z"]]:
    """A collective with fresh networks and fitted normaliser, and the embeddings of the training steps.

    Raises:
        UserError: the conditioning reads trajectories and there is no encoder.
    """
    if conditioning in EMBEDDED and encoder is None:
        raise UserError(
            f"--conditioning {conditioning} needs a trajectory transformer: run train-transformer first"
        )
    tasks = tuple(dict.fromkeys(train.tasks))
    used = encoder if conditioning in EMBEDDED else None
    clusters = None
    if conditioning == "cluster":
        z = embed(train, "cls", used, None, tasks, spec.state_index)
        chosen = np.random.default_rng(seed).permutation(len(z))[:CLUSTERED]
        clusters = fit_clusters(z[chosen], most=2 * len(tasks) + 10, seed=seed)
    z = embed(train, conditioning, used, clusters, tasks, spec.state_index)
    states = np.concatenate([e.obs[:-1][:, list(spec.state_index)] for e in train])
    features = np.concatenate([z, states], axis=1)
    agent = init_agent(features.shape[1], spec.action_dim, sac, jax.random.key(seed))
    if sac.normalize_obs:
        normalizer = Normalizer.identity(features.shape[1]).update(features)
        agent = eqx.tree_at(lambda a: a.normalizer, agent, normalizer)
    collective = Collective(
        agent=agent,
        encoder=used,
        clusters=clusters,
        conditioning=conditioning,
        tasks=tasks,
        state_index=spec.state_index,
    )
    return collective, z
