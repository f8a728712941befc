"""Videos of a policy that plays its task."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from collectiverl.artifacts.validation import at_least, between
from collectiverl.collective.policy import CollectivePolicy, Redirected
from collectiverl.envs import make
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.goals import GoalSet
from collectiverl.envs.hidden import HiddenGoals
from collectiverl.envs.registry import suite_of
from collectiverl.envs.rollout import Step, steps
from collectiverl.envs.suite import Frame, Scene, Suite
from collectiverl.envs.tasks import label
from collectiverl.evaluation.encode import Write, check_suffix, encoder
from collectiverl.evaluation.overlay import framed, written
from collectiverl.types import ConfigError, Policy

Embedding = Callable[[], Float[np.ndarray, "Z"] | None]  # z of environment 0 now


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How much is filmed, from where, how large and how fast."""

    episodes: int = 1  # of each task, one after another
    camera: str | None = None  # one of the suite's; None: its default
    width: int = 480  # pixels, even; of each tile, where several films are one
    height: int = 480  # pixels, even
    fps: int = 40  # frames a second, at most
    speed: float = 1.0  # 1: real time; 2: twice as fast
    after_success: float | None = None  # seconds shown after an episode's first success; None: all of it
    overlay: bool = True  # task, goal, step, success and, of a collective, z are written into the picture
    mark_success: bool = True  # a green frame around the picture while the task is solved

    def __post_init__(self) -> None:
        at_least(self, 1, "episodes", "fps")
        for name in ("width", "height"):
            pixels = getattr(self, name)
            if pixels < 16 or pixels % 2:
                raise ConfigError(name, f"{pixels} must be even and at least 16, for H.264")
        between(self, 0.01, 1_000, "speed")
        if self.after_success is not None and not self.after_success >= 0:
            raise ConfigError("after_success", f"{self.after_success} is below 0")

    def stride(self, steps_per_second: int) -> int:
        """Steps from one frame to the next, so that there are no more frames a second than `fps`."""
        return max(1, -(-round(steps_per_second * self.speed) // self.fps))

    def rate(self, steps_per_second: int) -> Fraction:
        """Frames a second."""
        return Fraction(self.speed).limit_denominator(100) * steps_per_second / self.stride(steps_per_second)


class Watched(Redirected):
    """A collective whose `z` can be looked at while it plays."""

    z: Float[np.ndarray, "N Z"] | None = None  # of the latest step

    def redirect(self, z: Float[np.ndarray, "N Z"]) -> Float[np.ndarray, "N Z"]:
        self.z = z
        return z

    def first(self) -> Float[np.ndarray, "Z"] | None:
        """Of environment 0."""
        return None if self.z is None else self.z[0]


def watched(policy: Policy) -> tuple[Policy, Embedding]:
    """The policy, and its `z`, if it is a collective: it then acts as it did."""
    if not isinstance(policy, CollectivePolicy):
        return policy, lambda: None
    seen = Watched(policy.collective, policy.tasks)
    return seen, seen.first if policy.collective.condition_dim else lambda: None


def record_video(
    policy: Policy,
    task: str,
    path: Path,
    config: VideoConfig | None = None,
    *,
    goals: GoalSet | tuple[int, ...] = "all",
    seed: int = 0,
) -> Path:
    """Films episodes of `policy`, which plays one environment, as H.264 in an MP4 file, or as a GIF.

    To film what is evaluated, pass the camera of `filming` to `evaluate`.

    Args:
        goals: the episodes play these in order.

    Returns:
        `path`, which is written whole or not at all.

    Raises:
        ConfigError: the suite has no such camera.
        UserError: the suite cannot be drawn, or this machine cannot draw it.
    """
    config = config or VideoConfig()
    envs = make.make_envs(task, 1, goals=goals, order="sequential", backend="reference", drawn=True)
    policy, embedding = watched(policy)
    with closing(envs), filming(envs, path, config, embedding=embedding) as camera:
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
        write: Write,
        config: VideoConfig,
        suite: Suite,
        embedding: Embedding,
    ):
        self._envs, self._scene, self._write, self._embedding = envs, scene, write, embedding
        self._config, self._stride = config, config.stride(suite.steps_per_second)
        after = config.after_success
        self._after = None if after is None else round(after * suite.steps_per_second)
        self._steps, self._left = 0, config.episodes
        self._age, self._succeeded = 0, None  # steps of this episode; which of them was its first success
        self.goals: list[int] = []  # of the episodes that were filmed
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return not self._left or self.error is not None

    def __call__(self, step: Step) -> None:
        if self.done:
            return
        result = step.result
        self._age = 0 if result.began[0] else self._age + 1
        if result.began[0] or not self.goals:
            self.goals.append(int(self._envs.goals()[0]))
            self._succeeded = None
        if result.success[0] and self._succeeded is None:
            self._succeeded = self._age
        ended, cut = bool(result.done[0]), self._is_cut(self._age)
        try:
            # an episode's last step is always shown
            if not self._is_cut(self._age - 1) and (self._steps % self._stride == 0 or ended or cut):
                self._write(self._picture(step))
        except Exception as error:
            self.error = error
        self._steps += 1
        self._left -= ended or (cut and self._left == 1)

    def _is_cut(self, age: int) -> bool:
        """Whether so many steps show all that is to be seen."""
        first = self._succeeded
        return self._after is not None and first is not None and age >= first + self._after

    def _picture(self, step: Step) -> Frame:
        hidden = isinstance(self._envs, HiddenGoals)
        obs = self._envs.uncovered[0] if hidden else step.result.obs[0]  # type: ignore[reportAttributeAccessIssue]
        frame = np.ascontiguousarray(self._scene.draw(obs))
        success = bool(step.result.success[0])
        if self._config.overlay:
            goal = f"  goal {self.goals[-1]}" if self.goals[-1] >= 0 else ""
            done = "  success" if success else f"  solved at {self._succeeded}" if self._succeeded else ""
            lines = (f"{label(self._envs.tasks[0])}{goal}", f"step {self._age}{done}")
            frame = written(frame, lines, self._embedding())
        return framed(frame) if success and self._config.mark_success else frame


@contextmanager
def filming(
    envs: VectorEnv,
    path: Path,
    config: VideoConfig | None = None,
    *,
    title: str = "",
    embedding: Embedding = lambda: None,
    crf: int = 23,
) -> Iterator[Camera]:
    """A camera for the steps of `envs`; the file is written whole when the block ends, or not at all.

    Args:
        path: with the suffix .mp4 or .gif.
        title: of the film, in the file's metadata.
        embedding: from `watched`, to be written into the picture.
        crf: of H.264, see `encode.encoder`.

    Raises:
        ConfigError: the suite has no such camera.
        UserError: the suite cannot be drawn, or this machine cannot draw it.
    """
    config, suite = config or VideoConfig(), suite_of(envs.tasks[0])
    suffix = check_suffix(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            closing(_scene(suite, envs, config)) as scene,
            encoder(temporary, suffix, config.rate(suite.steps_per_second), title, crf=crf) as write,
        ):
            camera = Camera(envs, scene, write, config, suite, embedding)
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
