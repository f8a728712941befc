"""Embeddings in use: of running windows step by step, and of recorded episodes at once."""

from collections.abc import Callable, Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl.data.episodes import EpisodeTable
from collectiverl.representation.batches import Rows, gather, pack
from collectiverl.representation.encoder import Encoder, Readout
from collectiverl.types import Window

AT_ONCE = 100_000  # pairs of places in one pass over whole episodes: about what attention keeps of them


def reading(encoder: Encoder, readout: Readout) -> Callable[[Window], Float[Array, "*batch Z"]]:
    """What is taken for `z`: the CLS token's output, or the last state's."""
    return encoder if readout == "cls" else encoder.last_state


# -- running windows ---------------------------------------------------------------------------------------


def begin_windows(encoder: Encoder, num_envs: int, steps: int | None = None) -> Window:
    """Empty windows of so many steps; None: of the encoder's."""
    size = steps or encoder.window
    return Window(
        jnp.zeros((num_envs, size, encoder.scales.state_dim)),
        jnp.zeros((num_envs, size, encoder.action_dim)),
        jnp.zeros((num_envs, size)),
        jnp.zeros((num_envs, size), bool),
    )


def push(windows: Window, latest: Window, begins: Bool[Array, "N"]) -> Window:
    """Windows that end with one more step (`latest`, windows of length 1); those that begin are emptied first."""
    kept = windows._replace(mask=windows.mask & ~begins[:, None])
    return jax.tree.map(lambda column, x: jnp.concatenate([column[:, 1:], x], axis=1), kept, latest)


# -- recorded episodes -------------------------------------------------------------------------------------
# Windows are cut out on the host: one program then serves buffers of all lengths.


@eqx.filter_jit
def _embed(encoder: Encoder, windows: Window, readout: Readout) -> Float[Array, "B Z"]:
    return reading(encoder, readout)(windows)


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
    embed = partial(_embed, encoder, readout=readout)
    return in_batches(embed, rows, first, end, context, encoder.window, batch)


def in_batches(
    function: Callable[[Window], Array], rows: Rows, first, end, context, size: int, batch: int = 512
) -> Float[np.ndarray, "B ..."]:
    """`function` of windows by row numbers, `batch` at a time, the last ones filled up to be compiled once."""
    rows = Rows(*map(np.asarray, rows))
    places = np.stack([first, end, context]).astype(np.int32)
    chunks = (places[:, i : i + batch] for i in range(0, places.shape[1], batch))
    filled = (np.pad(chunk, ((0, 0), (0, batch - chunk.shape[1])), mode="edge") for chunk in chunks)
    done = [np.asarray(function(_on_device(gather(rows, *chunk, size)))) for chunk in filled]
    return np.concatenate(done)[: places.shape[1]]


def _on_device(windows: Window) -> Window:
    return Window(*map(jnp.asarray, windows))


@eqx.filter_jit
def _embed_every(encoder: Encoder, windows: Window) -> Float[Array, "B L Z"]:
    return encoder.every(windows)


def embed_every(
    encoder: Encoder, table: EpisodeTable, state_index: Sequence[int]
) -> Float[np.ndarray, "steps Z"]:
    """The embedding at each state that has an action, of all that lies behind it, one pass an episode."""
    data = pack([table], state_index)
    rows = Rows(*map(np.asarray, data.rows))
    size = int(data.length.max())
    count = max(1, AT_ONCE // size**2)
    found: list[np.ndarray] = []
    for i in range(0, len(data.first), count):
        first, length = data.first[i : i + count], data.length[i : i + count]
        filled = np.pad(first, (0, count - len(first)), mode="edge")
        # what lies behind an episode's end is another's, and its embeddings are not used
        windows = gather(rows, filled, filled + size - 1, np.full_like(filled, size), size)
        z = np.asarray(_embed_every(encoder, _on_device(windows)))
        found += [part[:n] for part, n in zip(z, length, strict=False)]
    return np.concatenate(found)
