"""EnvPool against Meta-World: on the verified tasks they are the same environment, step by step.

EnvPool draws its goals itself and does not tell them. But Meta-World's first observation is a smooth function
of the goal, so Newton's method finds the goal whose first observation is EnvPool's. From there on the same
actions must give the same frames, rewards and successes, until contacts amplify rounding; after that, whole
episodes must be worth the same.
"""

from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("envpool")

from collectiverl.envs.goals import NUM_GOALS
from collectiverl.envs.make import goals
from collectiverl.envs.metaworld.envpool import EnvpoolVectorEnv
from collectiverl.envs.metaworld.sawyer import make_sawyer, sawyer_spec
from collectiverl.envs.metaworld.suite import METAWORLD
from collectiverl.envs.metaworld.verified import DIFFERS, GOALS_ADD_UP, VERIFIED
from collectiverl.envs.scripted import ScriptedPolicy

EPISODES = 8
MATCHED = 1e-3  # residual of a goal that is EnvPool's
REACH = 1.0  # metres from the robot's base: no task has a goal beyond
FREE = 10  # steps before any contact
FRAME_TOLERANCE = 1e-2  # metres, or a quaternion's entries
REWARD_TOLERANCE = 0.1  # of 10
RETURN_TOLERANCE = 0.05  # of the return


class Pair(NamedTuple):
    """The same goals and noise on both backends, Meta-World first."""

    frame: np.ndarray  # (2, T, N, F): current frame after each step
    reward: np.ndarray  # (2, T, N)
    success: np.ndarray  # (2, T, N)

    @property
    def agrees_at_first(self):
        frames, rewards = (np.abs(part[0] - part[1])[:FREE].max() for part in (self.frame, self.reward))
        return frames < FRAME_TOLERANCE and rewards < REWARD_TOLERANCE


class BreaksConstraint(Exception):
    """Meta-World would draw another goal, for ever if it is always given this one."""


def first_observation(env, rand_vec):
    draws = iter([rand_vec, rand_vec])  # one for each of the two resets in a reset

    def draw():
        try:
            return next(draws).copy()
        except StopIteration:
            raise BreaksConstraint from None

    env._get_state_rand_vec = draw
    return env.reset()[0]


def matching_goal(env, fixed, target, tries=4):
    """Meta-World's goal whose first observation is nearest to `target`, from the nearest of `fixed`."""
    seen = np.stack([first_observation(env, rand_vec) for rand_vec in fixed])
    found = []
    for start in np.linalg.norm(seen - target, axis=1).argsort():
        with suppress(BreaksConstraint):
            found.append(newton(env, fixed[start], target))
        if len(found) == tries or (found and found[-1][0] < MATCHED):
            break
    return min(found, key=lambda one: one[0])[1]


def newton(env, rand_vec, target, iterations=3, width=1e-4):
    space, base = env._random_reset_space, first_observation(env, rand_vec)
    for _ in range(iterations):
        moved = [first_observation(env, rand_vec + width * unit) for unit in np.eye(len(rand_vec))]
        jacobian = (np.stack(moved, axis=1) - base[:, None]) / width
        step = np.linalg.lstsq(jacobian, target - base, rcond=1e-6)[0]
        rand_vec = np.clip(rand_vec + step, space.low, space.high)
        base = first_observation(env, rand_vec)
    return np.abs(base - target).max(), rand_vec


def play_both(task, episodes, steps, starts):
    """The scripted policy with common noise, on EnvPool's goals; each backend answers to its own frames."""
    spec, policy = sawyer_spec(task), ScriptedPolicy([task] * episodes)
    pool, envs = EnvpoolVectorEnv(task, episodes), [make_sawyer(task) for _ in range(episodes)]
    theirs = pool.reset(0)
    found = [matching_goal(envs[0], goals(task)[:starts], target) for target in theirs]
    ours = np.stack([first_observation(env, rand_vec) for env, rand_vec in zip(envs, found, strict=True)])
    theirs = ours  # the first action is the same, even where the first frame is not
    rng, frame, record = np.random.default_rng(0), len(spec.state_index) - 3, []
    for _ in range(steps):
        noise = 0.05 * rng.normal(size=(episodes, spec.action_dim))
        here, there = (np.clip(policy.eval_action(obs) + noise, -1, 1) for obs in (ours, theirs))
        ours, reward, _, _, infos = zip(*[e.step(a) for e, a in zip(envs, here, strict=True)], strict=True)
        result, ours = pool.step(there), np.stack(ours)
        theirs, success = result.obs, [info["success"] > 0 for info in infos]
        frames = (ours[:, :frame], theirs[:, :frame])
        record.append((frames, (reward, result.reward), (success, result.success)))
    pool.close()
    return Pair(*(np.swapaxes(np.array(part), 0, 1) for part in zip(*record, strict=True)))


def test_every_task_is_verified_or_said_to_differ():
    assert VERIFIED | set(DIFFERS) == set(METAWORLD.benchmark("MT50"))
    assert not VERIFIED & set(DIFFERS)


