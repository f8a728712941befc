"""A collective in Meta-World's meta-learning protocol: what it keeps of its rollouts, and when it forgets it."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

pytest.importorskip("metaworld")

import gymnasium as gym
from metaworld.evaluation import Agent, MetaLearningAgent, Timestep, metalearning_evaluation

from collectiverl.collective.probing import ProbingConfig
from collectiverl.envs.metaworld.meta import default_per_task, make_meta_envs
from collectiverl.evaluation import metalearning
from collectiverl.evaluation.adaptation import PHASE, MetaLearner
from collectiverl.evaluation.metalearning import MetaConfig, MetaEvaluation, evaluate_meta, meta_report
from collectiverl.policies import load_collective
from collectiverl.types import ConfigError, UserError
from toy_buffers import SPEC, any_collective

LENGTH, ENVS = 4, 2
ALL = np.ones(ENVS, bool)
HIDDEN = any_collective(goals_hidden=True)


def observed(seed, length=LENGTH):
    return np.random.default_rng(seed).normal(size=(length, ENVS, SPEC.obs_dim))


def play(learner, obs, rewards):
    """One rollout in both environments; returns the `z` of each step."""
    found = []
    for t, reward in enumerate(rewards):
        action, told = learner.adapt_action(obs[t])
        assert not told
        found.append([memory.z[-1] for memory in learner.memories])
        over, last = np.zeros(ENVS, bool), np.full(ENVS, t == len(rewards) - 1)
        learner.step(Timestep(obs[t], action, np.asarray(reward, float), over, last, told))
    return np.array(found)


def acted_on(learner, obs):
    """The `z` of each step of an episode that is evaluated."""
    found = []
    for o in obs:
        learner.eval_action(o)
        found.append([memory.z[-1] for memory in learner.memories])
    return np.array(found)


def adapted(values=((1.0, 3.0), (2.0, 1.0)), collective=HIDDEN):
    """A learner after rollouts of these rewards (one row a rollout); and the `z` of each rollout."""
    learner, found = MetaLearner(collective), []
    for seed, value in enumerate(values):
        found.append(play(learner, observed(seed), [value] * LENGTH))
    learner.adapt()
    learner.reset(ALL)
    return learner, found


def test_each_environment_is_played_with_the_embeddings_of_its_own_best_rollout():
    learner, (first, second) = adapted()
    assert not np.allclose(first, second, atol=1e-3)
    played = acted_on(learner, observed(7))
    np.testing.assert_array_equal(played[:, 0], second[:, 0])
    np.testing.assert_array_equal(played[:, 1], first[:, 1])


def test_what_was_fixed_does_not_change_by_what_is_seen_and_told_later():
    learner, _ = adapted()
    played = acted_on(learner, observed(7))
    for seed in (8, 9):
        learner.observe(np.full(ENVS, 9.0))
        learner.reset(ALL)
        np.testing.assert_array_equal(acted_on(learner, observed(seed)), played)
    learner.reset(np.array([True, False]))
    again = acted_on(learner, observed(5))
    np.testing.assert_array_equal(again[:, 0], played[:, 0])
    np.testing.assert_array_equal(
        again[:, 1], np.repeat(played[-1:, 1], LENGTH, axis=0)
    )  # longer than the rollout


def test_it_reacts_to_what_it_sees_all_the_same():
    learner, _ = adapted()
    one = learner.eval_action(observed(7)[0])
    learner.reset(ALL)
    assert not np.allclose(learner.eval_action(observed(8)[0]), one, atol=1e-4)


def test_another_environments_rollouts_do_not_matter():
    learner, _ = adapted()
    other, _ = adapted(((1.0, 0.0), (2.0, 5.0)))
    one, two = (acted_on(x, observed(7)) for x in (learner, other))
    np.testing.assert_allclose(one[:, 0], two[:, 0], atol=1e-6)
    assert not np.allclose(one[:, 1], two[:, 1], atol=1e-3)


def test_a_goal_in_the_observation_is_not_seen():
    learner, _ = adapted()
    obs = observed(7)[0]
    shown = obs.copy()
    shown[:, list(SPEC.goal_index)] += 1
    one = learner.eval_action(obs)
    learner.reset(ALL)
    np.testing.assert_array_equal(learner.eval_action(shown), one)


def test_only_init_forgets():
    learner, (first, _) = adapted()
    learner.init()
    np.testing.assert_allclose(play(learner, observed(0), [(1.0, 3.0)] * LENGTH), first, atol=1e-6)
    learner.adapt()
    learner.reset(ALL)
    np.testing.assert_allclose(acted_on(learner, observed(7)), first, atol=1e-6)


def test_it_goes_on_adapting_where_that_has_several_steps():
    """From nothing in each rollout; what was best before is only given up for something better."""
    learner, (first, second) = adapted()
    third = play(learner, observed(0), [(1.5, 4.0)] * LENGTH)
    assert not np.array_equal(third[:, 1], first[:, 1])  # other rewards
    learner.adapt()
    learner.reset(ALL)
    played = acted_on(learner, observed(7))
    np.testing.assert_array_equal(played[:, 0], second[:, 0])
    np.testing.assert_array_equal(played[:, 1], third[:, 1])


def test_rollouts_differ_in_the_phase_of_probing_and_the_best_is_played_at_its_own():
    probing = replace(HIDDEN, probing=ProbingConfig(amplitude=0.5))
    learner, phases = MetaLearner(probing), []
    for value in ((1.0, 3.0), (2.0, 1.0)):
        learner.adapt_action(observed(0)[0])
        phases.append(learner.age - 1)
        last = np.ones(ENVS, bool)
        learner.step(Timestep(observed(0)[0], np.zeros((ENVS, 2)), np.array(value), ~last, last, {}))
    np.testing.assert_array_equal(phases, [[0, 0], [PHASE, PHASE]])
    learner.adapt()
    learner.reset(ALL)
    np.testing.assert_array_equal(learner.age, [PHASE, 0])


def test_it_satisfies_the_protocols_type():
    for kind in (Agent, MetaLearningAgent):
        for name, wanted in vars(kind).items():
            if inspect.isfunction(wanted) and not name.startswith("_"):
                own = inspect.signature(getattr(MetaLearner, name))
                assert list(own.parameters) == list(inspect.signature(wanted).parameters), name
    learner: MetaLearningAgent = MetaLearner(HIDDEN)  # pyright says whether it does
    learner.init()


@pytest.mark.parametrize(
    ("collective", "why"),
    [
        (any_collective(), "--goals-hidden"),
        (replace(any_collective("task_id"), goals_hidden=True), "task id"),
    ],
    ids=["goals visible", "task told"],
)
def test_a_collective_that_is_told_too_much_is_refused(collective, why):
    with pytest.raises(UserError, match=why):
        MetaLearner(collective)


# -- the protocol ------------------------------------------------------------------------------------------


class Counting:
    """Stands in for two Meta-World environments; counts what it is asked for. An episode solves its task or never."""

    num_envs = ENVS
    names = ("SawyerReachEnvV3", "SawyerPushEnvV3")

    def __init__(self):
        self.calls, self.steps, self.ends_early = [], 0, False

    def get_attr(self, name):
        return {"task_name": self.names, "terminate_on_success": (self.ends_early,) * ENVS}[name]

    def call(self, name, *args):
        self.calls.append(name)
        if name == "toggle_terminate_on_success":
            (self.ends_early,) = args

    def close(self):
        self.calls.append("close")

    def reset(self):
        self.calls.append("reset")
        self.age, self.returns = np.zeros((2, ENVS))
        return self._obs(), {}

    def step(self, action):
        assert action.shape == (ENVS, SPEC.action_dim)
        self.steps += 1
        self.age += 1
        self.returns += 1
        solved = np.array([True, False]) & (self.age >= 2)
        terminated, truncated = solved & self.ends_early, self.age >= LENGTH
        infos = {"final_info": {"episode": {"r": self.returns.copy()}, "success": solved}}
        self.age[terminated | truncated] = 0
        return self._obs(), np.ones(ENVS), terminated, truncated, infos

    def _obs(self):
        return np.ones((ENVS, SPEC.obs_dim)) * self.age[:, None]


def test_metaworlds_own_protocol_plays_it():
    ended = []
    learner, envs = MetaLearner(HIDDEN, ended.append), Counting()
    rate, _, success = metalearning_evaluation(
        learner, envs, num_evals=2, adaptation_episodes=3, evaluation_episodes=2
    )
    assert success == {"reach-v3": 1.0, "push-v3": 0.0}
    assert rate == 0.5
    assert ended == [ENVS] * 6  # rounds of rollouts
    assert envs.calls.count("sample_tasks") == 2
    assert envs.steps == 2 * (3 + 2) * LENGTH  # push needs the whole time
    assert all(memory.rollouts == 3 and memory.fixed for memory in learner.memories)


class Two(MetaConfig):
    """As if a benchmark had two tasks, those of `Counting`."""

    def tasks(self, split):
        return ("push-v3", "reach-v3")


def test_a_benchmark_is_played_as_long_as_was_said(monkeypatch):
    made, seen, envs = [], [], Counting()
    monkeypatch.setattr(metalearning, "make_meta_envs", lambda *asked: made.append(asked) or envs)
    monkeypatch.setattr(metalearning, "check_shapes", lambda collective, spec: None)
    config = Two(benchmark="ML45", rounds=2, adaptation_episodes=3, evaluation_episodes=2, envs_per_task=1)
    found = evaluate_meta(HIDDEN, config, "test", lambda *call: seen.append(call[:2]))
    assert list(found.success.items()) == [("push-v3", 0.0), ("reach-v3", 1.0)]
    assert (found.rate, found.num_envs) == (0.5, ENVS)
    assert seen == [(done, 12) for done in range(0, 14, 2)]
    assert made == [("ML45", "test", 2, 1, 2, 0)]
    assert envs.calls.count("sample_tasks") == 2
    assert envs.steps == 2 * (3 + 2) * LENGTH
    assert envs.calls[-1] == "close"


def test_what_was_found_is_told_task_by_task():
    config = MetaConfig(benchmark="ML10", rounds=2, evaluation_episodes=3)
    found = [MetaEvaluation("test", 20, {"push-v3": 0.5, "reach-v3": 1.0}, 3.0)]
    told = meta_report("some", config, found)
    assert [(r["task"], r["success_any"], r["episodes"]) for r in told["policies"]] == [
        ("push-v3", 0.5, 6),
        ("reach-v3", 1.0, 6),
    ]
    assert told["mean"] == {"test": {"success_any": 0.75, "return": 3.0}}
    assert told["protocol"]["num_envs"] == {"test": 20}
    alone = meta_report("some", config, [MetaEvaluation("test", 2, {"push-v3": 0.5, "reach-v3": 1.0}, 3.0)])
    for rows, goals in (
        (told, 6),
        (alone, 2),
    ):  # one environment of a task plays one goal a round, three times
        low, high = scipy.stats.binomtest(goals, goals).proportion_ci(method="wilson")
        assert rows["policies"][1]["trials"] == goals
        assert rows["policies"][1]["interval"] == pytest.approx([low, high], abs=1e-4)


def test_the_defaults_are_metaworlds():
    """Those of its function; and its 20 environments, where they can be divided among the tasks."""
    wanted = inspect.signature(metalearning_evaluation).parameters
    config = MetaConfig()
    assert config.rounds == wanted["num_evals"].default
    for name in ("adaptation_episodes", "evaluation_episodes"):
        assert getattr(config, name) == wanted[name].default
    assert wanted["adaptation_steps"].default == 1
    assert [default_per_task(tasks) * tasks for tasks in (5, 10, 45)] == [20, 20, 45]
    assert (config.per_task("train"), config.per_task("test")) == (2, 4)


@pytest.mark.parametrize(
    "settings",
    [{"rounds": 0}, {"splits": ("test", "test")}, {"splits": ()}, {"envs_per_task": 51}, {"seed": -1}],
)
def test_nonsense_is_refused_by_name(settings):
    with pytest.raises(ConfigError) as refused:
        MetaConfig(**settings)
    assert refused.value.field == next(iter(settings))


def test_other_environments_are_refused():
    with pytest.raises(UserError, match="states of 4 entries"):
        evaluate_meta(HIDDEN, MetaConfig(), "train")


@pytest.mark.slow
def test_every_goal_of_the_test_tasks_is_played_once():
    envs = make_meta_envs("ML10", "test", 5, 4, 10, seed=0)
    goals = envs.get_attr("tasks")
    assert {len(one) for one in goals} == {10}
    assert len({task.data for one in goals for task in one}) == 200
    envs.call("sample_tasks")
    obs, _ = envs.reset()
    assert not obs[:, -3:].any()
    envs.close()


@pytest.mark.slow
def test_on_metaworld_it_keeps_what_it_found_without_rewards():
    """Goals in the manner of ML1, hidden: the shipped collective, which fails where it is told no rewards."""
    envs = gym.make_vec(
        "Meta-World/custom-ml-envs",
        vector_strategy="sync",
        train_envs=["push-v3"],
        test_envs=["reach-v3"],
        meta_batch_size=3,
        total_tasks_per_cls=3,
        seed=0,
    )
    rate, *_ = metalearning_evaluation(
        MetaLearner(load_collective("mt10-hidden")),
        envs,
        num_evals=1,
        adaptation_episodes=2,
        evaluation_episodes=3,
    )
    envs.close()
    assert rate == 1
