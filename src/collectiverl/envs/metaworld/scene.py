"""Pictures of a Meta-World environment, drawn by MuJoCo."""

import os
import sys
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from collectiverl.envs.suite import Frame
from collectiverl.types import UserError

if TYPE_CHECKING:
    from mujoco import Renderer
    from mujoco._structs import MjModel

    from collectiverl.envs.metaworld.vector import MetaworldVectorEnv

UPSIDE_DOWN = ("corner", "corner2", "corner3", "corner4")  # as Meta-World places them
NO_EGL = (
    "cannot render: EGL does not start here ({}). Install it (Debian, Ubuntu: apt install libegl1 "
    "libegl-mesa0 libgl1-mesa-dri; no GPU is needed), or set MUJOCO_GL to glfw (on a desktop) or osmesa"
)


class MetaworldScene:
    """Draws without shadows, reflections and multisampling, which are slow in software.

    Raises:
        UserError: this machine cannot render.
    """

    def __init__(self, envs: "MetaworldVectorEnv", camera: str, width: int, height: int):
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


def _renderer(model: "MjModel", width: int, height: int) -> "Renderer":
    from mujoco import Renderer

    try:
        _choose_egl()
        return Renderer(model, height, width)
    except Exception as error:  # the libraries involved raise errors of several types
        raise UserError(NO_EGL.format(f"{type(error).__name__}: {error}")) from error


def _choose_egl() -> None:
    """Renders without a screen, unless the user has set MUJOCO_GL.

    MuJoCo reads MUJOCO_GL when it is imported, and the import fails if EGL is chosen and missing. Simulation
    must work without EGL, so it is chosen here, when rendering begins.
    """
    if "MUJOCO_GL" in os.environ or sys.platform != "linux":
        return
    from mujoco import egl, gl_context

    gl_context.GLContext = egl.GLContext
