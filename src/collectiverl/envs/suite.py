"""A suite: a family of tasks, and all that the rest of the library needs to know about it.

To add one, implement `Suite` in a file of its own and add a line to the table in `registry.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from collectiverl.envs.core import VectorEnv
from collectiverl.envs.goals import Goals, Order
from collectiverl.types import EnvSpec, UserError

# auto: the fastest that plays alike; reference: the suite's own simulator, which `metaworld` also means
Backend = Literal["auto", "reference", "metaworld", "envpool"]
Frame = UInt8[np.ndarray, "H W 3"]
Script = Callable[[np.ndarray], np.ndarray]  # observations [N, O] -> actions [N, A], maybe out of range


@dataclass(frozen=True, kw_only=True)
class EnvOptions:
    """How environments are made and played. A suite ignores an option for which it has no alternatives."""

    backend: Backend = "auto"
    goals: Goals = "all"
    order: Order = "random"  # of fixed goals
    num_threads: int = 1  # of EnvPool
    processes: bool = False  # a process for each environment of the reference simulator
    horizon: int | None = None  # steps after which episodes end, if that is sooner than the task's own limit
    drawn: bool = False  # `Suite.scene` will draw them


@runtime_checkable
class Scene(Protocol):
    """Draws environment 0 of a vector."""

    def draw(self, obs: Float[np.ndarray, "O"]) -> Frame:
        """A picture of the environment now; `obs` is its latest observation."""
        ...

    def close(self) -> None: ...


class Suite(ABC):
    """A family of tasks that one policy may play: with equally many actions and entries of the goal.

    Tasks are passed by their canonical names, except to `canonical`. Importing a suite should be fast: a
    simulator is imported where it is first used.
    """

    name: str  # shown to users
    tasks: tuple[str, ...]  # canonical names; no other suite has a task of the same name
    benchmarks: tuple[str, ...] = ()  # names of sets of tasks; users may write them in any case
    cameras: tuple[str, ...] = ()  # of its scenes, the default first
    steps_per_second: int = 10  # of an environment that is shown in real time

    def canonical(self, name: str) -> str | None:
        """The task that a user calls `name`; None if it is not a task of this suite."""
        return name if name in self.tasks else None

    def label(self, task: str) -> str:
        """A short name of a task for tables; `canonical` understands it."""
        return task

    def benchmark(self, name: str) -> tuple[str, ...]:
        """The tasks of the benchmark `name`, in their order.

        Raises:
            KeyError: the suite has no such benchmark.
        """
        raise KeyError(name)

    def labeller(self, task: str, among: Collection[str]) -> str:
        """The task whose script labels `task` for one policy of all tasks in `among`.

        It is another task than `task` where some of them begin alike: two scripts would label one input differently.
        """
        return task

    @abstractmethod
    def spec(self, task: str) -> EnvSpec:
        """Sizes of the task's environment, and what the entries of its observations are."""

    @abstractmethod
    def make(self, task: str, num_envs: int, options: EnvOptions) -> VectorEnv:
        """A vector of environments of the task.

        Raises:
            UserError: the options contradict each other, or need a package that is not installed.
        """

    @abstractmethod
    def goals(self, task: str, seed: int) -> Float[np.ndarray, "G K"]:
        """The `NUM_GOALS` (G) fixed goals that belong to this seed, one row each (see `goals.fixed_goals`)."""

    def script(self, task: str) -> Script | None:
        """The scripted policy of the task; None if it has none."""
        return None

    def scene(self, envs: VectorEnv, camera: str, width: int, height: int) -> Scene:
        """A way to draw environment 0 of `envs`, seen from one of `cameras`.

        Raises:
            UserError: the suite cannot be drawn, or this machine cannot draw it.
        """
        raise UserError(f"tasks of the suite {self.name} cannot be filmed")
