"""Several films side by side, as one."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from collectiverl.evaluation.encode import encoder, read_frames

GAP = 4  # pixels between two tiles; even, as H.264 wants its sizes
HOLD = 1.0  # seconds that the last picture stays


def columns_for(count: int) -> int:
    """As many as leave the fewest places empty, of those that make the picture wide rather than high."""
    square = math.ceil(math.sqrt(count))
    return min(range(square, 2 * square), key=lambda n: (-count % n, n))


def write_grid(
    tiles: Sequence[Path], path: Path, suffix: str, rate: Fraction, title: str, *, crf: int = 23
) -> None:
    """All tiles play at once from their beginnings; one that has ended shows its last frame.

    Args:
        tiles: films of one size and rate.
        path: of the file.
        suffix: `.mp4` or `.gif`.
        rate: frames a second, of the tiles too.
        title: of the film.
        crf: of H.264, see `encode.encoder`.
    """
    columns = columns_for(len(tiles))
    latest: list[np.ndarray | None] = [None] * len(tiles)
    with encoder(path, suffix, rate, title, crf=crf) as write:
        picture = None
        for frames in zip_longest(*map(read_frames, tiles)):
            latest = [old if new is None else new for old, new in zip(latest, frames, strict=True)]
            picture = _tiled([frame for frame in latest if frame is not None], columns)
            write(picture)
        if picture is not None:
            for _ in range(math.ceil(HOLD * rate)):
                write(picture)


def _tiled(frames: Sequence[np.ndarray], columns: int) -> UInt8[np.ndarray, "down across 3"]:
    height, width, _ = frames[0].shape
    rows = -(-len(frames) // columns)
    size = rows * height + (rows - 1) * GAP, columns * width + (columns - 1) * GAP
    whole = np.full((*size, 3), 255, np.uint8)
    for i, frame in enumerate(frames):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        whole[top : top + height, left : left + width] = frame
    return whole
