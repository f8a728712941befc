"""A clock that tells what the seconds of a program go to, from outside: the program itself knows of no clock."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult, VectorEnv, leave

UPDATES, ACTING, TEACHERS, SIMULATION, RESETS, SAMPLING, STORING, EVALUATION, COMPILING, REST = PHASES = (
    *("updates", "acting", "the teachers' acting", "simulation", "making and resetting environments"),
    *("sampling and labels", "storing", "evaluation", "compiling", "the rest, and waiting"),
)
COMPILES = "/jax/core/compile/"  # prefix of JAX's events of tracing, lowering and compiling


class Seconds(NamedTuple):
    wall: float
    core: float  # computed by all threads of the process

    def since(self, earlier: "Seconds") -> "Seconds":
        return Seconds(self.wall - earlier.wall, self.core - earlier.core)

    def plus(self, more: "Seconds") -> "Seconds":
        return Seconds(self.wall + more.wall, self.core + more.core)


def now() -> Seconds:
    return Seconds(time.perf_counter(), time.process_time())


class Hook(NamedTuple):
    """A function that is a phase: `name` of a class or module."""

    owner: Any
    name: str
    phase: str


class Phases:
    """The exclusive seconds of each phase of one thread, from when it is made.

    A phase within another stops the other's clock, so that all phases sum to the whole. Between phases it is `REST`.
    """

    def __init__(self, now: Callable[[], Seconds] = now):
        self.spent = dict.fromkeys(PHASES, Seconds(0.0, 0.0))
        self._running = [REST]
        self._now, self._last = now, now()

    @property
    def total(self) -> Seconds:
        """Until the last change of phase."""
        return functools.reduce(Seconds.plus, self.spent.values())

    def charge(self) -> None:
        """The seconds since the last change of phase are the running phase's."""
        at, phase = self._now(), self._running[-1]
        self.spent[phase] = self.spent[phase].plus(at.since(self._last))
        self._last = at

    def begin(self, phase: str) -> None:
        self.charge()
        self._running.append(phase)

    def end(self, phase: str) -> None:
        if self._running[-1] != phase:
            raise RuntimeError(f"{phase} ends, but {self._running[-1]} is running")
        self.charge()
        self._running.pop()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def rename(self, phase: str) -> None:
        """The running phase turns out to be another, since its begin or the end of the last phase within it."""
        self._running[-1] = phase

    @contextlib.contextmanager
    def watching(self, *hooks: Hook) -> Iterator[None]:
        """Meanwhile, all hooks are phases, and so is compiling. Nothing may run in other threads."""
        with contextlib.ExitStack() as stack:
            for owner, name, phase in hooks:
                timed = self._timed(getattr(owner, name), phase)
                stack.enter_context(mock.patch.object(owner, name, timed))
            stack.enter_context(self._compiling())
            yield
            self.charge()

    def _timed(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        """The function as a phase, to whose end its arrays are computed: JAX returns before they are."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(phase):
                return jax.block_until_ready(function(*args, **kwargs))

        return timed

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        def begins(event: str, value: float | int, **_: Any) -> None:  # the value is when
            if event.startswith(COMPILES):
                self.begin(COMPILING)

        def ends(event: str, duration_secs: float, **_: Any) -> None:
            if event.startswith(COMPILES):
                self.end(COMPILING)

        jax.monitoring.register_scalar_listener(begins)
        jax.monitoring.register_event_duration_secs_listener(ends)
        try:
            yield
        finally:
            jax.monitoring.unregister_scalar_listener(begins)
            jax.monitoring.unregister_event_duration_listener(ends)


class TimedEnvs:
    """Environments whose steps are simulation; those in which episodes begin are resets, as `reset` itself is."""

    def __init__(self, envs: VectorEnv, phases: Phases):
        self.envs, self.phases = envs, phases
        self.spec, self.num_envs, self.tasks = envs.spec, envs.num_envs, envs.tasks

    def goals(self) -> Int[np.ndarray, "N"]:
        return self.envs.goals()

    def reset(self, seed: int) -> Float[np.ndarray, "N O"]:
        with self.phases.phase(RESETS):
            return self.envs.reset(seed)

    def step(self, action: Float[np.ndarray, "N A"]) -> StepResult:
        self.phases.begin(SIMULATION)
        result = self.envs.step(action)
        phase = RESETS if result.began.any() else SIMULATION
        self.phases.rename(phase)
        self.phases.end(phase)
        return result

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        leave(self.envs, over)

    def close(self) -> None:
        with self.phases.phase(RESETS):
            self.envs.close()
