"""What tells the collective its tasks apart: one class a conditioning.

A conditioning says `z` twice, and both must agree: of stored episodes, for learning, and of running ones, for acting.
To add one, write its class and name it in `ConditioningName`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl.data.episodes import EpisodeTable
from collectiverl.representation.clusters import Clusters, fit_clusters
from collectiverl.representation.context import Context, encode
from collectiverl.representation.encoder import Encoder, Readout
from collectiverl.types import UserError

ConditioningName = Literal["cls", "last_state", "cluster", "task_id", "zeros"]
ZEROS_DIM = 1  # something to condition on that says nothing
CLUSTERED = 5_000  # embeddings that the mixture is fitted to


@runtime_checkable
class Conditioner(Protocol):
    """Says `z` of N running trajectories. Call `embed`, `acted`, `observe` in turn; `reset` where one begins."""

    def embed(self, obs: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]: ...

    def acted(self, actions: Float[np.ndarray, "N A"]) -> None: ...

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None: ...

    def reset(self, mask: Bool[np.ndarray, "N"]) -> None: ...


class Conditioning(eqx.Module):
    """What tells the tasks apart; it is saved with the collective."""

    name: ClassVar[ConditioningName]
    reads: ClassVar[bool]  # the trajectory, through an encoder

    @property
    def reader(self) -> Encoder | None:
        """The encoder that reads the trajectory; None: nothing does."""
        return None

    @classmethod
    @abstractmethod
    def fit(
        cls, table: EpisodeTable, encoder: Encoder | None, state_index: Sequence[int], seed: int
    ) -> "Conditioning":
        """For the tasks of these training episodes.

        Raises:
            UserError: it reads trajectories and there is no encoder.
        """

    @abstractmethod
    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        """The embedding of each stored step, as the policy will have it when it acts there."""

    @abstractmethod
    def follow(self, num_envs: int, state_index: Sequence[int], tasks: Sequence[str]) -> Conditioner:
        """Live, in so many environments; `tasks` are those that they play, for a conditioning that is told."""

    def about(self) -> dict[str, Any]:
        """What `blank` needs beside the encoder's settings."""
        return {}

    @classmethod
    @abstractmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "Conditioning":
        """In the shape of a saved one, to be filled from a file."""


class CLS(Conditioning):
    """The CLS token of the trajectory transformer, which stays as it is."""

    name: ClassVar[ConditioningName] = "cls"
    reads: ClassVar[bool] = True
    readout: ClassVar[Readout] = "cls"
    encoder: Encoder

    @classmethod
    def fit(
        cls, table: EpisodeTable, encoder: Encoder | None, state_index: Sequence[int], seed: int
    ) -> "CLS":
        return cls(_needed(encoder, cls.name))

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return encode(self.encoder, table, state_index, readout=self.readout)

    def follow(self, num_envs: int, state_index: Sequence[int], tasks: Sequence[str]) -> Conditioner:
        return Context(self.encoder, state_index, num_envs, readout=self.readout)

    @classmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "CLS":
        return cls(_needed(encoder, cls.name))


class LastState(CLS):
    """The output of the last state's own token, in place of CLS'."""

    name: ClassVar[ConditioningName] = "last_state"
    readout: ClassVar[Readout] = "last_state"


class Cluster(Conditioning):
    """The mean of the cluster that the CLS token lies in."""

    name: ClassVar[ConditioningName] = "cluster"
    reads: ClassVar[bool] = True
    encoder: Encoder
    clusters: Clusters

    @property
    def reader(self) -> Encoder:
        return self.encoder

    @classmethod
    def fit(
        cls, table: EpisodeTable, encoder: Encoder | None, state_index: Sequence[int], seed: int
    ) -> "Cluster":
        encoder = _needed(encoder, cls.name)
        z = encode(encoder, table, state_index)
        chosen = np.random.default_rng(seed).permutation(len(z))[:CLUSTERED]
        return cls(encoder, fit_clusters(z[chosen], most=2 * len(set(table.tasks)) + 10, seed=seed))

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return np.asarray(jax.vmap(self.clusters)(jnp.asarray(encode(self.encoder, table, state_index))))

    def follow(self, num_envs: int, state_index: Sequence[int], tasks: Sequence[str]) -> Conditioner:
        return _ClusterContext(Context(self.encoder, state_index, num_envs), self.clusters)

    def about(self) -> dict[str, Any]:
        return {"clusters": list(self.clusters.mean.shape)}

    @classmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "Cluster":
        return cls(_needed(encoder, cls.name), Clusters.blank(*about["clusters"]))


class _ClusterContext:
    """A context whose embedding is replaced by its cluster's mean."""

    def __init__(self, context: Context, clusters: Clusters):
        self.context, self.clusters = context, clusters
        self.acted, self.observe, self.reset = context.acted, context.observe, context.reset

    def embed(self, obs: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]:
        return jax.vmap(self.clusters)(self.context.embed(obs))


class TaskId(Conditioning):
    """The one-hot task: told, not found out. A task that is not known is all zeros."""

    name: ClassVar[ConditioningName] = "task_id"
    reads: ClassVar[bool] = False
    tasks: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def fit(
        cls, table: EpisodeTable, encoder: Encoder | None, state_index: Sequence[int], seed: int
    ) -> "TaskId":
        return cls(tuple(dict.fromkeys(table.tasks)))

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return np.repeat(one_hot(table.tasks, self.tasks), table.length, axis=0)

    def follow(self, num_envs: int, state_index: Sequence[int], tasks: Sequence[str]) -> Conditioner:
        if len(tasks) != num_envs:
            raise UserError(
                "this collective is conditioned on the task id: say which task each environment plays"
            )
        return Constant(one_hot(tasks, self.tasks))

    def about(self) -> dict[str, Any]:
        return {"known": list(self.tasks)}

    @classmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "TaskId":
        return cls(tuple(about["known"]))


class Zeros(Conditioning):
    """Nothing at all: what the state alone tells."""

    name: ClassVar[ConditioningName] = "zeros"
    reads: ClassVar[bool] = False

    @classmethod
    def fit(
        cls, table: EpisodeTable, encoder: Encoder | None, state_index: Sequence[int], seed: int
    ) -> "Zeros":
        return cls()

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return np.zeros((int(table.length.sum()), ZEROS_DIM), np.float32)

    def follow(self, num_envs: int, state_index: Sequence[int], tasks: Sequence[str]) -> Conditioner:
        return Constant(np.zeros((num_envs, ZEROS_DIM), np.float32))

    @classmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "Zeros":
        return cls()


class Constant:
    """The same `z` whatever happens."""

    def __init__(self, z: Float[np.ndarray, "N Z"]):
        self.z = jnp.asarray(z)

    def embed(self, obs: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]:
        return self.z

    def acted(self, actions: Float[np.ndarray, "N A"]) -> None:
        pass

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        pass

    def reset(self, mask: Bool[np.ndarray, "N"]) -> None:
        pass


CONDITIONINGS: dict[str, type[Conditioning]] = {c.name: c for c in (CLS, LastState, Cluster, TaskId, Zeros)}
assert tuple(CONDITIONINGS) == get_args(ConditioningName)


def one_hot(tasks: Sequence[str], known: Sequence[str]) -> Float[np.ndarray, "N K"]:
    """Each task's place among the known ones; an unknown task is all zeros."""
    return np.asarray([[float(task == k) for k in known] for task in tasks], np.float32)


def _needed(encoder: Encoder | None, name: str) -> Encoder:
    if encoder is None:
        raise UserError(
            f"the conditioning {name} needs a trajectory transformer: run train-transformer first"
        )
    return encoder
