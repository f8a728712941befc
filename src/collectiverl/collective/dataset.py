"""The labelled steps that the collective learns from, as columns, each with its embedding; windows on demand."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collectiverl.data.episodes import EpisodeTable
from collectiverl.types import AnyArray, Window


class Rows(NamedTuple):
    """Labelled steps as columns."""

    z: Float[AnyArray, "B Z"]
    state: Float[AnyArray, "B S"]
    mean: Float[AnyArray, "B A"]
    log_std: Float[AnyArray, "B A"]
    action: Float[AnyArray, "B A"]
    reward: Float[AnyArray, "B"]
    next_z: Float[AnyArray, "B Z"]
    next_state: Float[AnyArray, "B S"]
    has_next: Float[AnyArray, "B"]  # 0 at an episode's last step
    teacher_q: Float[AnyArray, "B"]  # nan: the teacher has none

    @property
    def features(self) -> Float[Array, "B F"]:
        return jnp.concatenate([self.z, self.state], axis=-1)

    @property
    def next_features(self) -> Float[Array, "B F"]:
        return jnp.concatenate([self.next_z, self.next_state], axis=-1)


def played(table: EpisodeTable) -> EpisodeTable:
    """Without the random phase: nobody cares how well states are imitated that no policy visits."""
    wanted = [i for i, row in enumerate(table.about) if row["phase"] != "random"]
    return table.subset(wanted) if wanted else table


class Dataset:
    """The labelled steps of a table, each with its embedding; windows on demand."""

    def __init__(
        self, table: EpisodeTable, z: Float[np.ndarray, "M Z"], state_index: tuple[int, ...], size: int
    ):
        self.table, self.state_index, self.window_size = table, state_index, size
        self.episode = np.repeat(np.arange(len(table)), table.length)
        self.step = np.concatenate([np.arange(n) for n in table.length])
        state = np.concatenate([e.obs[:-1][:, list(state_index)] for e in table])
        last = self.step == table.length[self.episode] - 1
        following = np.arange(len(last)) + ~last
        self.rows = Rows(
            z=z,
            state=state,
            mean=table.column("teacher_mean"),
            log_std=table.column("teacher_log_std"),
            action=table.column("action"),
            reward=table.column("reward"),
            next_z=z[following],
            next_state=state[following],
            has_next=(~last).astype(np.float32),
            teacher_q=table.column("teacher_q", missing=np.nan),
        )

    def __len__(self) -> int:
        return len(self.step)

    def take(self, index: np.ndarray) -> Rows:
        return Rows(*(column[index] for column in self.rows))

    def windows(self, index: np.ndarray) -> Window:
        flat = index.ravel()
        window = self.table.windows(self.episode[flat], self.step[flat], self.window_size, self.state_index)
        return Window(*(x.reshape(*index.shape, *x.shape[1:]) for x in window))
