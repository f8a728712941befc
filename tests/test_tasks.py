"""Names and goals."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from collectiverl.envs.goals import FRESH, NUM_GOALS, GoalSequence, env_seeds, goal_split, indices
from collectiverl.envs.make import goals
from collectiverl.envs.metaworld.suite import METAWORLD
from collectiverl.envs.registry import SUITES
from collectiverl.envs.tasks import benchmark_of, canonical, label, resolve
from collectiverl.envs.toy import TOY, toy_goals
from collectiverl.types import UserError

REACH, SWAP = (partial(toy_goals, task) for task in ("toy-reach", "toy-swap"))


@pytest.mark.parametrize("spelling", ["reach", "reach-v2", "reach-v3", "Reach-v3"])
def test_every_spelling_names_the_same_task(spelling):
    assert canonical(spelling) == "reach-v3"


def test_a_task_that_was_renamed_keeps_its_old_name():
    assert canonical("peg-insertion-side-v2") == "peg-insert-side-v3"


@pytest.mark.parametrize(
    ("name", "size"), [("MT10", 10), ("MT25", 25), ("MT50", 50), ("ml10", 10), ("ML45", 45)]
)
def test_a_benchmark_has_as_many_tasks_as_its_name_says(name, size):
    assert len(resolve([name])) == size


@pytest.mark.parametrize("name", ["ML10", "ML45"])
def test_a_benchmark_of_meta_learning_is_tested_on_five_other_tasks(name):
    """The lists are Meta-World's own."""
    metaworld = pytest.importorskip("metaworld")
    train, test = resolve([name]), resolve([f"{name.lower()}-TEST"])
    assert len(test) == 5
    assert not set(train) & set(test)
    own = metaworld.env_dict.ML10_V3 if name == "ML10" else metaworld.env_dict.ML45_V3
    assert (train, test) == (tuple(own["train"]), tuple(own["test"]))
    assert (benchmark_of(train), benchmark_of(test)) == (name, f"{name}-test")


def test_resolving_keeps_the_order_and_names_no_task_twice():
    assert resolve(["window-open", "MT10", "reach-v2"])[:2] == ("window-open-v3", "reach-v3")
    assert len(resolve(["window-open", "MT10", "reach-v2"])) == 10


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_canonical_name_and_every_label_names_its_task(suite):
    assert resolve(suite.tasks) == suite.tasks
    assert resolve([label(task) for task in suite.tasks]) == suite.tasks


def test_the_suites_tasks_are_metaworlds():
    assert set(METAWORLD.tasks) == set(METAWORLD.benchmark("MT50"))


def test_a_label_is_short():
    assert label("reach-v3") == "reach"
    assert label("toy-reach") == "toy-reach"


def test_tasks_of_two_suites_are_refused():
    with pytest.raises(UserError, match=r"reach-v3 \(suite Meta-World\).*toy-turn \(suite toy\).*one suite"):
        resolve(["reach", "toy-turn", "push"])


def test_a_benchmark_is_recognised_by_its_tasks():
    assert benchmark_of(resolve(["MT10"])) == "MT10"
    assert benchmark_of(resolve(["MT10"])[::-1]) is None
    assert benchmark_of(TOY.tasks) is None


@pytest.mark.parametrize(
    ("typo", "meant"), [("raech", "reach-v3"), ("MT15", "MT10"), ("toy-trun", "toy-turn")]
)
def test_a_typo_is_answered_with_the_nearest_name(typo, meant):
    with pytest.raises(UserError, match=f"no task '{typo}': did you mean .*'{meant}'"):
        resolve([typo])


def test_the_split_holds_out_ten_goals_and_loses_none():
    train, held_out = goal_split()
    assert len(held_out) == 10
    assert sorted(train + held_out) == list(range(NUM_GOALS))


def test_goal_sets_name_the_split():
    assert (indices("train"), indices("held-out")) == goal_split()
    assert indices("all") == tuple(range(NUM_GOALS))
    assert indices("fresh") == ()


@pytest.mark.parametrize("chosen", ["held_out", [], [5_000], [-1]])
def test_goals_that_do_not_exist_are_refused(chosen):
    with pytest.raises(UserError, match="goal"):
        indices(chosen)


def test_a_tasks_goals_are_distinct_and_the_same_every_time():
    made = goals("toy-reach")
    assert made.shape == (NUM_GOALS, 4)
    assert len(np.unique(made, axis=0)) == NUM_GOALS
    assert np.array_equal(toy_goals.__wrapped__("toy-reach", 0), made)
    assert not np.array_equal(goals("toy-reach", seed=1), made)


def test_shared_goals_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        goals("toy-reach")[0] = 0


@pytest.mark.parametrize("num_envs", [1, 3, 7, 50])
def test_played_in_order_every_goal_comes_once(num_envs):
    sequences = [GoalSequence(REACH, "all", "sequential", i, num_envs) for i in range(num_envs)]
    rounds = -(-NUM_GOALS // num_envs)
    played = [sequence.next().number for _ in range(rounds) for sequence in sequences]
    assert played[:NUM_GOALS] == list(range(NUM_GOALS))


def test_random_goals_follow_from_the_seed():
    sequence = GoalSequence(REACH, "train", "random")
    sequence.restart(3)
    first = [sequence.next().number for _ in range(100)]
    sequence.restart(3)
    assert [sequence.next().number for _ in range(100)] == first
    assert set(first) <= set(goal_split()[0])


def test_a_goal_comes_with_its_row():
    number, row = GoalSequence(SWAP, "held-out", "random").next()
    assert np.array_equal(row, goals("toy-swap")[number])


def test_goals_of_further_seeds_are_numbered_on():
    sequence = GoalSequence(SWAP, [3, 53, 103], "sequential")
    for seed in range(3):
        number, row = sequence.next()
        assert number == 3 + 50 * seed
        assert np.array_equal(row, goals("toy-swap", seed)[3])


def test_a_fresh_goal_has_no_index():
    assert GoalSequence(REACH, "fresh", "random").next() == (FRESH, None)


def test_neighbouring_seeds_share_no_environment_seed():
    assert not set(env_seeds(0, 16)) & set(env_seeds(1, 16))


def test_two_tasks_share_no_environment_seed():
    assert env_seeds(0, 16, "reach-v3") == env_seeds(0, 16, "reach-v3")
    assert not set(env_seeds(0, 16, "reach-v3")) & set(env_seeds(0, 16, "push-v3"))


def test_goals_are_metaworlds_own():
    metaworld = pytest.importorskip("metaworld")
    benchmark = metaworld.MT1("drawer-close-v3", seed=0)
    env = benchmark.train_classes["drawer-close-v3"]()
    for task, row in zip(benchmark.train_tasks, goals("drawer-close-v3"), strict=True):
        env.set_task(task)
        assert np.array_equal(env._last_rand_vec, row)


def test_the_toy_tasks_do_without_metaworld():
    program = """
import sys
from collectiverl.envs.make import make_envs
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.tasks import resolve
resolve(["reach", "push-v2"])  # nor do names
envs = make_envs(*resolve(["toy-swap"]), 1)
ScriptedPolicy(envs.tasks).eval_action(envs.reset(0))
sys.exit("metaworld" in sys.modules or "mujoco" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
