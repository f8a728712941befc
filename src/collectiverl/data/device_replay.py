"""The replay memory on the device that learns: rows go there once, and batches are gathered there."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from collectiverl.data.replay import Replay, Row

LARGE = (
    "obs",
    "action",
    "advice",
)  # columns on the device; the others decide on the host which rows are drawn


class DeviceReplay(Replay):
    """A ring whose observations and actions lie on JAX's default device.

    It draws the same transitions as `Replay`. Only their places cross to the device with each batch, in place of the
    transitions themselves.
    """

    def __init__(self, capacity: int, experts: int, envs: int, obs_dim: int, action_dim: int):
        super().__init__(capacity, experts, envs, obs_dim, action_dim)
        self._replace({name: jnp.zeros(getattr(self.data, name).shape, jnp.float32) for name in LARGE})

    def _replace(self, columns: dict[str, jax.Array]) -> None:
        self.data = self.data._replace(**columns)

    def add(self, row: Row) -> None:
        place = jnp.asarray(self.next)
        self._replace({name: _put(getattr(self.data, name), place, getattr(row, name)) for name in LARGE})
        for name in set(Row._fields) - set(LARGE):
            getattr(self.data, name)[self.next] = getattr(row, name)
        self._advance()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.next, self.size = int(state["next"]), int(state["size"])
        for name, column in self.data._asdict().items():
            if name in LARGE:
                self._replace({name: column.at[: self.size].set(state[name])})
            else:
                column[: self.size] = state[name]


@partial(jax.jit, donate_argnums=0)  # else each step would copy the whole memory
def _put(column: jax.Array, place: jax.Array, values: jax.Array) -> jax.Array:
    return column.at[place].set(values)


def replay_kind() -> type[Replay]:
    """Where JAX computes on the host, its arrays would only be copies."""
    device = jax.config.jax_default_device or jax.devices()[0]  # type: ignore[attr-defined]
    return Replay if device.platform == "cpu" else DeviceReplay
