"""Loops that are not ours: odd arguments, reused buffers, forks and threads around each kind of policy.

Two copies of a policy play the same steps. One loop is sound. The other makes odd calls in between: what cannot be
meant must be refused with a `UserError`, what can be meant must be taken in, and after either the two act alike, bit
for bit.
"""

import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from attacks import Row
from attacks.odd_calls import (
    ENVS,
    REFUSED,
    REFUSED_WHERE_REMEMBERED,
    STEPS,
    TAKEN,
    episode,
    judged,
    made,
    odd_calls,
    row,
    sound,
)
from collectiverl.envs.policy import CheckedPolicy
from collectiverl.pipeline import executor
from collectiverl.policies import load_policy
from collectiverl.types import Policy, UserError

NAMES = ("scripted:push", "random:push", "mt10/push", "mt10", "mt10-hidden", "per task")
REMEMBER = ("mt10", "mt10-hidden", "per task")  # made for, or playing, a number of environments
CHECKS = 2e-4  # seconds that the checks of a step may take
CALLS = 60  # odd calls of each policy and kind, at scale 1
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "as a list": np.ndarray.tolist,
    "of float64": lambda obs: obs.astype(np.float64),
    "in Fortran's order": np.asfortranarray,
    "of the other byte order": lambda obs: obs.astype(">f4"),
    "read-only": lambda obs: np.frombuffer(obs.tobytes(), obs.dtype).reshape(obs.shape),
    "with gaps": lambda obs: np.repeat(obs, 2, axis=1)[:, ::2],
}

# -- other loops ---------------------------------------------------------------------------------------------


def forms(name: str) -> Iterator[str | None]:
    """The same observations in another form; what went wrong with each, or None."""
    obs = np.random.default_rng(0).uniform(-0.3, 0.3, (ENVS, 39)).astype(np.float32)
    expected = made(name).eval_action(obs)
    for what, form in FORMS.items():
        same = np.array_equal(made(name).eval_action(form(obs)), expected)
        yield None if same else f"{name}: other actions for observations {what}"


