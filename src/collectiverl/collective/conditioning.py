"""The sources of the collective's `z`: one class for each conditioning.

A conditioning computes the embedding `z`: for stored episodes, to learn from, and for running ones, to act. Both must
agree. To add one, write its class, name it in `ConditioningName` and list it in `CONDITIONINGS`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.data.episodes import EpisodeTable
from collectiverl.nn.keys import seeded_key
from collectiverl.representation.clusters import Clusters, fit_clusters
from collectiverl.representation.context import begin_windows, embed_every, encode, push, reading
from collectiverl.representation.encoder import Encoder, EncoderConfig, Readout, init_encoder
from collectiverl.representation.scales import Scales
from collectiverl.types import EnvSpec, UserError, Window

ConditioningName = Literal["own", "tuned", "cls", "last_state", "cluster", "task_id", "zeros"]
ZEROS_DIM = 1  # entries of a `z` that carries no information
CLUSTERED = 5_000  # embeddings that the Gaussian mixture is fitted to, at most


class Source(NamedTuple):
    """All that a conditioning may be made from."""

    table: EpisodeTable  # the training episodes
    spec: EnvSpec
    scales: Scales  # their statistics
    own: EncoderConfig  # settings of an encoder that is trained with the actor
    encoder: Encoder | None  # the trajectory transformer, if there is one
    seed: int

    def transformer(self, name: str) -> Encoder:
        """The trajectory transformer, for a conditioning that needs it."""
        if self.encoder is None:
            raise UserError(
                f"the conditioning {name} needs a trajectory transformer: run train-transformer first, "
                "or pass --conditioning own"
            )
        return self.encoder


class Conditioning(eqx.Module):
    """A source of `z`; it is saved with the collective."""

    name: ClassVar[ConditioningName]
    reads: ClassVar[bool] = False  # it needs the trajectory transformer, which has to be trained first
    learns: ClassVar[bool] = False  # it is trained with the actor

    @property
    def reader(self) -> Encoder | None:
        """The encoder that reads the trajectory; None: there is none."""
        return None

    @classmethod
    @abstractmethod
    def make(cls, source: Source) -> "Conditioning":
        """A conditioning for the tasks of these training episodes.

        Raises:
            UserError: it needs the trajectory transformer, and there is none.
        """

    @abstractmethod
    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        """The embedding of each stored step, as the policy will have it when it acts there."""

    @abstractmethod
    def begin(self, num_envs: int, tasks: Sequence[str]) -> Any:
        """The state of `num_envs` running trajectories; only `task_id` reads `tasks`, the task of each."""

    @abstractmethod
    def step(self, state: Any, latest: Window, begins: Bool[Array, "N"]) -> tuple[Any, Float[Array, "N Z"]]:
        """Takes in one more step of each trajectory (windows of length 1); returns the new state and `z`."""

    def about(self) -> dict[str, Any]:
        """The sizes that `blank` needs, without the encoder's settings."""
        return {}

    @classmethod
    @abstractmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "Conditioning":
        """A conditioning of the shape of a saved one, to be filled from a file."""


class Encoded(Conditioning):
    """A conditioning whose `z` is an encoder's output."""

    encoder: Encoder

    @property
    def reader(self) -> Encoder:
        return self.encoder

    @classmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "Conditioning":
        assert encoder is not None
        return cls(encoder)


# -- an encoder that is trained with the actor -----------------------------------------------------------------


class Own(Encoded):
    """An encoder of the collective's own, trained through the actor's loss from random weights."""

    name: ClassVar[ConditioningName] = "own"
    learns: ClassVar[bool] = True

    @classmethod
    def make(cls, source: Source) -> "Own":
        spec, key = source.spec, seeded_key(source.seed)
        encoder = _fresh(source.own, spec.state_dim, spec.action_dim, key, source.scales.points)
        return cls(eqx.tree_at(lambda e: e.scales, encoder, source.scales))

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return embed_every(self.encoder, table, state_index)

    def every(self, window: Window) -> Float[Array, "*batch L Z"]:
        """The embedding at each step of a segment, in one pass that gradients go through."""
        return self.encoder.every(window)

    def begin(self, num_envs: int, tasks: Sequence[str]) -> Any:
        return self.encoder.begin(num_envs)

    def step(self, state: Any, latest: Window, begins: Bool[Array, "N"]) -> tuple[Any, Float[Array, "N Z"]]:
        return self.encoder.step(state, latest, begins)


class Tuned(Own):
    """Like `own`, but its weights begin as those of the trajectory transformer."""

    name: ClassVar[ConditioningName] = "tuned"
    reads: ClassVar[bool] = True

    @classmethod
    def make(cls, source: Source) -> "Tuned":
        return cls(source.transformer(cls.name))


