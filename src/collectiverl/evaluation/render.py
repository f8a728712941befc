"""Pictures of a running environment: MuJoCo's for Meta-World, a drawing for the toy tasks."""

import os
import sys
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from collectiverl.envs.toy import SUCCESS_RADIUS
from collectiverl.types import UserError

if TYPE_CHECKING:
    from mujoco import Renderer
    from mujoco._structs import MjModel

    from collectiverl.envs.metaworld import MetaworldVectorEnv

Frame = UInt8[np.ndarray, "H W 3"]
Camera = Literal["corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV"]
UPSIDE_DOWN = ("corner", "corner2", "corner3", "corner4")  # as Meta-World places them
NO_EGL = (
    "cannot render: EGL does not start here ({}). Install it (Debian, Ubuntu: apt install libegl1 "
    "libegl-mesa0 libgl1-mesa-dri; no GPU is needed), or set MUJOCO_GL to glfw (on a desktop) or osmesa"
)


@runtime_checkable
class Scene(Protocol):
    """A way to see environment 0."""

    def draw(self, obs: Float[np.ndarray, "O"]) -> Frame:
        """What it looks like now, given its latest observation."""
        ...

    def close(self) -> None: ...


class MetaworldScene:
    """MuJoCo's picture, without what takes long in software: shadows, reflections, multisampling.

    Raises:
        UserError: this machine cannot render.
    """

    def __init__(self, envs: "MetaworldVectorEnv", camera: Camera, width: int, height: int):
        from mujoco._enums import mjtRndFlag  # where type checkers find it

        model, self._data = envs.mujoco_state(0)
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._camera = camera
        self._renderer = _renderer(model, width, height)
        for flag in (mjtRndFlag.mjRND_SHADOW, mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag.value] = False

    def draw(self, obs: Float[np.ndarray, "O"]) -> Frame:
        self._renderer.update_scene(self._data, camera=self._camera)
        frame = self._renderer.render()
        return np.rot90(frame, 2) if self._camera in UPSIDE_DOWN else frame

    def close(self) -> None:
        self._renderer.close()


class ToyScene:
    """The toy task's square from above: the point (dark), and how near it must come to its goal (green)."""

    def __init__(self, width: int, height: int):
        axes = np.linspace(1.1, -1.1, height), np.linspace(-1.1, 1.1, width)
        self._y, self._x = np.meshgrid(*axes, indexing="ij")
        self._square = np.where(np.maximum(abs(self._x), abs(self._y)) > 1, 230, 255).astype(np.uint8)

    def draw(self, obs: Float[np.ndarray, "O"]) -> Frame:
        frame = np.stack([self._square] * 3, axis=-1)
        frame[self._disc(obs[4:6], SUCCESS_RADIUS)] = (120, 200, 120)
        frame[self._disc(obs[0:2], SUCCESS_RADIUS / 3)] = (40, 60, 120)
        return frame

    def close(self) -> None:
        """Nothing to release."""

    def _disc(self, centre: Float[np.ndarray, "2"], radius: float) -> Bool[np.ndarray, "H W"]:
        return np.hypot(self._x - centre[0], self._y - centre[1]) < radius


def _renderer(model: "MjModel", width: int, height: int) -> "Renderer":
    from mujoco import Renderer  # here, like all of MuJoCo's: the toy tasks do without

    try:
        _choose_egl()
        return Renderer(model, height, width)
    except Exception as error:  # each library on the way to a context raises errors of its own
        raise UserError(NO_EGL.format(f"{type(error).__name__}: {error}")) from error


def _choose_egl() -> None:
    """Renders without a screen, unless the user's MUJOCO_GL says otherwise.

    MuJoCo reads MUJOCO_GL once, on import, and then fails to import at all where EGL is missing. Simulation
    must not depend on that, so the choice is made here, where rendering begins.
    """
    if "MUJOCO_GL" in os.environ or sys.platform != "linux":
        return
    from mujoco import egl, gl_context

    gl_context.GLContext = egl.GLContext
