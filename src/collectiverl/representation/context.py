"""Embeddings in use: of running trajectories step by step, and of recorded episodes at once."""

from collections.abc import Callable, Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from collectiverl.data.episodes import EpisodeTable
from collectiverl.representation.batches import Rows, gather, pack
from collectiverl.representation.encoder import Encoder, Readout
from collectiverl.types import Window


def reading(encoder: Encoder, readout: Readout) -> Callable[[Window], Float[Array, "*batch Z"]]:
    """What is taken for `z`: the CLS token's output, or the last state's."""
    return encoder if readout == "cls" else encoder.last_state


@eqx.filter_jit
def _step(
    encoder: Encoder, windows: Window, began: Bool[Array, "N"], latest: Window, readout: Readout
) -> tuple[Window, Float[Array, "N Z"]]:
    """Empties the windows that begin anew, takes the latest step into all, and embeds them."""
    kept = windows._replace(mask=windows.mask & ~began[:, None])
    latest = latest._replace(
        action=jnp.where(began[:, None], 0, latest.action), reward=jnp.where(began, 0, latest.reward)
    )
    windows = jax.tree.map(
        lambda column, x: jnp.concatenate([column[:, 1:], x[:, None]], axis=1), kept, latest
    )
    return windows, reading(encoder, readout)(windows)


class Context:
    """The running trajectories of `num_envs` environments, on the device.

    Call `embed`, `acted`, `observe` in turn, and `reset` where an episode is over. `windows` are those last embedded.
    """

    def __init__(
        self, encoder: Encoder, state_index: Sequence[int], num_envs: int, *, readout: Readout = "cls"
    ):
        self.encoder, self.state_index = encoder, list(state_index)
        self.readout: Readout = readout
        size, action_dim = encoder.window, encoder.action_dim
        self.windows = Window(
            jnp.zeros((num_envs, size, len(state_index))),
            jnp.zeros((num_envs, size, action_dim)),
            jnp.zeros((num_envs, size)),
            jnp.zeros((num_envs, size), bool),
        )
        self._began = np.ones(num_envs, bool)
        self._action = np.zeros((num_envs, action_dim), np.float32)
        self._reward = np.zeros(num_envs, np.float32)

    def reset(self, mask: Bool[np.ndarray, "N"]) -> None:
        """The environments in `mask` begin a new episode with their next observation."""
        self._began = self._began | mask

    def embed(self, obs: Float[np.ndarray, "N O"]) -> Float[Array, "N Z"]:
        """Takes in the observations, and embeds the windows that end with them."""
        state = np.asarray(obs, np.float32)[:, self.state_index]
        latest = Window(*map(jnp.asarray, (state, self._action, self._reward, np.ones(len(state), bool))))
        began = jnp.asarray(self._began)
        self.windows, z = _step(self.encoder, self.windows, began, latest, self.readout)
        self._began = np.zeros(len(state), bool)
        return z

    def acted(self, actions: Float[np.ndarray, "N A"]) -> None:
        self._action = np.asarray(actions, np.float32)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self._reward = np.asarray(rewards, np.float32)


@eqx.filter_jit
def embed_rows(
    encoder: Encoder,
    rows: Rows,
    first: Int[Array, "B"],
    end: Int[Array, "B"],
    context: Int[Array, "B"],
    readout: Readout = "cls",
) -> Float[Array, "B Z"]:
    """The embeddings of windows given by row numbers."""
    return reading(encoder, readout)(gather(rows, first, end, context, encoder.window))


def encode(
    encoder: Encoder,
    table: EpisodeTable,
    state_index: Sequence[int],
    *,
    batch: int = 256,
    readout: Readout = "cls",
) -> Float[np.ndarray, "steps Z"]:
    """The embedding of the window at each state that has an action, ordered as `table.column("action")`."""
    data = pack([table], state_index)
    first = np.repeat(data.first, data.length)
    end = np.concatenate([f + np.arange(n) for f, n in zip(data.first, data.length, strict=True)])
    return embed_all(encoder, data.rows, first, end, np.full(len(end), encoder.window), batch, readout)


def embed_all(
    encoder: Encoder, rows: Rows, first, end, context, batch: int = 256, readout: Readout = "cls"
) -> Float[np.ndarray, "B Z"]:
    """The embeddings of any number of windows, by row numbers."""
    return in_batches(partial(embed_rows, encoder, rows, readout=readout), first, end, context, batch)


def in_batches(
    function: Callable[..., Array], first, end, context, batch: int = 512
) -> Float[np.ndarray, "B ..."]:
    """`function` of windows by row numbers, `batch` at a time, the last ones filled up to be compiled once."""
    places = np.stack([first, end, context]).astype(np.int32)
    chunks = (places[:, i : i + batch] for i in range(0, places.shape[1], batch))
    filled = (np.pad(chunk, ((0, 0), (0, batch - chunk.shape[1])), mode="edge") for chunk in chunks)
    done = [np.asarray(function(*map(jnp.asarray, chunk))) for chunk in filled]
    return np.concatenate(done)[: places.shape[1]]
