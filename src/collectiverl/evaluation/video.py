"""Videos of a policy that plays its task."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from collectiverl.artifacts.validation import at_least
from collectiverl.envs import make
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.goals import GoalSet
from collectiverl.envs.hidden import HiddenGoals
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

    To film what is evaluated, pass the camera of `filming` to `evaluate`.

    Returns:
        `path`, which is written whole or not at all.

    Raises:
        ConfigError: the suite has no such camera.
        UserError: the suite cannot be drawn, or this machine cannot draw it.
    """
    config = config or VideoConfig()
    envs = make.make_envs(task, 1, goals=config.goals, order="sequential", backend="reference", drawn=True)
    with closing(envs), filming(envs, path, config) as camera:
        for step in steps(envs, policy, seed):
            camera(step)
            if camera.done:
                break
    return path


class Camera:
    """Films the first episodes of environment 0, given every step that is played.

    An error of the film does not disturb the playing: it is kept, and raised at the end of `filming`.
    """

    def __init__(
        self,
        envs: VectorEnv,
        scene: Scene,
        write: Callable[[Frame], None],
        config: VideoConfig,
        stride: int,
    ):
        self._envs, self._scene, self._write = envs, scene, write
        self._config, self._stride = config, stride  # steps from one frame to the next
        self._steps, self._left = 0, config.episodes
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return not self._left or self.error is not None

    def __call__(self, step: Step) -> None:
        if self.done:
            return
        ended = bool(step.result.done[0])
        try:
            if self._steps % self._stride == 0 or ended:  # an episode's last step is always shown
                self._write(self._picture(step))
        except Exception as error:
            self.error = error
        self._steps += 1
        self._left -= ended

    def _picture(self, step: Step) -> Frame:
        hidden = isinstance(self._envs, HiddenGoals)
        obs = self._envs.uncovered[0] if hidden else step.result.obs[0]  # type: ignore[reportAttributeAccessIssue]
        frame = np.ascontiguousarray(self._scene.draw(obs))
        if self._config.mark_success and step.result.success[0]:
            border = max(2, min(frame.shape[:2]) // 80)
            inside = frame[border:-border, border:-border].copy()
            frame[:] = SUCCESS_GREEN
            frame[border:-border, border:-border] = inside
        return frame


@contextmanager
def filming(
    envs: VectorEnv, path: Path, config: VideoConfig | None = None, *, title: str = ""
) -> Iterator[Camera]:
    """A camera for the steps of `envs`; the file is written whole when the block ends, or not at all.

    Args:
        title: of the film, in the file's metadata.

    Raises:
        ConfigError: the suite has no such camera.
        UserError: the suite cannot be drawn, or this machine cannot draw it.
    """
    config, suite = config or VideoConfig(), suite_of(envs.tasks[0])
    stride = -(-suite.steps_per_second // config.fps)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            closing(_scene(suite, envs, config)) as scene,
            _encoder(temporary, config, Fraction(suite.steps_per_second, stride), title) as write,
        ):
            camera = Camera(envs, scene, write, config, stride)
            yield camera
            if camera.error:
                raise camera.error
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _scene(suite: Suite, envs: VectorEnv, config: VideoConfig) -> Scene:
    if config.camera is not None and config.camera not in suite.cameras:
        raise ConfigError("camera", f"{config.camera} is none of {', '.join(suite.cameras)}")
    camera = config.camera or next(iter(suite.cameras), "")
    drawn = envs.envs if isinstance(envs, HiddenGoals) else envs
    return suite.scene(drawn, camera, config.width, config.height)


@contextmanager
def _encoder(
    path: Path, config: VideoConfig, rate: Fraction, title: str
) -> Iterator[Callable[[Frame], None]]:
    """Writes an MP4 file, frame by frame."""
    options = {"movflags": "+faststart"}  # so that browsers can play it while it loads
    with av.open(str(path), "w", format="mp4", options=options) as video:
        video.metadata["title"] = title
        stream = video.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"

        def write(frame: Frame) -> None:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

        yield write
        video.mux(stream.encode())
