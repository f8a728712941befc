"""Distillation: its losses by hand, the updates of actor and encoder, and the critic after them."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.artifacts import checkpoints
from collectiverl.artifacts.metrics import silent
from collectiverl.collective import critic, distill, imitation, losses, train
from collectiverl.collective.imitation import Learner
from collectiverl.collective.train import CollectiveConfig, Training, distil
from collectiverl.data.episodes import EpisodeTable, Shard
from collectiverl.nn.gaussian import Gaussian, kl
from collectiverl.types import ConfigError, ValueUnit
from toy_buffers import COLLECTIVE, STATE_INDEX, any_collective, labelled
from training import same

UNIT = ValueUnit(0.1, 0.9)
UPDATES, CRITIC_UPDATES = COLLECTIVE.updates, COLLECTIVE.critic.updates

# -- losses ------------------------------------------------------------------------------------------------

STUDENT = Gaussian(jnp.array([0.5, -1.0]), jnp.array([-1.0, -3.0]))
MEAN, LOG_STD = jnp.array([0.2, -0.9]), jnp.array([-1.5, -4.0])


def test_mse_by_hand():
    error = (np.tanh([0.5, -1.0]) - [0.2, -0.9]) ** 2
    spread = 0.2 * np.array([2 / 2, 2 / 4]) * np.array([0.5, 1.0]) ** 2
    assert losses.distill_mse(STUDENT, MEAN, LOG_STD) == pytest.approx(np.mean(error + spread), rel=1e-5)


def test_the_absolute_error_is_rounded_off_at_the_label():
    error = np.abs(np.tanh([0.5, -1.0]) - [0.2, -0.9])
    assert losses.absolute_error(STUDENT, MEAN) == pytest.approx(error.mean(), abs=0.02)
    slope = jax.grad(lambda m: losses.absolute_error(Gaussian(m, LOG_STD), jnp.tanh(MEAN)))(MEAN)
    np.testing.assert_allclose(slope, 0, atol=1e-5)


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


# -- the actor, with its encoder -----------------------------------------------------------------------------


def training(name="own", **changes) -> Training:
    config = replace(COLLECTIVE, conditioning=name, **changes)
    return Training(any_collective(name), config, seed=0)


def trained(name="own", updates=UPDATES, **changes) -> Training:
    one = training(name, **changes)
    segments = one.segments(labelled()[0])
    for i in range(0, updates, 10):
        one.advance(segments, one.falling(updates, i)[:10])
    return one


@pytest.mark.parametrize("name", ["own", "cls", "task_id"])
def test_the_error_on_held_out_episodes_falls(name):
    before, after = training(name), trained(name, learning_rate=1e-2)
    held_out = before.segments(labelled()[1])
    assert after.error(held_out) < 0.7 * before.error(held_out)


def test_an_encoder_learns_with_the_actor_unless_it_is_frozen():
    for name, learns in (("own", True), ("tuned", True), ("cls", False)):
        before, after = any_collective(name), trained(name, updates=10).collective
        assert not same(after.agent.actor, before.agent.actor)
        assert same(after.encoder.head, before.encoder.head) is not learns
        assert same(after.encoder.body, before.encoder.body) is not learns
        assert same(after.encoder.scales, before.encoder.scales)
        assert same(after.scales, before.scales)
        assert same(after.agent.critic, before.agent.critic)


def test_every_labelled_step_counts_by_its_weight():
    """The mean over a batch is that over its steps; padding and unknown rewards break no gradient."""
    one = training()
    batch = one.segments(labelled()[0]).gather(np.array([0, 7]), np.array([20, 3]), 12)
    batch.window.reward[1] = np.nan
    how = ("mse", 0.0, 0.0)
    learner, scales = Learner.of(one.base), one.base.scales

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def value(learner, batch):
        return imitation.imitation_loss(learner, batch, scales, how)

    whole, grads = value(learner, batch)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert batch.weight.sum() == 5 + 12
    single = []
    for place in np.argwhere(batch.weight):
        weight = np.zeros_like(batch.weight)
        weight[tuple(place)] = 1
        single.append(float(value(learner, batch._replace(weight=weight))[0]))
    assert float(whole) == pytest.approx(np.mean(single), rel=1e-4)
    assert jnp.abs(grads.conditioning.encoder.tokens.embed.weight).max() > 0


def test_updates_depend_on_their_number_and_not_on_how_they_are_divided():
    one, two = training(), training()
    segments, rates = one.segments(labelled()[0]), one.constant(20)
    for part in (rates[:10], rates[10:]):
        one.advance(segments, part)
    for part in (rates[:10], rates[10:15], rates[15:]):
        two.advance(segments, part)
    found, expected = (jax.tree.leaves(eqx.filter(t.state, eqx.is_array)) for t in (two, one))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_whole_episodes_of_several_lengths_are_learned_from():
    """Batches are then of different shapes, and are learned from one by one."""
    cut = [replace(e, **_first(e, n)) for e, n in zip(labelled()[0], (25, 20, 10, 25), strict=False)]
    table = EpisodeTable([Shard.of(cut)])
    one = training(segment=None)
    one.advance(one.segments(table), one.constant(3))
    assert int(one.state.updates) == one.progress.updates == 3


def _first(episode, steps):
    columns = {name: getattr(episode, name)[:steps] for name in ("action", "reward", "success")}
    labels = episode.labels._replace(mean=episode.labels.mean[:steps], log_std=episode.labels.log_std[:steps])
    return {"obs": episode.obs[: steps + 1], "labels": labels, **columns}


def test_the_average_follows_the_weights():
    one = training(average=0.5)
    segments, rates = one.segments(labelled()[0]), np.full(1, 1e-2)
    one.advance(segments, rates)
    assert same(one.state.average, one.state.learner)  # of one update
    first = one.state.average.actor.mlp.layers[0].weight
    one.advance(segments, rates)
    second = one.state.learner.actor.mlp.layers[0].weight
    found = one.state.average.actor.mlp.layers[0].weight
    np.testing.assert_allclose(found, (first + second) / 2, atol=1e-6)
    assert same(one.collective.agent.actor, one.state.average.actor)


def test_rates_warm_up_and_fall():
    one = training(learning_rate=1.0, warmup=4)
    np.testing.assert_allclose(one.constant(6), [0.25, 0.5, 0.75, 1, 1, 1])
    falling = one.falling(100)
    np.testing.assert_allclose(falling[:4], one.constant(4), rtol=0.01)
    assert falling[50] == pytest.approx(0.5)
    assert falling[-1] < 1e-3
    one.progress.updates = 30
    np.testing.assert_allclose(one.constant(2), [1, 1])
    np.testing.assert_allclose(one.falling(100, 30), falling[30:])


# -- the whole distillation ----------------------------------------------------------------------------------


class Killed(Exception):
    pass


def whole(work=None, report=silent, config=COLLECTIVE):
    return distil(any_collective(), *labelled(), config, seed=0, work=work, report=report)


@pytest.fixture(scope="module")
def distilled():
    return whole()


@pytest.mark.parametrize(
    "when",
    [20, UPDATES, UPDATES + 50, UPDATES + 100],
    ids=["actor", "between", "critic", "critic, which has begun"],
)
def test_killed_and_resumed_it_ends_as_uninterrupted(tmp_path, monkeypatch, distilled, when):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)

    def kill(done, total, note=""):
        assert total == UPDATES + CRITIC_UPDATES
        if done == when:
            raise Killed

    with pytest.raises(Killed):
        whole(tmp_path, kill)
    done = []
    found, error = whole(tmp_path, lambda step, total, note="": done.append(step))
    assert done[0] == when  # nothing is done twice but since the checkpoint
    assert same(found, distilled[0])
    assert error == distilled[1]
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [10, 20, 30, 40, 90, 140]
    assert log[0]["actor/validation"] > log[3]["actor/validation"] == pytest.approx(error, rel=1e-4)


def test_the_actor_of_the_least_error_is_kept(monkeypatch):
    errors = iter([3.0, 1.0, 2.0, 5.0])
    monkeypatch.setattr(Training, "error", lambda self, segments: next(errors))
    config = replace(COLLECTIVE, critic=replace(COLLECTIVE.critic, updates=0))
    found, error = whole(config=config)
    assert error == 1.0
    by_hand = training()
    segments = by_hand.segments(labelled()[0])
    for done in (0, 10):
        by_hand.advance(segments, by_hand.falling(UPDATES, done)[:10])
    assert same(found, by_hand.collective)


def test_the_critic_of_the_least_error_is_kept(monkeypatch):
    errors = iter([1.0, 2.0])
    monkeypatch.setattr(critic, "_error", lambda *_: jnp.float32(next(errors)))
    collective, (table, held_out) = any_collective(), labelled()
    config, unit = COLLECTIVE.critic, ValueUnit(1.0, 0.9)
    found = critic.distil(collective, table, held_out, config, unit, seed=0, log=None, report=silent)
    by_hand = critic.Training(collective, critic.Steps(table, collective, UNIT), config, unit, seed=0)
    by_hand.advance()
    assert same(found.agent.critic, by_hand.state.critic)
    assert same(found.agent.actor, collective.agent.actor)


# -- the critic ----------------------------------------------------------------------------------------------


def with_values(table, unit, of=lambda e: e.reward):
    """The same episodes with values that a teacher would have said."""
    valued = [replace(e, labels=e.labels._replace(q=of(e).astype(np.float32), unit=unit)) for e in table]
    return EpisodeTable([Shard.of(valued)])


def test_the_critics_target_is_the_teachers_value_or_one_step_of_evaluation():
    collective = any_collective()
    data = critic.Steps(labelled()[0], collective, UNIT)
    last = int(labelled()[0].length[0]) - 1
    rows = data.take(np.array([3, 4, last]))
    np.testing.assert_array_equal(rows.next_seen[0], rows.seen[1])
    assert rows.has_next.tolist() == [1, 1, 0]
    assert np.isnan(rows.teacher_q).all()
    rows = rows._replace(teacher_q=np.float32([np.nan, 7.0, np.nan]))
    rows = critic.Rows(*map(jnp.asarray, rows))
    agent = collective.agent
    targets = critic.CriticTargets(agent, agent.critic, 0.1, 0.9)
    action = agent.actor(rows.next_seen[:1]).mode
    fitted = 0.1 * rows.reward[0] + 0.9 * float(agent.critic(rows.next_seen[:1], action).min())
    q = np.asarray(agent.critic(rows.seen, rows.action))
    by_hand = [np.mean((q[0] - fitted) ** 2), np.mean((q[1] - 7) ** 2)]  # the last step has no target
    found = critic.critic_loss(agent.critic, rows, targets)
    assert float(found) == pytest.approx(np.mean(by_hand), rel=1e-4)
    by_hand.append(np.mean((q[2] - 0.1 * rows.reward[2]) ** 2))  # unless the task ended there, not the time
    ended = rows._replace(terminated=rows.terminated.at[2].set(1.0))
    assert float(critic.critic_loss(agent.critic, ended, targets)) == pytest.approx(
        np.mean(by_hand), rel=1e-4
    )


def test_the_critic_knows_where_a_task_ended():
    table = EpisodeTable([Shard.of([replace(e, terminated=i == 1) for i, e in enumerate(labelled()[0])])])
    found = critic.Steps(table, any_collective(), UNIT).terminated
    assert np.flatnonzero(found).tolist() == [table.length[:2].sum() - 1]


@pytest.mark.parametrize("every", [30, 50, 75, 200])
def test_the_critics_target_is_copied_as_often_as_is_said(every):
    collective = any_collective()
    config = critic.CriticConfig(updates=400, target_every=every, learning_rate=0.01)
    one = critic.Training(
        collective, critic.Steps(labelled()[0], collective, UNIT), config, ValueUnit(0.1, 0.9), seed=0
    )
    copied = set()
    while one.progress.updates < config.updates:
        begun, critic_then = one.progress.updates, one.state.critic
        one.advance()
        if same(one.state.target, critic_then):
            copied.add(begun)
    assert copied == set(range(0, config.updates, every))


def test_the_critic_learns_what_the_teachers_say():
    collective, unit = any_collective(), ValueUnit(1.0, 0.9)
    tables = [with_values(table, unit, lambda e: -np.abs(e.obs[:-1, 0])) for table in labelled()]
    config = replace(COLLECTIVE.critic, updates=300, learning_rate=1e-2)
    found = critic.distil(collective, *tables, config, unit, seed=0, log=None, report=silent)

    def error(one):
        data = critic.Steps(tables[1], one, unit)
        q = np.asarray(one.agent.critic(jnp.asarray(data.seen), jnp.asarray(data.action))).mean(axis=-1)
        return np.mean((q - data.teacher_q) ** 2)

    assert error(found) < 0.5 * error(collective)


def test_a_value_of_another_unit_teaches_nothing():
    """It is as if the teacher had none."""
    training, validation = labelled()
    most, other = training.subset(range(3)), training.subset(range(3, 5))
    valued = with_values(most, ValueUnit(1.0, 0.9))
    config = replace(COLLECTIVE, updates=10)

    def learned(rest):
        return distil(any_collective(), EpisodeTable.join([valued, rest]), validation, config, seed=0)[0]

    assert same(learned(with_values(other, ValueUnit(0.1, 0.9))), learned(other))
    assert not same(learned(with_values(other, ValueUnit(1.0, 0.9))), learned(other))


def test_steps_are_those_of_the_table_in_its_order():
    collective, table = any_collective(), labelled()[0]
    data = critic.Steps(table, collective, UNIT)
    assert len(data) == int(table.length.sum())
    states = np.concatenate([e.obs[:-1] for e in table])[:, list(STATE_INDEX)]
    expected = np.asarray(collective.scales.state(jnp.asarray(states)))
    z_dim = collective.condition_dim
    np.testing.assert_allclose(data.seen[:, z_dim : z_dim + len(STATE_INDEX)], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"labels": 0}, "labels: 0 must be at least 1"),
        ({"segment": 0}, "segment: 0 must be at least 1"),
        ({"unrewarded": 1.5}, r"unrewarded: 1\.5 is not in"),
        ({"average": -0.1}, r"average: -0\.1 is not in"),
        ({"learning_rate": 0.0}, r"learning-rate: 0\.0 must be positive"),
        ({"absolute": -1.0}, r"absolute: -1\.0 must be at least 0"),
    ],
)
def test_nonsense_is_refused_by_name(setting, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        CollectiveConfig(**setting)


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_a_distillation_that_diverges_stops_by_name_and_keeps_its_checkpoint(tmp_path, monkeypatch, part):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    if part == "actor":
        real = train.learn
        monkeypatch.setattr(train, "learn", lambda *args: (real(*args)[0], np.float32(np.nan)))
    else:
        real = critic.descend
        monkeypatch.setattr(critic, "descend", lambda *args: (*real(*args)[:2], np.float32(np.inf)))
    with pytest.raises(FloatingPointError, match=f"{part}/loss is not finite after (10|50) updates"):
        whole(tmp_path)
    if part == "critic":
        kept = training()
        kept.restore(checkpoints.latest_checkpoint(tmp_path))
        assert kept.progress.updates == UPDATES
