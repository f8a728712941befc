"""Distillation: its losses by hand; and online, that labels are the teacher's, and that resuming changes nothing."""

import itertools
from collections import Counter
from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectiverl.collective import distill, losses
from collectiverl.collective.conditioning import one_hot
from collectiverl.collective.online import EncoderTraining, OnlineConfig, OnlineDistillation
from collectiverl.collective.playing import PerTaskPolicy, allocate, groups
from collectiverl.data.split import split
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.rollout import RandomPolicy
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.nn.gaussian import Gaussian, kl
from collectiverl.sac.agent import expert_of
from collectiverl.sac.policy import Expert
from collectiverl.types import ValueUnit
from toy_buffers import CONFIG as ENCODER_TRAINING
from toy_buffers import SMALL, any_encoder, buffers
from training import fresh, same

TASKS = ("toy-reach", "toy-swap")
CONFIG = OnlineConfig(
    conditioning="task_id",
    random_episodes=4,
    expert_episodes=3,
    learner_rounds=2,
    learner_episodes=8,
    num_envs=10,
    updates=400,
    batch_size=64,
    learning_rate=3e-3,
    width=16,
    depth=2,
)
QUICK = replace(CONFIG, updates=50)  # of one call
READS = replace(QUICK, conditioning="cls", refresh=20)


# -- losses ------------------------------------------------------------------------------------------------

STUDENT = Gaussian(jnp.array([0.5, -1.0]), jnp.array([-1.0, -3.0]))
MEAN, LOG_STD = jnp.array([0.2, -0.9]), jnp.array([-1.5, -4.0])


def test_mse_by_hand():
    error = (np.tanh([0.5, -1.0]) - [0.2, -0.9]) ** 2
    spread = 0.2 * np.array([2 / 2, 2 / 4]) * np.array([0.5, 1.0]) ** 2
    assert losses.distill_mse(STUDENT, MEAN, LOG_STD) == pytest.approx(np.mean(error + spread), rel=1e-5)


def test_kl_is_from_the_teacher_to_the_student():
    teacher = Gaussian(jnp.arctanh(MEAN), LOG_STD)
    assert losses.distill_kl(STUDENT, MEAN, LOG_STD) == pytest.approx(float(kl(teacher, STUDENT)), rel=1e-5)
    assert losses.distill_kl(teacher, MEAN, LOG_STD) == pytest.approx(0, abs=1e-6)


def test_kl_stays_finite_for_a_teacher_at_the_bounds():
    value, slope = jax.value_and_grad(
        lambda m: losses.distill_kl(Gaussian(m, LOG_STD), jnp.array([1.0, -1.0]), LOG_STD)
    )(jnp.zeros(2))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_critic_regression_by_hand():
    assert losses.critic_regression(jnp.array([1.0, 4.0]), jnp.float32(2)) == (1 + 4) / 2


def test_draws_are_a_function_of_seed_and_step():
    one, two, other = (distill.draw(0, step, (3, 4), 10) for step in (5, 5, 6))
    assert one.shape == (3, 4)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_descending_finds_the_least_squares():
    class Point(eqx.Module):
        x: jax.Array

    opt = distill.optimizer(0.1, 200)
    point = Point(jnp.zeros(()))
    batches = jnp.asarray(np.random.default_rng(0).normal(3, 0.1, (200, 8)), jnp.float32)
    state = opt.init(eqx.filter(point, eqx.is_inexact_array))
    point, _, _ = distill.descend(
        point, state, batches, lambda p, b, c: jnp.mean((p.x - b - c) ** 2), opt, 1.0
    )
    assert point.x == pytest.approx(4, abs=0.05)


# -- online ------------------------------------------------------------------------------------------------


def make(config=CONFIG, teachers=None, seed=0, **kwargs):
    envs = partial(make_envs, goals="fresh")
    teachers = teachers or {task: ScriptedPolicy((task,)) for task in TASKS}
    return OnlineDistillation(envs, teachers, config, spec(TASKS[0]), seed=seed, **kwargs)


def encoder_training():
    """An encoder and the buffers of these two tasks."""
    refresh = replace(ENCODER_TRAINING, updates=20, warmup=2, validation_every=20)
    sides = ([table for table in side if table.tasks[0] in TASKS] for side in buffers())
    return EncoderTraining(any_encoder(SMALL), refresh, *sides)


@pytest.fixture(scope="module")
def collected():
    return make().run()


def of(episodes, phase):
    return [e for e in episodes if e.phase == phase]


def test_each_phase_has_its_episodes_of_each_task(collected):
    for task in TASKS:
        mine = [e for e in collected if e.task == task]
        assert [len(of(mine, phase)) for phase in ("random", "expert")] == [4, 3]
        assert len(of(mine, "learner")) >= 8 + 4  # even in the first round, at least half of that in the next
    assert abs(len(of(collected, "learner")) - 2 * 8 * len(TASKS)) <= 1


def test_labels_are_what_the_teacher_does_in_the_stored_states(collected):
    for episode in collected:
        by_hand = ScriptedPolicy((episode.task,)).eval_action(episode.obs[:-1])
        np.testing.assert_array_equal(episode.labels.mean, by_hand)
        assert episode.labels.q is None
        if episode.phase == "expert":
            np.testing.assert_array_equal(episode.action, by_hand)


