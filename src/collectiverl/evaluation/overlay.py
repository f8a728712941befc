"""What is written into the pictures of a film: task, goal, step, success, and the embedding as a strip."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from collectiverl.envs.suite import Frame

SUCCESS_GREEN = (60, 200, 80)
INK, SHADE = (255, 255, 255), (20, 22, 28)
BELOW, ABOVE = np.array([230, 120, 20]), np.array([50, 110, 220])  # of z: told apart by all kinds of eyes
MIDDLE = np.array([240, 240, 240])


def framed(frame: Frame) -> Frame:
    """A green frame around the picture."""
    border = max(2, min(frame.shape[:2]) // 80)
    whole = np.empty_like(frame)
    whole[:] = SUCCESS_GREEN
    whole[border:-border, border:-border] = frame[border:-border, border:-border]
    return whole


def written(frame: Frame, lines: Sequence[str], z: Float[np.ndarray, "Z"] | None) -> Frame:
    """The lines at the top; at the bottom one cell for each entry of `z`: orange below 0, blue above."""
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture, "RGBA")
    size = max(9, round(min(frame.shape[:2]) * 0.052))
    font, step = _font(size), round(size * 1.3)
    draw.rectangle((0, 0, picture.width, step * len(lines) + size // 2), fill=(*SHADE, 150))
    for i, line in enumerate(lines):
        draw.text((size // 2, size // 4 + i * step), line, fill=INK, font=font)
    shown = np.asarray(picture).copy()
    if z is not None:
        high = max(4, size * 2 // 3)
        edges = np.linspace(0, picture.width, len(z) + 1).round().astype(int)
        for value, left, right in zip(z, edges[:-1], edges[1:], strict=True):
            shown[-high:, left:right] = _shade(float(value))
    return shown


def _shade(value: float) -> np.ndarray:
    share = abs(value) / (1 + abs(value))  # entries of z have no bounds
    return (MIDDLE + share * ((ABOVE if value > 0 else BELOW) - MIDDLE)).astype(np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The one that comes with Matplotlib: no machine is without it."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
