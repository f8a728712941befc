"""Evaluation: the protocol on the toy task, and on Meta-World against its own evaluation."""

from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from collectiverl.envs.goals import goal_split
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import RandomPolicy
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.toy import HORIZON
from collectiverl.evaluation.evaluate import (
    EvaluateConfig,
    evaluate,
    evaluation_envs,
)
from collectiverl.evaluation.statistics import success_interval
from collectiverl.types import ConfigError

TOY, SAWYER = "toy-turn", "peg-insert-side-v3"
SAWYER_GOALS = (2, 5, 16)  # its script never solves 5, and loses 2 and 16 again


class Late:
    """The toy's script, after `wait` steps of doing nothing: a memory that `reset` must clear."""

    def __init__(self, task, wait):
        self.script, self.wait = ScriptedPolicy([task]), wait

    def reset(self, env_mask):
        self.age = np.where(env_mask, 0, getattr(self, "age", np.zeros(len(env_mask), int)))

    def eval_action(self, observations):
        return self.script.eval_action(observations) * (self.age >= self.wait)[:, None]

    def observe(self, rewards):
        self.age += 1


def test_the_optimal_policy_solves_every_goal_once_and_to_the_end():
    result = evaluate(ScriptedPolicy([TOY]), TOY)
    assert result.goals == tuple(range(50))
    assert result.rate_any == result.rate_last == 1
    assert result.interval == success_interval(50, 50)
    assert result.return_mean > 5 * HORIZON


def test_a_policy_that_does_nothing_fails():
    result = evaluate(Late(TOY, HORIZON), TOY)
    assert result.rate_any <= 0.1  # goals that begin solved
    assert result.steps_to_success in (None, 1.0)


@pytest.mark.parametrize("num_envs", [1, 3, 5, 50])
def test_the_result_does_not_depend_on_how_many_play_side_by_side(num_envs):
    one = evaluate(Late(TOY, 3), TOY, EvaluateConfig(num_envs=2))
    assert evaluate(Late(TOY, 3), TOY, EvaluateConfig(num_envs=num_envs)) == one


def test_waiting_delays_success_by_as_many_steps():
    prompt, late = (evaluate(Late(TOY, wait), TOY) for wait in (0, 3))
    pairs = list(zip(prompt.first_success, late.first_success, strict=True))
    assert all(b == a + 3 for a, b in pairs if a and a > 1 and b)
    assert all(b is not None for a, b in pairs if a and a + 3 <= HORIZON)


@pytest.mark.parametrize(("chosen", "goals"), [*zip(("train", "held-out"), goal_split(), strict=True)])
def test_goal_sets_are_played(chosen, goals):
    assert evaluate(ScriptedPolicy([TOY]), TOY, EvaluateConfig(goals=chosen)).goals == goals


def test_environments_are_shared_by_policies():
    config = EvaluateConfig(goals=(4, 1, 7))
    envs = evaluation_envs(TOY, config)
    for policy in (Late(TOY, 2), ScriptedPolicy([TOY])):
        assert evaluate(policy, TOY, config, envs=envs) == evaluate(policy, TOY, config)


@pytest.mark.parametrize(
    ("task", "goals", "order", "says"),
    [("toy-swap", "all", "sequential", "not toy-turn"), (TOY, "train", "sequential", "each goal once")],
)
def test_other_environments_are_refused(task, goals, order, says):
    with pytest.raises(ValueError, match=says):
        evaluate(ScriptedPolicy([task]), TOY, envs=make_envs(task, 5, goals=goals, order=order))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"num_envs": 0}, "0 must be at least 1"),
        ({"goal_seeds": 101}, "101 is not in [1, 100]"),
        ({"goals": (1, 1)}, "(1, 1) names a goal twice"),
    ],
)
def test_nonsense_is_refused_by_name(settings, why):
    with pytest.raises(ConfigError) as refused:
        EvaluateConfig(**settings)
    assert (refused.value.field, refused.value.why) == (*settings, why)


def test_fresh_goals_are_refused():
    with pytest.raises(
        (ValueError, TypeCheckError), match="goals"
    ):  # by its type already, where types are checked
        EvaluateConfig(goals="fresh")


def test_progress_is_reported():
    seen = []
    evaluate(ScriptedPolicy([TOY]), TOY, EvaluateConfig(goals=(3, 4)), report=lambda *call: seen.append(call))
    assert seen == [(1, 2, TOY), (2, 2, TOY)]


# -- Meta-World --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours():
    return evaluate(ScriptedPolicy([SAWYER]), SAWYER, EvaluateConfig(goals=SAWYER_GOALS))


def metaworlds_own(task, goal):
    """The success rate Meta-World finds for its script on one goal, in its own wrappers."""
    import metaworld
    from metaworld.evaluation import evaluation

    benchmark = metaworld.MT1(task, seed=0)
    make = partial(metaworld._init_each_env, benchmark.train_classes[task], [benchmark.train_tasks[goal]])
    envs = gym.vector.SyncVectorEnv([make], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    found = evaluation(ScriptedPolicy([task]), envs, num_episodes=1)
    envs.close()
    return found[0]


def test_success_is_metaworlds_own(ours):
    """Goal by goal: side by side, theirs would play a goal it solves again while others are under way."""
    theirs = [metaworlds_own(SAWYER, goal) for goal in SAWYER_GOALS]
    assert theirs == [float(success) for success in ours.success_any]


def test_success_lasts_to_the_last_step_or_not(ours):
    assert ours.success_any == (True, False, True)
    assert ours.success_last == (False, False, False)
    assert ours.steps_to_success == np.mean([ours.first_success[0], ours.first_success[2]])


def test_shared_simulators_remember_nothing(ours):
    config = EvaluateConfig(goals=SAWYER_GOALS[:1])
    envs = evaluation_envs(SAWYER, config)
    evaluate(RandomPolicy(4, 0), SAWYER, config, envs=envs)
    again = evaluate(ScriptedPolicy([SAWYER]), SAWYER, config, envs=envs)
    envs.close()
    assert again == replace(
        ours,
        **{
            name: (getattr(ours, name)[0],)
            for name in vars(again)
            if name not in ("task", "seed", "goals_hidden")
        },
    )
