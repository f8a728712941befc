"""The suite of tasks that are not ours: registered by name, or found by the import path of an object."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from jaxtyping import Float

from collectiverl.envs.core import VectorEnv
from collectiverl.envs.own.task import Reading, Task
from collectiverl.envs.suite import EnvOptions, Frame, Scene, Script, Suite
from collectiverl.imports import calling, load_object
from collectiverl.types import EnvSpec, UserError

NO_SCREEN = "without a screen, MuJoCo needs EGL or OSMesa: see the variable MUJOCO_GL"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # names are names of folders, and a dot marks an import path
PATH = re.compile(r"[A-Za-z_][\w.]*[.:][A-Za-z_]\w*")


class OwnSuite(Suite):
    """Tasks of other packages, each a `Task`.

    `my_package.tasks:push_left` names the `Task` of that name, or a function that makes an environment. Every process
    imports it anew. Its canonical name is `my_package.tasks.push_left`, which is also the name of its folders.
    """

    name = "own tasks"

    def __init__(self) -> None:
        self.registered: dict[str, Task] = {}  # by name: other processes have to be told of them
        self._imported: dict[str, Task] = {}
        self.missing: dict[str, str] = {}  # tasks of another process that this one cannot have, and why

    @property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.registered, *self._imported)

    def add(self, name: str, task: Task) -> None:
        """Registers a task; `registry.register_task` checks its name."""
        self.registered[name] = task
        _reading.cache_clear()

    def canonical(self, name: str) -> str | None:
        if name in self.tasks:
            return name
        if name in self.missing:
            raise UserError(self.missing[name])
        if not PATH.fullmatch(name):
            return None
        path = name.replace(":", ".")
        if path not in self._imported:
            self._imported[path] = _imported(name)
        return path

    def task(self, name: str) -> Task:
        return self.registered[name] if name in self.registered else self._imported[name]

    def spec(self, task: str) -> EnvSpec:
        return _reading(task, self.task(task)).spec

    def make(self, task: str, num_envs: int, options: EnvOptions) -> VectorEnv:
        from collectiverl.envs.own.env import played_envs

        if options.backend == "envpool":
            raise UserError(f"EnvPool does not play {task}: use --backend auto")
        return played_envs(self.spec(task), self.task(task), num_envs, options)

    def goals(self, task: str, seed: int) -> Float[np.ndarray, "G 1"]:
        from collectiverl.envs.own.env import reset_seeds

        return reset_seeds(task, seed)

    def script(self, task: str) -> Script | None:
        script = self.task(task).script
        return script and partial(_act, task, script, self.spec(task).action_dim)

    def scene(self, envs: VectorEnv, camera: str, width: int, height: int) -> Scene:
        from collectiverl.envs.gym_vector import GymVectorEnv

        assert isinstance(envs, GymVectorEnv)
        return OwnScene(envs.spec.task, envs.member(0).played, width, height)


OWN = OwnSuite()


def _act(name: str, script: Script, size: int, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
    """The actions of a user's script, checked."""
    with calling(f"the script of task {name}", "act"):
        action = np.asarray(script(obs), np.float64)
    if action.shape != (len(obs), size):
        raise UserError(
            f"the script of task {name} gave actions of shape {action.shape} for {len(obs)} observations: "
            f"it must give {(len(obs), size)}"
        )
    return action


@cache
def _reading(name: str, task: Task) -> Reading:
    env = task.environment(name)
    try:
        return Reading(name, task, env)
    finally:
        env.close()


def _imported(name: str) -> Task:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    found = load_object(f"{module}:{attribute}")
    if isinstance(found, Task):
        return found
    if callable(found):
        return Task(found)  # type: ignore[arg-type]  # what it returns is checked where it is called
    raise UserError(
        f"{name} is {found!r}: it must be a collectiverl.Task, or a function that makes an environment"
    )


class OwnScene:
    """What the environment itself draws, at the size of the video.

    Raises:
        UserError: it draws nothing, or this machine cannot draw.
    """

    def __init__(self, name: str, env: Any, width: int, height: int):
        if env.render_mode != "rgb_array":
            raise UserError(
                f"task {name} cannot be filmed: its function makes no environment with render_mode='rgb_array'; "
                "let it take the argument render_mode and pass it on"
            )
        self._name, self._env, self._size = name, env, (width, height)

    def draw(self, obs: Float[np.ndarray, "O"]) -> Frame:
        with calling(f"task {self._name}", "be drawn"), _egl_without_a_screen():
            try:
                picture = np.asarray(self._env.render())
            except Exception as error:
                if type(error).__module__.startswith("mujoco"):
                    error.add_note(NO_SCREEN)
                raise
        across, down = self._size
        rows, columns = (
            np.arange(n) * size // n for n, size in zip((down, across), picture.shape, strict=False)
        )
        return picture[rows][:, columns]

    def close(self) -> None:
        """The environment is closed by who made it."""


@contextlib.contextmanager
def _egl_without_a_screen() -> Iterator[None]:
    """Gymnasium's own choice for MuJoCo is GLFW, which needs a screen. It reads the variable when it draws first."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or "MUJOCO_GL" in os.environ:
        yield
        return
    os.environ["MUJOCO_GL"] = "egl"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]