@eqx.filter_jit
def _fresh(
    config: EncoderConfig, state_dim: int, action_dim: int, key: PRNGKeyArray, points: Sequence[Any]
) -> Encoder:
    return init_encoder(config, state_dim, action_dim, key, points)


# -- the trajectory transformer, frozen ------------------------------------------------------------------------


class CLS(Encoded):
    """The output of the frozen trajectory transformer at its CLS token."""

    name: ClassVar[ConditioningName] = "cls"
    reads: ClassVar[bool] = True
    readout: ClassVar[Readout] = "cls"

    @classmethod
    def make(cls, source: Source) -> "CLS":
        return cls(source.transformer(cls.name))

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return encode(self.encoder, table, state_index, readout=self.readout)

    def begin(self, num_envs: int, tasks: Sequence[str]) -> Window:
        return begin_windows(self.encoder, num_envs)

    def step(
        self, state: Window, latest: Window, begins: Bool[Array, "N"]
    ) -> tuple[Window, Float[Array, "N Z"]]:
        windows = push(state, latest, begins)
        return windows, reading(self.encoder, self.readout)(windows)


class LastState(CLS):
    """The output of the frozen trajectory transformer at the token of the last state."""

    name: ClassVar[ConditioningName] = "last_state"
    readout: ClassVar[Readout] = "last_state"


class Cluster(CLS):
    """The mean of the cluster in which the output of `cls` lies."""

    name: ClassVar[ConditioningName] = "cluster"
    clusters: Clusters

    @classmethod
    def make(cls, source: Source) -> "Cluster":
        encoder, table = source.transformer(cls.name), source.table
        z = encode(encoder, table, source.spec.state_index)
        chosen = np.random.default_rng(source.seed).permutation(len(z))[:CLUSTERED]
        most = 2 * len(set(table.tasks)) + 10
        return cls(encoder, fit_clusters(z[chosen], most=most, seed=source.seed))

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return np.asarray(jax.vmap(self.clusters)(jnp.asarray(super().embed(table, state_index))))

    def step(
        self, state: Window, latest: Window, begins: Bool[Array, "N"]
    ) -> tuple[Window, Float[Array, "N Z"]]:
        windows, z = super().step(state, latest, begins)
        return windows, jax.vmap(self.clusters)(z)

    def about(self) -> dict[str, Any]:
        return {"clusters": list(self.clusters.mean.shape)}

    @classmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "Cluster":
        assert encoder is not None
        return cls(encoder, Clusters.blank(*about["clusters"]))


# -- no encoder -----------------------------------------------------------------------------------------------


class TaskId(Conditioning):
    """The task as a one-hot vector: the policy is told it. An unknown task is all zeros."""

    name: ClassVar[ConditioningName] = "task_id"
    tasks: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def make(cls, source: Source) -> "TaskId":
        return cls(tuple(dict.fromkeys(source.table.tasks)))

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return np.repeat(one_hot(table.tasks, self.tasks), table.length, axis=0)

    def begin(self, num_envs: int, tasks: Sequence[str]) -> Float[Array, "N Z"]:
        if len(tasks) != num_envs:
            raise UserError(
                "this collective is conditioned on the task id: say which task each environment plays"
            )
        return jnp.asarray(one_hot(tasks, self.tasks))

    def step(self, state: Array, latest: Window, begins: Bool[Array, "N"]) -> tuple[Array, Array]:
        return state, state

    def about(self) -> dict[str, Any]:
        return {"known": list(self.tasks)}

    @classmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "TaskId":
        return cls(tuple(about["known"]))


class Zeros(Conditioning):
    """One entry that is always 0: the policy reads nothing but the state, and how it changed."""

    name: ClassVar[ConditioningName] = "zeros"

    @classmethod
    def make(cls, source: Source) -> "Zeros":
        return cls()

    def embed(self, table: EpisodeTable, state_index: Sequence[int]) -> Float[np.ndarray, "steps Z"]:
        return np.zeros((int(table.length.sum()), ZEROS_DIM), np.float32)

    def begin(self, num_envs: int, tasks: Sequence[str]) -> Float[Array, "N Z"]:
        return jnp.zeros((num_envs, ZEROS_DIM))

    def step(self, state: Array, latest: Window, begins: Bool[Array, "N"]) -> tuple[Array, Array]:
        return state, state

    @classmethod
    def blank(cls, encoder: Encoder | None, about: dict[str, Any]) -> "Zeros":
        return cls()


CONDITIONINGS: dict[str, type[Conditioning]] = {
    c.name: c for c in (Own, Tuned, CLS, LastState, Cluster, TaskId, Zeros)
}
assert tuple(CONDITIONINGS) == get_args(ConditioningName)


def one_hot(tasks: Sequence[str], known: Sequence[str]) -> Float[np.ndarray, "N K"]:
    """Each task's place among the known ones; an unknown task is all zeros."""
    return np.asarray([[float(task == k) for k in known] for task in tasks], np.float32)
