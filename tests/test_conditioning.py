"""Conditionings: each can be made, embeds stored episodes as it follows running ones, acts, and is saved."""

from dataclasses import replace
from functools import partial
from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.artifacts import sealed
from collectiverl.collective.conditioning import CONDITIONINGS, ConditioningName, one_hot
from collectiverl.collective.policy import (
    Collective,
    CollectivePolicy,
    Shuffled,
    check_shapes,
    load_collective,
    save_collective,
)
from collectiverl.collective.segments import Segments
from collectiverl.collective.train import CollectiveConfig, Training, fresh_collective
from collectiverl.envs.make import spec
from collectiverl.types import UserError, Window
from toy_buffers import COLLECTIVE, OWN, SPEC, STATE_INDEX, any_collective, any_encoder, labelled

NAMES = get_args(ConditioningName)
TASKS = tuple(dict.fromkeys(labelled()[0].tasks))
EPISODES = np.array([0, 6, 12])  # of three tasks, each played in an environment of its own
DELAYS = np.array([0, 2, 5])  # steps of another episode that each environment plays first


def lived(collective: Collective, known):
    """What the networks see of three stored episodes that are lived through, step by step.

    Args:
        known: whether the reward of each step of each episode is told.
    """
    table = labelled()[0]
    rest, before = ([table[i] for i in EPISODES + shift] for shift in (0, 1))
    running = collective.begin(3, [e.task for e in rest])
    see, length = partial(type(collective).see, collective), len(rest[0])
    found = np.zeros((3, length, collective.agent.normalizer.feature_dim), np.float32)
    for i in range(length + DELAYS.max()):
        running = running.reset((i == DELAYS) | (i == 0))
        step = np.where(i < DELAYS, i, np.clip(i - DELAYS, 0, length - 1))
        playing = [b if i < d else e for b, e, d in zip(before, rest, DELAYS, strict=True)]
        at = list(zip(playing, step, strict=True))
        running, seen = see(running, np.stack([e.obs[t] for e, t in at]))
        for env in np.flatnonzero((i >= DELAYS) & (i - DELAYS < length)):
            found[env, step[env]] = seen[env]
        running = running.acted(np.stack([e.action[t] for e, t in at]))
        told = known[np.arange(3), step]
        rewards = np.array([e.reward[t] for e, t in at], np.float32)
        running = running.rewarded(np.where(told, rewards, np.float32(np.nan)))
    return found


def stored(collective: Collective, known, embed: bool) -> np.ndarray:
    """The same, read from the table in one pass."""
    table = labelled()[0].subset(EPISODES)
    index = collective.spec.state_index
    window = Segments(table, index).gather(np.arange(3), np.zeros(3, int), int(table.length.max())).window
    told = np.concatenate([np.zeros((3, 1), bool), known[:, :-1]], axis=1)
    window = Window(*map(jnp.asarray, window._replace(reward=np.where(told, window.reward, np.nan))))
    features = np.moveaxis(np.asarray(eqx.filter_jit(collective.scales)(window).features), 0, 1)
    if embed:
        z = collective.conditioning.embed(table, index).reshape(3, len(table[0]), -1)
    else:
        z = eqx.filter_jit(collective.conditioning.every)(window)
    return np.concatenate([z, features], axis=-1)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_seen_step_by_step_is_what_is_learned_from(name):
    """Episodes that begin at different times; after others, which are forgotten."""
    collective, known = any_collective(name), np.ones((3, len(labelled()[0][0])), bool)
    expected = stored(collective, known, embed=True)
    np.testing.assert_allclose(lived(collective, known), expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_shows_what_is_seen_when_acting(name):
    """The same, of the batches that a training really draws, and of `z` too where it is not trained."""
    config, collective = (
        replace(COLLECTIVE, conditioning=name, segment=None, labels=4_000),
        any_collective(name),
    )
    training = Training(collective, config, seed=0)
    batch = training.segments(labelled()[0]).sample(np.random.default_rng(0), config.draw)
    features = np.moveaxis(np.asarray(eqx.filter_jit(collective.scales)(batch.window).features), 0, 1)
    read = np.concatenate([batch.z, features], axis=-1)
    seen = lived(collective, np.ones((3, len(labelled()[0][0])), bool))
    for episode, expected in zip(EPISODES, seen, strict=True):
        first = labelled()[0][episode].obs[0, list(STATE_INDEX)]
        drawn = np.flatnonzero((batch.window.state[:, 0] == first).all(axis=-1))
        assert len(drawn)
        np.testing.assert_allclose(read[drawn[0]], expected[:, -read.shape[-1] :], atol=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "gru", "lstm"])
