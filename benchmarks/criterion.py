"""When a task counts as solved, the same for every contender; and the clock that runs until then."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from benchmarks.results import check_positive
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.make import Backend, make_envs
from collectiverl.envs.rollout import first_success
from collectiverl.types import Policy


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """Success, at any step, of the deterministic policy over fresh goals, seen several times in a row."""

    eval_every: int = 2_000  # environment steps
    eval_episodes: int = 20
    success: float = 0.9
    evaluations: int = 2  # in a row
    steps: int = 500_000  # environment steps after which a contender gives up
    backend: Backend = "metaworld"  # of the evaluation

    def __post_init__(self) -> None:
        check_positive(self)

    def make_envs(self, task: str) -> VectorEnv:
        return make_envs(task, self.eval_episodes, backend=self.backend, goals="fresh")


class Clock:
    """Core-seconds of training since it was made, without evaluations. Compiling counts.

    A cell has one core to itself. What its process spent on that core is what the wall would show on an idle
    machine, and stays right where somebody else shares the core.
    """

    def __init__(self) -> None:
        self.compiling = 0.0  # of these seconds, those in which XLA compiled
        self._paused_at: float | None = None
        self._began = self._last_event = time.process_time()
        jax.monitoring.register_event_duration_secs_listener(self._on_event)

    @property
    def seconds(self) -> float:
        return (self._paused_at or time.process_time()) - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self._paused_at = time.process_time()
        try:
            yield
        finally:
            self._began += time.process_time() - self._paused_at
            self._paused_at = None

    def _on_event(self, event: str, duration_secs: float, **_: Any) -> None:
        """Durations are those of the wall, also while others had the core: no more than was computed meanwhile."""
        if event.endswith("backend_compile_duration") and self._paused_at is None:
            now = time.process_time()
            self.compiling += min(duration_secs, now - self._last_event)
            self._last_event = now


class Judge:
    """Evaluates a contender when it is due, until the task is solved or the time is up at an evaluation."""

    def __init__(
        self, criterion: Criterion, make_envs: Callable[[], VectorEnv], *, seed: int, limit_seconds: float
    ):
        self.criterion, self.seed, self.limit = criterion, seed, limit_seconds
        self.envs = make_envs()
        self.curve: list[tuple[int, float, float]] = []  # environment steps, seconds, success
        self.streak = 0  # evaluations in a row at the level asked for
        self.late = False  # an evaluation came after the limit
        self._next = criterion.eval_every
        self.clock = Clock()

    def due(self, env_steps: int) -> bool:
        return env_steps >= self._next

    def __call__(self, policy: Policy, env_steps: int) -> None:
        seconds, every = self.clock.seconds, self.criterion.eval_every
        with self.clock.paused():
            seed = np.random.SeedSequence([self.seed, env_steps]).generate_state(1)[0]
            succeeded, _ = first_success(self.envs, policy, int(seed % 2**31))
        success = float(succeeded.mean())
        self.streak = self.streak + 1 if success >= self.criterion.success else 0
        self.curve.append((env_steps, round(seconds, 2), success))
        self.late = seconds >= self.limit
        self._next = (env_steps // every + 1) * every

    @property
    def solved(self) -> bool:
        return self.streak >= self.criterion.evaluations

    @property
    def over(self) -> bool:
        return self.solved or self.late

    def verdict(self, env_steps: int) -> dict[str, Any]:
        """How it went: the time of the evaluation that decided, or of giving up after `env_steps`."""
        steps, seconds = self.curve[-1][:2] if self.over else (env_steps, round(self.clock.seconds, 2))
        return {
            "solved": self.solved,
            "seconds": seconds,
            "env_steps": steps,
            "compile_seconds": round(self.clock.compiling, 2),
            "curve": self.curve,
            "criterion": asdict(self.criterion),
        }
