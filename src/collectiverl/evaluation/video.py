"""Films of a policy at work: its own loop, recorded."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from collectiverl.envs import make
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.goals import GoalSet
from collectiverl.envs.rollout import Step, steps
from collectiverl.envs.tasks import is_toy
from collectiverl.evaluation.render import Camera, Frame, MetaworldScene, Scene, ToyScene
from collectiverl.types import Policy

METAWORLD_RATE = 80  # steps a second: five of MuJoCo's, of 2.5 ms each
TOY_RATE = 10  # steps a second, which the eye can follow
SUCCESS_GREEN = (60, 200, 80)


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """What is filmed, from where, and how large."""

    episodes: int = 1
    goals: GoalSet | tuple[int, ...] = "all"  # episodes play these in order
    camera: Camera = "corner2"
    width: int = 480  # pixels, even
    height: int = 480
    fps: int = 40  # frames a second at most; films play in real time
    mark_success: bool = True  # a green frame around the picture while the task is solved

    def __post_init__(self) -> None:
        for name in ("episodes", "fps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}={getattr(self, name)} must be at least 1")
        for name in ("width", "height"):
            if getattr(self, name) < 16 or getattr(self, name) % 2:
                raise ValueError(f"--{name}={getattr(self, name)} must be even and at least 16, for H.264")


def record_video(
    policy: Policy, task: str, path: Path, config: VideoConfig | None = None, *, seed: int = 0
) -> Path:
    """Films whole episodes of `policy`, which plays one environment, as H.264 in an MP4 file.

    Returns:
        `path`, which is written whole or not at all.

    Raises:
        UserError: this machine cannot render (the toy tasks need no renderer).
    """
    config = config or VideoConfig()
    envs = make.make_envs(task, 1, goals=config.goals, order="sequential", backend="metaworld")
    with closing(envs), closing(_scene(envs, config)) as scene:
        _write(path, _frames(envs, policy, scene, config, seed), config, _rate(task) / _stride(task, config))
    return path


def _scene(envs: VectorEnv, config: VideoConfig) -> Scene:
    if is_toy(envs.spec.task):
        return ToyScene(config.width, config.height)
    from collectiverl.envs.metaworld import MetaworldVectorEnv  # here: the toy tasks do without Meta-World

    assert isinstance(envs, MetaworldVectorEnv)
    return MetaworldScene(envs, config.camera, config.width, config.height)


def _rate(task: str) -> Fraction:
    return Fraction(TOY_RATE if is_toy(task) else METAWORLD_RATE)


def _stride(task: str, config: VideoConfig) -> int:
    """Steps from one frame to the next."""
    return -(-_rate(task) // config.fps)


def _frames(envs: VectorEnv, policy: Policy, scene: Scene, config: VideoConfig, seed: int) -> Iterator[Frame]:
    """Every `stride`-th step as a picture, and each episode's last."""
    left, stride = config.episodes, _stride(envs.spec.task, config)
    for number, step in enumerate(steps(envs, policy, seed)):
        ended = bool(step.result.done[0])
        if number % stride == 0 or ended:
            yield _picture(scene, step, config)
        left -= ended
        if not left:
            return


def _picture(scene: Scene, step: Step, config: VideoConfig) -> Frame:
    frame = np.ascontiguousarray(scene.draw(step.result.obs[0]))
    if config.mark_success and step.result.success[0]:
        border = max(2, min(frame.shape[:2]) // 80)
        inside = frame[border:-border, border:-border].copy()
        frame[:] = SUCCESS_GREEN
        frame[border:-border, border:-border] = inside
    return frame


def _write(path: Path, frames: Iterator[Frame], config: VideoConfig, rate: Fraction) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _encode(temporary, frames, config, rate)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _encode(path: Path, frames: Iterator[Frame], config: VideoConfig, rate: Fraction) -> None:
    options = {"movflags": "+faststart"}  # so that a browser plays while it loads
    with av.open(str(path), "w", format="mp4", options=options) as film:
        stream = film.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())