def test_an_encoder_that_learns_sees_the_same_in_segments_with_unknown_rewards(kind):
    collective = any_collective()
    encoder = any_encoder(replace(OWN, kind=kind))
    collective = eqx.tree_at(lambda c: c.conditioning.encoder, collective, encoder)
    known = np.random.default_rng(0).random((3, len(labelled()[0][0]))) < 0.6
    expected = stored(collective, known, embed=False)
    np.testing.assert_allclose(lived(collective, known), expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_saved_and_loaded_with_equal_actions(name, tmp_path):
    collective = any_collective(name, goals_hidden=True) if name == "own" else any_collective(name)
    encoder = OWN if collective.encoder is not None else None
    with sealed.stage(tmp_path / "c", name="distill-collective", config=COLLECTIVE, inputs={}) as folder:
        save_collective(folder, collective, COLLECTIVE.sac, encoder)
    loaded, sac, loaded_encoder = load_collective(tmp_path / "c")
    assert (sac, loaded_encoder) == (COLLECTIVE.sac, encoder)
    assert eqx.tree_equal(loaded, collective)
    rng, num = np.random.default_rng(0), 3
    policies = [CollectivePolicy(c, TASKS[:num]) for c in (collective, loaded)]
    for _ in range(4):
        obs, reward = rng.normal(size=(num, SPEC.obs_dim)), rng.normal(size=num)
        one, other = (policy.eval_action(obs.astype(np.float32)) for policy in policies)
        np.testing.assert_array_equal(one, other)
        assert one.shape == (num, SPEC.action_dim)
        for policy in policies:
            policy.observe(reward.astype(np.float32))


def test_only_what_reads_the_transformer_asks_for_it():
    for name, kind in CONDITIONINGS.items():
        make = partial(
            fresh_collective, labelled()[0], replace(COLLECTIVE, conditioning=name), SPEC, transformer=None
        )
        if kind.reads:
            with pytest.raises(UserError, match=rf"conditioning {name} needs a trajectory transformer"):
                make()
        else:
            assert make().conditioning.name == name


def test_what_is_told_and_what_is_not():
    assert CollectiveConfig().learns
    assert not CollectiveConfig().reads
    assert [name for name, kind in CONDITIONINGS.items() if kind.learns] == ["own", "tuned"]
    assert any_collective("tuned").encoder is any_encoder(OWN)  # begins as the trajectory transformer


def test_the_task_is_told_as_its_place_among_the_known_ones():
    assert one_hot(["toy-swap", "push-v3"], ("toy-reach", "toy-swap")).tolist() == [[0, 1], [0, 0]]
    policy, obs = CollectivePolicy(any_collective("task_id")), np.zeros((2, SPEC.obs_dim), np.float32)
    with pytest.raises(UserError, match="say which task each environment plays"):
        policy.eval_action(obs)
    one = CollectivePolicy(any_collective("task_id"), ("toy-swap",)).eval_action(obs)
    both = CollectivePolicy(any_collective("task_id"), ("toy-swap", "toy-turn")).eval_action(obs)
    np.testing.assert_array_equal(one[0], both[0])
    assert not np.array_equal(one[1], both[1])


def test_hidden_goals_are_not_seen():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(2, SPEC.obs_dim)).astype(np.float32)
    other = obs.copy()
    other[:, SPEC.goal_index] += 1
    for hidden in (True, False):
        collective = any_collective(goals_hidden=hidden)
        one, two = (CollectivePolicy(collective).eval_action(o) for o in (obs, other))
        assert np.array_equal(one, two) is hidden


def test_an_action_that_another_took_over_is_remembered():
    collective, obs = any_collective(), np.ones((2, SPEC.obs_dim), np.float32)
    rewards = np.ones(2, np.float32)

    def second(executed):
        policy = CollectivePolicy(collective)
        policy.eval_action(obs)
        if executed is not None:
            policy.executed(executed)
        policy.observe(rewards)
        return policy.eval_action(obs)

    own = CollectivePolicy(collective).eval_action(obs)
    np.testing.assert_array_equal(second(None), second(own))
    assert not np.allclose(second(-own - 0.5), second(own), atol=1e-5)


def test_a_reset_begins_the_episodes_of_its_environments_alone():
    collective = any_collective()
    policy, fresh = CollectivePolicy(collective), CollectivePolicy(collective)
    rng = np.random.default_rng(0)
    for _ in range(3):
        policy.eval_action(rng.normal(size=(2, SPEC.obs_dim)).astype(np.float32))
        policy.observe(np.ones(2, np.float32))
    obs = rng.normal(size=(2, SPEC.obs_dim)).astype(np.float32)
    policy.reset(np.array([True, False]))
    after, first = policy.eval_action(obs), fresh.eval_action(obs)
    np.testing.assert_allclose(after[0], first[0], atol=1e-5)
    assert not np.allclose(after[1], first[1], atol=1e-5)


def test_shuffled_acts_on_the_embedding_of_another_environment():
    """With as many equal environments on either side nothing changes; with different ones it does."""
    told = any_collective("task_id")
    obs = np.tile(np.linspace(-1, 1, SPEC.obs_dim, dtype=np.float32), (4, 1))
    plain = CollectivePolicy(told, TASKS).eval_action(obs)
    shifted = Shuffled(told, TASKS, shift=1).eval_action(obs)
    np.testing.assert_allclose(shifted, np.roll(plain, 1, axis=0), atol=1e-6)


def test_environments_of_other_shapes_are_refused():
    check_shapes(any_collective(), spec("toy-turn"))
    with pytest.raises(UserError, match="states of 4 entries and 2 actions, reach-v3 has"):
        check_shapes(any_collective(), spec("reach-v3"))


def test_the_statistics_are_those_of_the_training_episodes():
    collective = any_collective()
    states = np.concatenate([e.obs[:, list(STATE_INDEX)] for e in labelled()[0]])
    np.testing.assert_allclose(collective.scales.state.mean, states.mean(axis=0), atol=1e-5)
    own = jax.tree.leaves(collective.encoder.scales)
    assert all(map(np.array_equal, own, jax.tree.leaves(collective.scales)))
    assert collective.scales.points == SPEC.points
    plain = fresh_collective(labelled()[0], replace(COLLECTIVE, differences=False), SPEC)
    assert plain.scales.difference_dim == 0