def numbers(name: str) -> Iterator[str | None]:
    """One, five or sixteen environments side by side; all in which the same happens act alike."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-0.3, 0.3, (STEPS, 16, 39)).astype(np.float32)

    def played(environments: slice) -> np.ndarray:
        policy, actions = made(name), []
        for step in obs:
            actions.append(policy.eval_action(step[environments]))
            policy.observe(step[environments, 0])
        return np.stack(actions)

    together = played(slice(16))
    for first, count in ((0, 1), (7, 1), (3, 5), (6, 10)):
        chosen = slice(first, first + count)
        same = np.array_equal(played(chosen), together[:, chosen])
        yield None if same else f"{name}: {count} environments are played otherwise than 16"


def lost_rewards(name: str) -> Iterator[str | None]:
    """Rewards that are told late or never leave actions finite, and are asked for where they are needed."""
    policy, rng = made(name), np.random.default_rng(0)
    needed = name == "mt10-hidden"
    for told in (STEPS, STEPS - 1, 0):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            policy.reset(np.ones(ENVS, bool))
            actions = []
            for step in range(STEPS):
                actions.append(policy.eval_action(rng.uniform(-0.3, 0.3, (ENVS, 39))))
                if step < told:
                    policy.observe(rng.uniform(0, 10, ENVS))
        due = int(needed and told == 0)
        right = len(said) == due and np.isfinite(actions).all()
        yield None if right else f"{name}, {told} of {STEPS} rewards told: {len(said)} warnings, {due} due"


def in_threads(name: str) -> Iterator[str | None]:
    """A policy for each thread."""
    expected, found = [episode(made(name), seed, sound) for seed in range(4)], {}

    def play(seed: int, policy: Policy) -> None:
        found[seed] = episode(policy, seed, sound)

    threads = [threading.Thread(target=play, args=(seed, made(name))) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        same = seed in found and np.array_equal(found[seed], expected[seed])
        yield None if same else f"{name}: thread {seed} acts otherwise"


def in_a_fork(name: str) -> Iterator[str | None]:
    """Refused where JAX computes, since it would hang; the others play on."""
    policy = made(name)
    policy.eval_action(np.zeros((ENVS, 39)))
    with warnings.catch_warnings(action="ignore"):
        child = os.fork()
    if child == 0:
        status = 9
        try:
            policy.eval_action(np.zeros((ENVS, 39)))
            status = 0
        except UserError:
            status = 2
        finally:
            os._exit(status)
    due = 0 if ":" in name or name == "per task" else 2
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    yield None if status == due else f"{name}: exit status {status} in a fork, {due} due"


def spawned(names: Sequence[str]) -> Iterator[str | None]:
    """Policies that are sent to a worker, or loaded there, act as here."""
    with multiprocessing.get_context("spawn").Pool(
        1, initializer=executor.use_threads, initargs=(1,)
    ) as pool:
        for name in names:
            here = episode(made(name), 0, sound)
            there = pool.apply_async(_episode_of, (made(name), name)).get(timeout=300)
            for what, actions in zip(("sent", "loaded"), there, strict=True):
                yield (
                    None
                    if np.array_equal(actions, here)
                    else f"{name}, {what}: it acts otherwise in a worker"
                )


def _episode_of(policy: Policy, name: str) -> tuple[np.ndarray, np.ndarray]:
    return episode(policy, 0, sound), episode(made(name), 0, sound)


def other_tasks() -> Iterator[str | None]:
    """Policies of tasks of other shapes."""
    for name, task in (
        ("scripted:toy-reach", "push"),
        ("random:toy-reach", "push"),
        ("scripted:push", "toy-reach"),
        ("mt10/push", "toy-reach"),
        ("mt10", "toy-reach"),
    ):
        wrong = judged(partial(load_policy, name, task=task), refused=True)
        yield f"{name} for {task}: {wrong}" if wrong else None


class _Idle(CheckedPolicy):
    """Does nothing, so that a step costs what its checks cost."""

    remembers = True

    def _act(self, obs: np.ndarray) -> np.ndarray:
        return np.zeros((len(obs), self.action_dim), np.float32)


def cost_of_checks() -> Iterator[str | None]:
    """Of a step of ten environments; the least of many, since other processes may interfere."""
    policy, obs, rewards = _Idle(39, 4), np.zeros((10, 39), np.float32), np.zeros(10)
    times = []
    for _ in range(2_000):
        began = time.perf_counter()
        policy.eval_action(obs)
        policy.observe(rewards)
        times.append(time.perf_counter() - began)
    yield None if min(times) < CHECKS else f"{min(times):.6f} s"


def _counted(name: str, outcomes: Iterator[str | None]) -> Row:
    found = list(outcomes)
    return row(f"loops: {name}", len(found), [wrong for wrong in found if wrong])


def attack(scale: float) -> list[Row]:
    """Every kind of odd loop around every kind of policy."""
    executor.use_threads(1)
    rows, count = [], max(1, round(CALLS * scale))
    for name in NAMES:
        remembered = REFUSED_WHERE_REMEMBERED if name in REMEMBER else {}
        rows.append(odd_calls(name, REFUSED | remembered, True, count))
        rows.append(odd_calls(name, TAKEN, False, count))
    several = {
        "observations in another form": forms,
        "rewards told late or never": lost_rewards,
        "a policy for each thread": in_threads,
        "forks": in_a_fork,
    }
    for what, law in several.items():
        rows.append(_counted(what, (outcome for name in NAMES for outcome in law(name))))
    any_number = [name for name in NAMES if name not in ("random:push", "per task")]
    rows.append(
        _counted("any number of environments", (wrong for name in any_number for wrong in numbers(name)))
    )
    rows.append(_counted("workers that are spawned", spawned(NAMES[2:4])))
    rows.append(_counted("policies of other tasks", other_tasks()))
    rows.append(_counted("the checks of a step are fast", cost_of_checks()))
    return rows