def test_no_start_is_played_twice(collected):
    starts = {(e.task, e.obs[0].tobytes()) for e in collected}
    assert len(starts) == len(collected)


def test_the_learner_improves(collected):
    success = {
        phase: np.mean([e.success.any() for e in of(collected, phase)]) for phase in ("random", "expert")
    }
    rounds = of(collected, "learner")
    first, last = (np.mean([e.reward.sum() for e in part]) for part in (rounds[:16], rounds[16:]))
    random = np.mean([e.reward.sum() for e in of(collected, "random")])
    assert success["expert"] == 1
    assert last > first > random


class Killed(Exception):
    pass


@pytest.mark.parametrize(("config", "when"), [(QUICK, 1), (QUICK, 3), (READS, 3)])
def test_killed_and_resumed_it_ends_as_uninterrupted(tmp_path, config, when):
    def kill(done, total, note=""):
        if done == when:
            raise Killed

    settings = {"encoder_training": encoder_training()} if config is READS else {}
    whole = make(config, **settings)
    wanted = whole.run()
    with pytest.raises(Killed):
        make(config, report=kill, **settings).run(tmp_path)
    resumed = make(config, **settings)
    found = resumed.run(tmp_path)
    assert same(resumed.actor, whole.actor)
    assert same(resumed.encoder, whole.encoder)
    assert [e.task for e in found] == [e.task for e in wanted]
    for one, two in zip(found, wanted, strict=True):
        for name in ("obs", "action", "reward", "success"):
            assert np.array_equal(getattr(one, name), getattr(two, name))
        assert np.array_equal(one.labels.mean, two.labels.mean)
        assert (one.phase, one.seed, one.goal) == (two.phase, two.seed, two.goal)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_learner_that_reads_its_trajectory_has_its_encoder_refreshed():
    distillation = make(READS, encoder_training=encoder_training())
    distillation.run()
    assert not same(distillation.encoder, any_encoder(SMALL))
    assert same(distillation.encoder.state_scale, any_encoder(SMALL).state_scale)


def test_without_an_encoder_there_is_nothing_to_read():
    with pytest.raises(ValueError, match="needs an encoder"):
        make(READS)


def test_what_is_held_out_is_what_the_split_holds_out(collected):
    """So neither learner nor encoder has seen what they are judged on later."""
    distillation = make()
    distillation.collected = collected
    for task, training in zip(TASKS, distillation.sides()[0], strict=True):
        about = [{"phase": e.phase, "seed": e.seed, "goal": e.goal} for e in collected if e.task == task]
        train, _ = split(about, fraction=0.2, seed=0)
        mine = [e for e in collected if e.task == task]
        assert [e.obs[0].tolist() for e in training] == [mine[i].obs[0].tolist() for i in train]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 40))
def test_tasks_that_fail_more_get_more_episodes(rates, per_task):
    success = {str(i): rate for i, rate in enumerate(rates)}
    wanted = allocate(success, per_task)
    assert abs(sum(wanted.values()) - per_task * len(rates)) <= (len(rates) + 1) / 2
    for one, other in itertools.pairwise(sorted(success, key=success.__getitem__)):
        assert wanted[one] >= wanted[other] >= per_task // 2


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30)), st.integers(1, 20))
def test_groups_hold_everything_and_no_more_than_fits(wanted, size):
    found = list(groups(wanted, size))
    assert all(0 < sum(group.values()) <= size for group in found)
    total = Counter()
    for group in found:
        total.update(group)
    assert +total == +Counter(wanted)
    assert len(found) == -(-sum(wanted.values()) // size)


def test_a_learned_teachers_labels_are_its_own_at_the_stored_state_and_action():
    agents = fresh(experts=3).agent
    unit = ValueUnit(reward_scale=1.0, gamma=0.9)
    teachers = {task: Expert(expert_of(agents, i), unit) for i, task in enumerate(TASKS)}
    for episode in make(replace(QUICK, learner_rounds=0), teachers).run():
        wanted = teachers[episode.task].label(episode.obs[:-1], episode.action)
        for mine, other in zip(episode.labels, wanted, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_a_team_plays_each_environment_by_the_teacher_of_its_task():
    tasks = ("toy-swap", "toy-reach", "toy-swap")
    obs = np.random.default_rng(0).uniform(-1, 1, (3, 6)).astype(np.float32)
    action = PerTaskPolicy({task: ScriptedPolicy((task,)) for task in TASKS}, tasks).eval_action(obs)
    np.testing.assert_array_equal(action, ScriptedPolicy(tasks).eval_action(obs))
    assert PerTaskPolicy({"toy-swap": RandomPolicy(2, 0)}, ("toy-swap",)).eval_action(obs[:1]).shape == (1, 2)


def test_an_unknown_task_has_no_place():
    assert one_hot(["toy-swap", "toy-turn"], TASKS).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"random_episodes": 0, "expert_episodes": 0},
            r"online\.random-episodes=0 and .*: the learner needs",
        ),
        ({"horizon": 0}, r"online\.horizon=0"),
        ({"expert_episodes": -1}, r"online\.expert-episodes=-1 is negative"),
        ({"updates": 0}, r"online\.updates=0"),
        ({"learning_rate": 0.0}, r"online\.learning-rate=0\.0"),
    ],
)
def test_nonsense_is_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=message):
        OnlineConfig(**setting)
