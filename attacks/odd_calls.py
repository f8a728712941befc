"""Odd calls in between the steps of an episode: what cannot be meant is refused, what can be meant is taken in.

Two copies of a policy play the same steps; after the odd calls both must act alike, bit for bit.
"""

import pickle
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from attacks import Row
from collectiverl.collective.playing import PerTaskPolicy
from collectiverl.envs.make import spec
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.policies import load_policy
from collectiverl.types import Policy, UserError

TASKS = ("push-v3", "reach-v3", "push-v3")
ENVS, STEPS = 3, 5
Between = Callable[[Policy, np.ndarray, np.ndarray, np.ndarray], None]  # observations, rewards, actions
Odd = Callable[[Policy, np.ndarray, np.ndarray, np.random.Generator], Any]


def made(name: str) -> Policy:
    """A policy that has not begun to play; a pickled copy, because programs are compiled once for all copies."""
    return pickle.loads(_loaded(name))


@cache
def _loaded(name: str) -> bytes:
    if name != "per task":
        return pickle.dumps(load_policy(name))
    members = {task: ScriptedPolicy((task,)) for task in TASKS}
    return pickle.dumps(PerTaskPolicy(members, TASKS, spec(TASKS[0])))


# -- odd calls -----------------------------------------------------------------------------------------------


def _with(value: float, policy: Policy, obs: np.ndarray, rng: np.random.Generator) -> None:
    wrong = obs.astype(np.float64)
    wrong[rng.integers(len(obs)), rng.integers(obs.shape[1])] = value
    policy.eval_action(wrong)


REFUSED: dict[str, Odd] = {
    "nan in an observation": lambda p, o, r, rng: _with(np.nan, p, o, rng),
    "inf in an observation": lambda p, o, r, rng: _with(-np.inf, p, o, rng),
    "1e300 in an observation": lambda p, o, r, rng: _with(1e300, p, o, rng),
    "no axis of environments": lambda p, o, r, rng: p.eval_action(o[0]),
    "an axis too many": lambda p, o, r, rng: p.eval_action(o[None]),
    "a one-hot appended": lambda p, o, r, rng: p.eval_action(np.hstack([o, np.eye(len(o), 10)])),
    "an entry too few": lambda p, o, r, rng: p.eval_action(o[:, 1:]),
    "no environment": lambda p, o, r, rng: p.eval_action(o[:0]),
    "observations as words": lambda p, o, r, rng: p.eval_action(o.astype(str)),
    "observations as objects": lambda p, o, r, rng: p.eval_action(o.astype(object)),
    "complex observations": lambda p, o, r, rng: p.eval_action(o + 1j),
    "ragged observations": lambda p, o, r, rng: p.eval_action([o[0].tolist(), o[1, :4].tolist()]),
    "no observations": lambda p, o, r, rng: p.eval_action(None),
    "a reward too few": lambda p, o, r, rng: p.observe(r[1:]),
    "one reward for all": lambda p, o, r, rng: p.observe(1.0),
    "a column of rewards": lambda p, o, r, rng: p.observe(r[:, None]),
    "an infinite reward": lambda p, o, r, rng: p.observe(np.where(np.arange(len(r)) == 1, np.inf, r)),
    "rewards as words": lambda p, o, r, rng: p.observe(r.astype(str)),
    "a mask of numbers": lambda p, o, r, rng: p.reset(np.arange(len(r))),
    "no mask": lambda p, o, r, rng: p.reset(None),
    "a mask for nobody": lambda p, o, r, rng: p.reset(np.ones(0, bool)),
    "a table as mask": lambda p, o, r, rng: p.reset(np.ones((len(r), 1), bool)),
}
REFUSED_WHERE_REMEMBERED: dict[str, Odd] = {
    "fewer environments": lambda p, o, r, rng: p.eval_action(o[1:]),
    "more environments": lambda p, o, r, rng: p.eval_action(np.concatenate([o, o])),
    "a mask for part of others": lambda p, o, r, rng: p.reset(np.arange(len(r) + 2) == 1),
}


def _overwritten(policy: Policy, obs: np.ndarray, rewards: np.ndarray, rng: np.random.Generator) -> None:
    """All arrays of the loop are buffers, and the next step overwrites them."""
    buffers = obs.copy(), rewards.astype(np.float32), np.zeros(len(rewards), bool)
    policy.observe(buffers[1])
    policy.reset(buffers[2])
    for buffer in buffers:
        buffer[:] = 1


TAKEN: dict[str, Odd] = {
    "buffers that are overwritten": _overwritten,
    "rewards told twice": lambda p, o, r, rng: p.observe(r),
    "rewards as a list": lambda p, o, r, rng: p.observe(r.tolist()),
    "a mask without environments": lambda p, o, r, rng: p.reset(np.zeros(len(r), bool)),
    "a mask as a list": lambda p, o, r, rng: p.reset([False] * len(r)),
}


def episode(policy: Policy, seed: int, between: Between) -> np.ndarray:
    """The actions of a short episode; `between` is called after each step, before its rewards are told again."""
    rng, actions = np.random.default_rng(seed), []
    policy.reset(np.ones(ENVS, bool))
    for _ in range(STEPS):
        obs = rng.uniform(-0.3, 0.3, (ENVS, 39)).astype(np.float32)
        rewards = rng.uniform(0, 10, ENVS)
        action = policy.eval_action(obs)
        actions.append(action.copy())
        policy.observe(rewards)
        between(policy, obs, rewards, action)
    return np.stack(actions)


def sound(policy: Policy, obs: np.ndarray, rewards: np.ndarray, action: np.ndarray) -> None:
    """Nothing odd."""


def odd_calls(name: str, calls: dict[str, Odd], refused: bool, count: int) -> Row:
    """Odd calls in episodes of one policy, and what came of them."""
    kinds, failures, rng, done = list(calls), [], np.random.default_rng(len(name)), 0
    odd, even = made(name), made(name)
    while done < count:
        made_here: list[str] = []

        def between(policy: Policy, obs: np.ndarray, rewards: np.ndarray, action: np.ndarray) -> None:
            action += 9  # it is the caller's
            kind = kinds[(done + len(made_here)) % len(kinds)]  # noqa: B023
            made_here.append(kind)  # noqa: B023
            if wrong := judged(partial(calls[kind], policy, obs, rewards, rng), refused):
                failures.append(f"{name}, {kind}: {wrong}")

        expected = episode(even, done, sound)
        try:
            if not np.array_equal(episode(odd, done, between), expected):
                failures.append(f"{name}: other actions after {', '.join(made_here)}")
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__} after {', '.join(made_here)}: {error}")
            odd, even = made(name), made(name)
        done += max(1, len(made_here))
    what = "odd calls are refused" if refused else "unusual calls are taken in"
    return row(f"loops: {what}, {name}", done, failures)


def judged(call: Callable[[], Any], refused: bool) -> str | None:
    """What is wrong with the end of a call."""
    try:
        call()
    except UserError as error:
        return None if refused else f"refused: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "taken in" if refused else None


def row(name: str, tried: int, failures: Sequence[str]) -> Row:
    return Row(name, tried, max(0, tried - len(failures)), tuple(failures))