@pytest.mark.parametrize("task", ["reach-v3", "drawer-close-v3", "window-close-v3"])
def test_a_verified_task_is_metaworlds_step_by_step(task):
    pair = play_both(task, episodes=1, steps=60, starts=5)
    assert task in VERIFIED
    assert pair.agrees_at_first
    assert np.array_equal(*pair.success)


def goals_seen(task, episodes):
    """The goal that one copy shows in each of its first episodes."""
    pool, index = EnvpoolVectorEnv(task, 1, horizon=1), list(sawyer_spec(task).goal_index)
    seen = [pool.reset(0)]
    for _ in range(2 * (episodes - 1)):
        result = pool.step(np.zeros((1, 4), np.float32))
        if result.began.all():
            seen.append(result.obs)
    pool.close()
    return np.concatenate(seen)[:, index]


@pytest.mark.parametrize("task", sorted(VERIFIED))
def test_goals_of_a_verified_task_stay_within_reach(task):
    assert np.abs(goals_seen(task, episodes=3)).max() < REACH


@pytest.mark.parametrize("task", [task for task, why in DIFFERS.items() if why == GOALS_ADD_UP])
def test_goals_that_add_up_leave_the_table(task):
    seen = np.abs(goals_seen(task, episodes=2)).max(axis=1)
    assert seen[0] < REACH < seen[1]


def test_the_comparison_tells_a_task_that_differs():
    assert "button-press-topdown-wall-v3" in DIFFERS
    assert not play_both("button-press-topdown-wall-v3", episodes=1, steps=FREE, starts=5).agrees_at_first


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(VERIFIED))
def test_episodes_of_a_verified_task_are_worth_the_same(task):
    pair = play_both(task, EPISODES, steps=sawyer_spec(task).horizon, starts=NUM_GOALS)
    returns, successes = pair.reward.sum(1), pair.success.any(1).mean(1)
    error = returns[1] - returns[0]
    chance = 3 * error.std(ddof=1) / np.sqrt(EPISODES)
    assert pair.agrees_at_first
    assert abs(error.mean()) < max(RETURN_TOLERANCE * returns[0].mean(), chance)
    assert abs(successes[1] - successes[0]) <= 2 / EPISODES


# -- later episodes of one pool, briefly -----------------------------------------------------------------------

LATER = 3  # the episode of a copy that is compared: what adds up from reset to reset shows by then


def begun(task):
    """The pool at the beginning of a later episode, and its first observation."""
    pool = EnvpoolVectorEnv(task, 1, horizon=FREE)
    pool.reset(0)
    began = 0
    while began < LATER - 1:
        result = pool.step(np.zeros((1, 4), np.float32))
        began += bool(result.began.all())
    return pool, result.obs[0]


def goal_of(env, shown, seen, tries=20, iterations=3, width=1e-4):
    """The goal of Meta-World whose first observation is nearest to `shown` in the entries `seen`.

    Some entries may stay apart, so squares are added up: `window-close` first shows its handle where Meta-World has it
    only a step later.
    """
    space, rng, found = env._random_reset_space, np.random.default_rng(0), []
    for _ in range(tries):
        with suppress(BreaksConstraint):
            rand_vec = rng.uniform(space.low, space.high)
            base = first_observation(env, rand_vec)[seen]
            for _ in range(iterations):
                found.append((((base - shown[seen]) ** 2).sum(), rand_vec))
                if np.abs(base - shown[seen]).max() < MATCHED:
                    return rand_vec
                moved = [
                    first_observation(env, rand_vec + width * unit)[seen] for unit in np.eye(len(rand_vec))
                ]
                jacobian = (np.stack(moved, axis=1) - base[:, None]) / width
                step = np.linalg.lstsq(jacobian, shown[seen] - base, rcond=1e-6)[0]
                rand_vec = np.clip(rand_vec + step, space.low, space.high)
                base = first_observation(env, rand_vec)[seen]
    return min(found, key=lambda one: one[0])[1]


def later_difference(task):
    """How far frames and rewards of a later episode are from Meta-World's, under the same actions."""
    (pool, shown), env = begun(task), make_sawyer(task)
    seen = list(sawyer_spec(task).state_index)
    frame, policy = len(seen) - 3, ScriptedPolicy([task])
    rand_vec = goal_of(env, shown, seen)
    ours, apart = first_observation(env, rand_vec), []
    for _ in range(FREE):
        action = policy.eval_action(ours[None])
        ours, reward, *_ = env.step(action[0])
        result = pool.step(action)
        apart.append((np.abs(ours[:frame] - result.obs[0, :frame]).max(), abs(reward - result.reward[0])))
    pool.close()
    return np.max(apart, axis=0)


@pytest.mark.parametrize("task", sorted(VERIFIED))
def test_later_episodes_of_a_verified_task_are_metaworlds(task):
    frame, reward = later_difference(task)
    assert frame < FRAME_TOLERANCE
    assert reward < REWARD_TOLERANCE
