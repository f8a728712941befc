"""Videos of a policy that plays its task."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from collectiverl.artifacts.validation import at_least
from collectiverl.envs import make
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.goals import GoalSet
from collectiverl.envs.registry import suite_of
from collectiverl.envs.rollout import Step, steps
from collectiverl.envs.suite import Frame, Scene, Suite
from collectiverl.types import ConfigError, Policy

SUCCESS_GREEN = (60, 200, 80)


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """What is filmed, from where, and how large."""

    episodes: int = 1
    goals: GoalSet | tuple[int, ...] = "all"  # episodes play these in order
    camera: str | None = None  # one of the suite's; None: its default
    width: int = 480  # pixels, even
    height: int = 480
    fps: int = 40  # frames a second, at most; videos play in real time
    mark_success: bool = True  # a green frame around the picture while the task is solved

    def __post_init__(self) -> None:
        at_least(self, 1, "episodes", "fps")
        for name in ("width", "height"):
            pixels = getattr(self, name)
            if pixels < 16 or pixels % 2:
                raise ConfigError(name, f"{pixels} must be even and at least 16, for H.264")


def record_video(
    policy: Policy, task: str, path: Path, config: VideoConfig | None = None, *, seed: int = 0
) -> Path:
    """Films whole episodes of `policy`, which plays one environment, as H.264 in an MP4 file.

    Returns:
        `path`, which is written whole or not at all.

    Raises:
        ConfigError: the suite has no such camera.
        UserError: the suite cannot be drawn, or this machine cannot draw it.
    """
    config, suite = config or VideoConfig(), suite_of(task)
    envs = make.make_envs(task, 1, goals=config.goals, order="sequential", backend="reference", drawn=True)
    with closing(envs), closing(_scene(suite, envs, config)) as scene:
        stride = -(-suite.steps_per_second // config.fps)  # steps from one frame to the next
        frames = _frames(envs, policy, scene, config, stride, seed)
        _write(path, frames, config, Fraction(suite.steps_per_second, stride))
    return path


def _scene(suite: Suite, envs: VectorEnv, config: VideoConfig) -> Scene:
    if config.camera is not None and config.camera not in suite.cameras:
        raise ConfigError("camera", f"{config.camera} is none of {', '.join(suite.cameras)}")
    camera = config.camera or next(iter(suite.cameras), "")
    return suite.scene(envs, camera, config.width, config.height)


def _frames(
    envs: VectorEnv, policy: Policy, scene: Scene, config: VideoConfig, stride: int, seed: int
) -> Iterator[Frame]:
    """A picture of every `stride`-th step, and of the last step of each episode."""
    left = config.episodes
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
    options = {"movflags": "+faststart"}  # so that browsers can play it while it loads
    with av.open(str(path), "w", format="mp4", options=options) as video:
        stream = video.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())
