"""The Fetch suite: names, one layout, scripts that solve their tasks, and EnvPool against Gymnasium-Robotics."""

import sys

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("gymnasium_robotics")

from collectiverl.envs.fetch.layout import WITHOUT_OBJECT, flatten
from collectiverl.envs.fetch.suite import DIFFERS, FETCH, ORIGINAL, make_fetch
from collectiverl.envs.make import goals, layout_of, make_envs, spec
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.tasks import canonical, resolve
from collectiverl.evaluation.evaluate import EvaluateConfig, evaluate
from collectiverl.types import UserError

FREE = 10  # steps before contacts amplify rounding
TOLERANCE = 5e-3  # metres; fingers that touch the table begin 2 mm higher or lower


def test_its_names_are_understood():
    assert resolve(["fetch"]) == FETCH.tasks
    for task, name in ORIGINAL.items():
        bare = name.removesuffix("Dense-v4")
        assert {canonical(n) for n in (task, name, bare, f"{bare}-v4")} == {task}
    assert canonical("reach") == "reach-v3"  # Meta-World's


def test_all_tasks_share_one_layout():
    assert layout_of(FETCH.tasks).obs_dim == 28
    dictionary = {"observation": np.arange(10.0), "desired_goal": np.arange(3.0)}
    flat = flatten(dictionary)
    assert flat[list(WITHOUT_OBJECT)].tolist() == list(range(10))
    assert flat[25:].tolist() == [0, 1, 2]
    assert not np.delete(flat[:25], WITHOUT_OBJECT).any()


def test_it_is_the_environment_of_gymnasium_robotics():
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    with gym.make("FetchPushDense-v4") as original:
        seed = int(goals("fetch-push")[4, 0])
        theirs, _ = original.reset(seed=seed)
        envs = make_envs("fetch-push", 1, goals=[4])
        assert np.array_equal(envs.reset(0)[0], flatten(theirs))
        action = np.array([0.3, -0.2, 0.1, 0.5], np.float32)
        theirs, reward, *_, info = original.step(action)
        ours = envs.step(action[None])
    assert np.array_equal(ours.obs[0], flatten(theirs))
    assert (ours.reward[0], ours.success[0]) == (np.float32(reward), bool(info["is_success"]))
    assert spec("fetch-push").horizon == original.spec.max_episode_steps
    envs.close()


def test_without_gymnasium_robotics_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    assert spec("fetch-slide").obs_dim == 28
    with pytest.raises(UserError, match=r"collectiverl\[fetch\]"):
        make_envs("fetch-slide", 1)


@pytest.mark.parametrize("task", FETCH.tasks)
def test_a_script_solves_its_task(task):
    """On a few of its fixed goals."""
    result = evaluate(ScriptedPolicy((task,)), task, EvaluateConfig(goals=(0, 1, 2, 3), num_envs=1))
    assert result.rate_any >= (0.25 if task == "fetch-slide" else 1)


@pytest.mark.parametrize("task", FETCH.tasks)
def test_envpool_is_gymnasium_robotics_step_by_step_or_said_to_differ(task):
    """Of a copy's second episode, too; the goal and the object are put where EnvPool has them."""
    pytest.importorskip("envpool")
    pool, env = make_envs(task, 1, goals="fresh", backend="envpool", horizon=FREE), make_fetch(task)
    rng, apart, shown = np.random.default_rng(0), [], pool.reset(3)[0]
    for _ in range(2):
        env.reset(seed=0)
        apart.append(np.abs(placed(env, shown) - shown).max())
        for _ in range(FREE):
            action = rng.uniform(-1, 1, 4).astype(np.float32)
            obs, reward, *_, info = env.step(action)
            theirs = pool.step(action[None])
            apart += [np.abs(theirs.obs[0] - obs).max(), abs(theirs.reward[0] - reward)]
            assert theirs.success[0] == bool(info["is_success"])
        shown = pool.step(action[None]).obs[0]
    pool.close()
    env.close()
    assert (max(apart) < TOLERANCE) == (task not in DIFFERS), max(apart)


def placed(env, shown):
    """The environment with its object and goal where an observation shows them; its observation."""
    inner = env.unwrapped
    inner.goal = shown[25:28].astype(float)
    if inner.has_object:
        place = inner._utils.get_joint_qpos(inner.model, inner.data, "object0:joint")
        place[:2] = shown[3:5]
        inner._utils.set_joint_qpos(inner.model, inner.data, "object0:joint", place)
        inner._mujoco.mj_forward(inner.model, inner.data)
    return flatten(inner._get_obs())
