"""Files of moving pictures: H.264 in MP4, and GIF, which plays where no video does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from collectiverl.envs.suite import Frame
from collectiverl.types import UserError

SUFFIXES = (".mp4", ".gif")
GIF_COLOURS = 96
# The same frames give the same file: on any number of cores, and without x264's macroblock tree, whose result with
# AVX-512 depends on what was in memory before.
SAME_FILE = {"preset": "veryfast", "threads": "1", "x264-params": "no-mbtree=1"}
FEWEST_TICKS = 2  # hundredths of a second that browsers show a frame of a GIF, at least

Write = Callable[[Frame], None]


@contextmanager
def encoder(path: Path, suffix: str, rate: Fraction, title: str, *, crf: int = 23) -> Iterator[Write]:
    """A function that appends a frame to the file; the frames are all of one size.

    Args:
        suffix: one of `SUFFIXES`, which `path` need not have.
        rate: frames a second. A GIF counts in hundredths of a second, and shows each for at least two.
        title: in the metadata of an MP4 file.
        crf: of H.264: 23 is its usual quality, larger is smaller.
    """
    kinds = {".mp4": _mp4(path, rate, title, crf), ".gif": _gif(path, rate)}
    with kinds[suffix] as write:
        yield write


def check_suffix(name: str) -> str:
    """The kind of file that a name asks for.

    Raises:
        UserError: it is none of those that can be written.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{name} is no film that can be written: choose one of {', '.join(SUFFIXES)}")
    return suffix


@contextmanager
def _mp4(path: Path, rate: Fraction, title: str, crf: int) -> Iterator[Write]:
    options = {"movflags": "+faststart"}  # so that browsers can play it while it loads
    with av.open(_address(path), "w", format="mp4", options=options) as video:
        video.metadata["title"] = title
        stream = video.add_stream("libx264", rate=rate, options={"crf": str(crf), **SAME_FILE})
        stream.pix_fmt = "yuv420p"

        def write(frame: Frame) -> None:
            if not stream.codec_context.is_open:
                stream.height, stream.width = frame.shape[:2]
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

        yield write
        video.mux(stream.encode())


@contextmanager
def _gif(path: Path, rate: Fraction) -> Iterator[Write]:
    """All frames share the colours of the first, middle and last one, so that what stands still is stored once."""
    frames: list[Image.Image] = []
    yield lambda frame: frames.append(Image.fromarray(np.ascontiguousarray(frame)))
    if not frames:
        return
    sample = np.concatenate([np.asarray(frames[i]) for i in {0, len(frames) // 2, len(frames) - 1}])
    palette = Image.fromarray(sample).quantize(GIF_COLOURS)
    first, *others = (f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    ticks = max(FEWEST_TICKS, round(100 / rate))
    first.save(path, "GIF", save_all=True, append_images=others, duration=10 * ticks, loop=0, optimize=True)


def read_frames(path: Path) -> Iterator[Frame]:
    """The frames of a film, one after another."""
    with av.open(_address(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            yield frame.to_ndarray(format="rgb24")


def _address(path: Path) -> str:
    """What FFmpeg opens as this file. Without `file:` it takes what stands before a colon for a protocol."""
    return f"file:{path}"
