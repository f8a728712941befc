"""Laws of every backend: auto-reset, seeds, goals, shapes; and what holds Meta-World to its own."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from collectiverl.envs.concat import Concatenated
from collectiverl.envs.core import leave
from collectiverl.envs.goals import FRESH, NUM_GOALS, env_seeds, goal_split
from collectiverl.envs.hidden import HiddenGoals
from collectiverl.envs.layout import LaidOut
from collectiverl.envs.make import goals, make_envs, spec
from collectiverl.envs.metaworld.sawyer import make_sawyer, sawyer_spec
from collectiverl.envs.metaworld.suite import METAWORLD
from collectiverl.envs.metaworld.vector import MetaworldVectorEnv
from collectiverl.envs.toy import TOY, ToyVectorEnv
from collectiverl.types import UserError

TASK = "drawer-close-v3"
BACKENDS = {
    "toy": lambda n, **kw: make_envs("toy-turn", n, **kw),
    "metaworld": lambda n, **kw: make_envs(TASK, n, backend="metaworld", **kw),
    "envpool": lambda n, **kw: make_envs(TASK, n, backend="envpool", **kw),
}


@pytest.fixture(params=BACKENDS)
def make(request):
    """Makes a vector of one backend with fresh goals, which all of them can draw."""
    if request.param == "envpool":
        pytest.importorskip("envpool")
    made = []

    def maker(n, goals="fresh", **kwargs):
        made.append(BACKENDS[request.param](n, goals=goals, **kwargs))
        return made[-1]

    yield maker
    for envs in made:
        envs.close()


def actions(envs, steps, seed=0):
    shape = (steps, envs.num_envs, envs.spec.action_dim)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def frame_size(envs):
    return sum(index < envs.spec.obs_dim // 2 for index in envs.spec.state_index)


def play(envs, seed, played):
    first = envs.reset(seed)
    return first, [envs.step(action) for action in played]


def same(one, two):
    return np.array_equal(one[0], two[0]) and all(
        np.array_equal(x, y) for a, b in zip(one[1], two[1], strict=True) for x, y in zip(a, b, strict=True)
    )


def test_results_have_the_shapes_and_types_of_the_protocol(make):
    envs = make(3)
    obs = envs.reset(0)
    result = envs.step(actions(envs, 1)[0])
    assert obs.shape == result.obs.shape == (3, envs.spec.obs_dim)
    assert obs.dtype == result.obs.dtype == result.reward.dtype == np.float32
    flags = (result.terminated, result.truncated, result.success, result.began)
    assert all(flag.shape == (3,) and flag.dtype == bool for flag in flags)
    assert len(envs.tasks) == len(envs.goals()) == envs.num_envs == 3


def test_the_first_frame_is_its_own_predecessor(make):
    envs = make(2)
    obs = envs.reset(0)
    frame = frame_size(envs)
    assert np.array_equal(obs[:, :frame], obs[:, frame : 2 * frame])


def test_everything_follows_from_seed_and_actions_whatever_was_played_before(make):
    envs = make(2)
    played = actions(envs, 40)
    before = play(envs, 5, played)
    play(envs, 6, actions(envs, 13, seed=1))
    assert same(play(envs, 5, played), before)


def test_another_seed_is_another_start(make):
    envs = make(2)
    assert not np.array_equal(envs.reset(0), envs.reset(1))
    assert not np.array_equal(*envs.reset(0))


def test_an_episode_ends_at_the_horizon_and_the_next_step_begins_another(make):
    envs = make(1)
    obs, frame = envs.reset(0), frame_size(envs)
    steps = [envs.step(action) for action in actions(envs, envs.spec.horizon + 2)]
    assert [bool(step.done[0]) for step in steps].index(True) == envs.spec.horizon - 1
    last, first, second = steps[-3:]
    assert last.truncated.all()
    assert not last.terminated.any()
    assert [bool(step.began[0]) for step in (last, first, second)] == [False, True, False]
    assert not first.done.any()
    assert first.reward == 0
    assert np.array_equal(first.obs[:, :frame], first.obs[:, frame : 2 * frame])  # nothing of the old one
    assert not np.array_equal(first.obs, obs)


def test_the_action_of_a_beginning_step_is_ignored():
    first = []
    for action in (-1.0, 1.0):
        envs = make_envs("toy-turn", 1)
        envs.reset(0)
        for _ in range(envs.spec.horizon):
            envs.step(np.zeros((1, 2)))
        first.append(envs.step(np.full((1, 2), action)).obs)
    assert np.array_equal(*first)


def test_a_reset_right_after_the_end_begins_once(make):
    envs = make(1)
    envs.reset(0)
    for action in actions(envs, envs.spec.horizon):
        ended = envs.step(action)
    assert ended.done.all()
    envs.reset(1)
    assert not envs.step(actions(envs, 1)[0]).began.any()


def test_results_are_not_overwritten_by_later_steps(make):
    envs = make(2)
    envs.reset(0)
    first, second = actions(envs, 2)
    result = envs.step(first)
    kept = [part.copy() for part in result]
    envs.step(second)
    assert all(np.array_equal(part, copy) for part, copy in zip(result, kept, strict=True))


@pytest.mark.parametrize("backend", ["toy", "metaworld", "envpool"])
def test_equal_seeds_give_different_goals_in_different_tasks(backend):
    if backend == "envpool":
        pytest.importorskip("envpool")
    tasks = TOY.tasks[:2] if backend == "toy" else ("reach-v3", "pick-place-v3")
    chosen = "auto" if backend == "toy" else backend
    made = [make_envs(task, 2, backend=chosen, goals="fresh") for task in tasks]
    one, two = (envs.reset(0)[:, envs.spec.goal_index] for envs in made)
    assert not np.isclose(one, two, atol=1e-3).all(axis=1).any()
    for envs in made:
        envs.close()


def test_fresh_goals_have_no_index(make):
    envs = make(2)
    envs.reset(0)
    assert (envs.goals() == FRESH).all()


@pytest.mark.parametrize("task", ["toy-reach", TASK])
def test_goals_are_played_in_order_and_then_again(task):
    envs = make_envs(task, 2, goals=[4, 9, 11], order="sequential", backend="metaworld")
    envs.reset(0)
    assert envs.goals().tolist() == [4, 9]
    for _ in range(envs.spec.horizon):
        envs.step(np.zeros((2, envs.spec.action_dim)))
    assert envs.goals().tolist() == [4, 9]
    envs.step(np.zeros((2, envs.spec.action_dim)))
    assert envs.goals().tolist() == [11, 4]
    envs.reset(0)
    assert envs.goals().tolist() == [4, 9]
    envs.close()


def test_held_out_goals_are_never_trained_on():
    envs = make_envs("toy-reach", NUM_GOALS, goals="train")
    envs.reset(0)
    assert set(envs.goals()) <= set(goal_split()[0])


def test_a_state_is_this_frame_and_the_goal():
    assert spec("toy-reach").state_dim == 4
    assert spec(TASK).state_dim == 21
    assert spec(TASK).obs_dim == 39


def test_the_goal_is_where_the_spec_says():
    assert spec("toy-reach").goal_index == (4, 5)
    assert spec(TASK).goal_index == (36, 37, 38)
    for task in ("toy-reach", TASK):
        assert spec(task).state_index[-len(spec(task).goal_index) :] == spec(task).goal_index


def test_concatenated_vectors_play_as_they_would_alone():
    members = [make_envs(task, n) for task, n in zip(TOY.tasks, (1, 2, 3, 1), strict=True)]
    envs = Concatenated(members)
    assert envs.tasks == ("toy-reach", "toy-mirror", "toy-mirror", *["toy-swap"] * 3, "toy-turn")
    played = actions(envs, 30)
    before = play(envs, 3, played)
    assert before[0].shape == (7, 6)
    assert same(play(envs, 3, played), before)
    assert np.array_equal(envs.goals(), np.concatenate([member.goals() for member in members]))
    alone = members[1].step(played[0][1:3])
    assert alone.obs.shape == (2, 6)


@pytest.mark.parametrize("backend", ["metaworld", "envpool"])
def test_tasks_stepped_together_play_as_each_alone(backend):
    tasks, seed = ("reach-v3", "drawer-close-v3"), 5
    envs = Concatenated([make_envs(task, 2, backend=backend, goals="fresh") for task in tasks])
    played = actions(envs, 12)
    first, together = play(envs, seed, played)
    envs.close()
    for i, (task, own_seed) in enumerate(zip(tasks, env_seeds(seed, 2), strict=True)):
        rows = slice(2 * i, 2 * i + 2)
        alone = make_envs(task, 2, backend=backend, goals="fresh")
        expected = play(alone, own_seed, played[:, rows])
        alone.close()
        mine = first[rows], [[column[rows] for column in result] for result in together]
        assert same(mine, expected)


@pytest.mark.parametrize("make", ["metaworld", "envpool"], indirect=True)
def test_those_left_behind_rest_and_the_others_play_as_before(make):
    envs, others = make(3, horizon=8), np.array([0, 2])
    played = actions(envs, 14)  # beyond the end of an episode
    _, expected = play(envs, 4, played)
    envs.reset(4)
    for t, action in enumerate(played):
        result = envs.step(action)
        if t >= 4:
            assert np.array_equal(result.obs[1], expected[3].obs[1])
            assert not any(column[1] for column in result[1:])  # no reward, no success, no end, no beginning
        for mine, theirs in zip(result, expected[t], strict=True):
            assert np.array_equal(mine[others], theirs[others])
        if t >= 3:
            envs.leave(np.array([False, True, False]))
    assert same(play(envs, 4, played), play(make(3, horizon=8), 4, played))  # a reset calls it back


class Told(ToyVectorEnv):
    """Notes which of its environments are left."""

    def __init__(self, num_envs):
        super().__init__("toy-turn", num_envs, "fresh")

    def leave(self, over):
        self.over = over.tolist()


def test_whoever_wraps_environments_passes_on_which_are_left():
    members = [Told(1), Told(3)]
    leave(Concatenated(members), np.array([True, False, True, False]))
    assert [member.over for member in members] == [[True], [False, True, False]]
    for wrap in (HiddenGoals, lambda envs: LaidOut(envs, spec("toy-turn"))):
        leave(wrap(envs := Told(2)), np.array([False, True]))
        assert envs.over == [False, True]


@pytest.mark.parametrize("make", ["metaworld", "envpool"], indirect=True)
def test_an_environment_that_ended_can_be_left_behind(make):
    envs = make(2, horizon=3)
    envs.reset(0)
    *_, ended = [envs.step(action) for action in actions(envs, 3)]
    envs.leave(np.array([True, False]))
    after = envs.step(actions(envs, 1)[0])
    assert np.array_equal(after.obs[0], ended.obs[0])
    assert after.began.tolist() == [False, True]


def test_vectors_of_different_shape_do_not_concatenate():
    with pytest.raises(ValueError, match="differ in shape"):
        Concatenated([make_envs("toy-reach", 1), make_envs(TASK, 1)])


def test_envpool_refuses_goals_it_cannot_play():
    with pytest.raises(UserError, match="--goals fresh, or --backend reference"):
        make_envs(TASK, 1, backend="envpool", goals="all")


def test_without_envpool_auto_takes_metaworld_and_asking_for_it_says_how_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UserError, match=r"collectiverl\[envpool\]"):
        make_envs(TASK, 1, backend="envpool", goals="fresh")
    assert isinstance(make_envs(TASK, 1, goals="fresh"), MetaworldVectorEnv)


def test_fixed_goals_are_played_on_metaworld():
    assert isinstance(make_envs(TASK, 1, goals="all"), MetaworldVectorEnv)


def test_the_simulator_of_each_environment_can_be_had():
    envs = MetaworldVectorEnv(TASK, 2, goals=[0, 1], order="sequential")
    envs.reset(0)
    (model, data), (_, other) = envs.mujoco_state(0), envs.mujoco_state(1)
    assert data.qpos.shape == (model.nq,)
    assert other is not data
    envs.close()


def check_a_new_environment(task, history=120):
    """Plays `history` steps on one goal, then another goal, which must go as in a new environment."""
    envs = MetaworldVectorEnv(task, 1, goals=[7, 3], order="sequential")
    official = make_sawyer(task)
    official._last_rand_vec = goals(task)[3].copy()
    played = actions(envs, 50)[:, 0]
    envs.reset(0)
    for action in actions(envs, history, seed=1):
        envs.step(action)
    inner = envs._envs.envs[0]
    obs, reference = inner.reset()[0], official.reset()[0]
    assert np.array_equal(obs[: len(reference)], reference)
    for action in played:
        ours, theirs = inner.step(action), official.step(action)
        assert np.array_equal(ours[0][: len(reference)], theirs[0])
        assert ours[1] == theirs[1]
        assert ours[0][-2] == theirs[4]["success"]
    envs.close()


def test_an_episode_goes_as_in_a_new_metaworld_environment():
    check_a_new_environment(TASK)


@pytest.mark.slow
@pytest.mark.parametrize("task", METAWORLD.tasks)
def test_an_episode_of_every_task_goes_as_in_a_new_metaworld_environment(task):
    check_a_new_environment(task, history=450)


@pytest.mark.slow
def test_all_fifty_tasks_have_one_shape():
    assert len({replace(sawyer_spec(task), task="any") for task in METAWORLD.tasks}) == 1


@pytest.mark.slow
def test_processes_change_nothing():
    envs = [MetaworldVectorEnv(TASK, 2, goals="fresh", processes=processes) for processes in (False, True)]
    played = actions(envs[0], envs[0].spec.horizon + 2)
    assert same(*(play(vector, 1, played) for vector in envs))
    for vector in envs:
        vector.close()
