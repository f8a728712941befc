"""Losses by hand, and the update of many experts in one program."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drawn
from collectiverl.artifacts import sealed
from collectiverl.nn.products import LEAST
from collectiverl.sac import agent as sac
from collectiverl.sac import losses, updates
from collectiverl.sac.agent import expert_of
from collectiverl.sac.policy import AgentPolicy, Expert, act, explore, load_agent, load_expert, save_agent
from collectiverl.sac.settings import STUDENT_AVERAGE, ExpertConfig, student_training
from collectiverl.studies.comparison import ComparisonConfig
from collectiverl.types import ConfigError, Transition, UserError
from training import ACTION, OBS, SAC, fresh, same

F = jnp.float32


def batches(experts, updates=2, seed=0, size=SAC.batch_size, **kwargs):
    rng = np.random.default_rng(seed)
    shape = (updates, experts, size)
    batch = Transition(
        obs=rng.normal(size=(*shape, OBS)).astype(np.float32),
        action=rng.uniform(-1, 1, (*shape, ACTION)).astype(np.float32),
        reward=rng.normal(size=shape).astype(np.float32),
        discount=np.full(shape, 0.9, np.float32),
        next_obs=rng.normal(size=(*shape, OBS)).astype(np.float32),
    )
    return batch._replace(**kwargs)


# -- losses ------------------------------------------------------------------------------------------------


def test_a_time_limit_still_bootstraps_and_a_termination_does_not():
    by_discount = [losses.td_target(F(1), F(d), jnp.array([2.0, 3.0]), F(-0.5), F(0.2)) for d in (0.9, 0.0)]
    assert by_discount[0] == pytest.approx(1 + 0.9 * (2 + 0.2 * 0.5))
    assert by_discount[1] == 1


def test_the_critic_loss_is_half_the_squares_of_both():
    assert losses.critic_loss(jnp.array([1.0, 4.0]), F(2)) == 0.5 * (1 + 4)


def test_the_actor_trades_the_smaller_value_for_entropy():
    assert losses.actor_loss(jnp.array([1.0, 4.0]), F(-2), F(0.5)) == 0.5 * -2 - 1


@pytest.mark.parametrize(("log_prob", "sign"), [(3.0, -1), (1.0, 1)])
def test_the_temperature_rises_below_the_target_entropy_and_falls_above(log_prob, sign):
    """Target entropy -2: at log-probability 3 the entropy is too small, so descent must raise it."""
    slope = jax.grad(losses.temperature_loss)(F(-1.0), F(log_prob), -2.0)
    assert np.sign(slope) == sign


# -- updates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("e", range(3))
def test_experts_in_one_program_are_what_each_alone_is(e):
    """Each in turn takes the first place, where the random draws are those of a program of one."""
    state = jax.tree.map(lambda leaf: jnp.roll(leaf, -e, 0), fresh(experts=3))
    data = jax.tree.map(lambda leaf: jnp.roll(leaf, -e, 1), batches(3))
    together, metrics = updates.update(state, data, jax.random.key(7), SAC)
    first = jax.tree.map(lambda leaf: leaf[:1], state), jax.tree.map(lambda leaf: leaf[:, :1], data)
    alone, alone_metrics = updates.update(*first, jax.random.key(7), SAC)
    pairs = zip(jax.tree.leaves((together, metrics)), jax.tree.leaves((alone, alone_metrics)), strict=True)
    for mine, other in pairs:
        np.testing.assert_allclose(mine[0], other[0], rtol=1e-4, atol=1e-5)


def test_experts_do_not_touch_each_other():
    state, data, key = fresh(experts=3), batches(3), jax.random.key(7)
    other = data._replace(reward=data.reward + np.array([0, 0, 5], np.float32)[:, None])
    one, two = (updates.update(state, d, key, SAC)[0] for d in (data, other))
    for e, unchanged in enumerate((True, True, False)):
        assert same(expert_of(one, e), expert_of(two, e)) is unchanged


def test_rounded_operands_change_an_update_a_little():
    """Of networks and batches that are large enough for products in bfloat16."""
    config = replace(SAC, width=LEAST, batch_size=LEAST)
    state = sac.init(OBS, ACTION, config, jax.random.split(jax.random.key(0), 1))
    data, key = batches(1, size=LEAST), jax.random.key(1)
    found = {
        precision: updates.update(state, data, key, replace(config, precision=precision))[1]
        for precision in ("float32", "bfloat16")
    }
    for name, exact in found["float32"].items():
        assert found["bfloat16"][name] == pytest.approx(np.asarray(exact), rel=0.05, abs=0.02), name
    assert not same(*found.values())


def test_every_part_learns_and_only_what_should():
    state = fresh(experts=3)
    after, metrics = updates.update(state, batches(3), jax.random.key(0), SAC)
    assert same(after.agent.normalizer, state.agent.normalizer)
    assert after.updates.tolist() == [2, 2, 2]
    assert not same(after.log_alpha, state.log_alpha)
    for one, two in [
        (after.agent.actor, state.agent.actor),
        (after.agent.critic, state.agent.critic),
        (after.target_critic, state.target_critic),
    ]:
        for mine, other in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            assert not np.array_equal(mine, other)
    assert all(value.shape == (3,) and np.isfinite(value).all() for value in metrics.values())


def test_targets_follow_the_critics_by_polyak():
    state = expert_of(fresh(experts=3), 0)
    batch = jax.tree.map(lambda column: column[0, 0], batches(3))
    config = replace(SAC, tau=0.25)
    learned, _ = eqx.filter_jit(updates.update_critic)(state, batch, jax.random.key(0), config, batch.obs)
    assert same(learned.target_critic, state.target_critic)
    after = updates.update_target(learned, config)
    old, new, target = (
        jax.tree.leaves(c) for c in (state.target_critic, learned.agent.critic, after.target_critic)
    )
    for a, b, c in zip(old, new, target, strict=True):
        np.testing.assert_allclose(c, 0.75 * a + 0.25 * b, rtol=1e-4, atol=1e-6)
    assert same(after.agent.actor, state.agent.actor)


def test_the_critics_may_have_a_rate_of_their_own():
    state = expert_of(fresh(), 0)
    batch = jax.tree.map(lambda column: column[0, 0], batches(1))

    def moved(**rates):
        config = replace(SAC, learning_rate=1e-3, **rates)
        after, _ = eqx.filter_jit(updates.update_critic)(state, batch, jax.random.key(0), config, batch.obs)
        pairs = zip(*map(jax.tree.leaves, (after.agent.critic, state.agent.critic)), strict=True)
        return np.concatenate([np.ravel(new - old) for new, old in pairs])

    assert np.array_equal(moved(), moved(critic_learning_rate=1e-3))
    np.testing.assert_allclose(moved(critic_learning_rate=4e-3), 4 * moved(), rtol=1e-2, atol=1e-6)


def test_the_averaged_actor_follows_the_actor_and_is_what_plays():
    config = replace(SAC, actor_average=0.75)
    state = expert_of(fresh(config), 0)
    moved = jax.tree.map(lambda leaf: leaf + 1, state.agent.actor)
    after = updates.update_average(replace(state, agent=replace(state.agent, actor=moved)), config)
    pairs = zip(jax.tree.leaves(state.agent.actor), jax.tree.leaves(after.average), strict=True)
    assert all(np.allclose(now, before + 0.25) for before, now in pairs)
    assert same(after.playing.actor, after.average)
    assert same(after.playing.critic, state.agent.critic)


def test_by_default_no_actor_is_averaged():
    """Nor in the files and settings of experts, which are those of earlier versions."""
    state = fresh()
    assert state.average is None
    assert state.playing is state.agent
    assert ExpertConfig().sac.actor_average is None
    assert student_training().sac.actor_average == STUDENT_AVERAGE
    assert student_training().updates_per_step == ComparisonConfig().updates_per_step


def test_advice_counts_where_the_smaller_value_is_larger_than_that_of_the_mode():
    better = [losses.advice_is_better(jnp.array(a), jnp.array([2.0, 3.0])) for a in ([2.5, 9.0], [9.0, 1.0])]
    assert [float(b) for b in better] == [1, 0]
    assert losses.advice_is_better(jnp.array([2.0, 3.0]), jnp.array([2.0, 3.0])) == 0


def test_where_there_is_no_advice_the_actor_is_left_alone():
    """As on its own steps beside demonstrations."""
    agent = drawn.module(sac.init_agent, OBS, ACTION, SAC)
    rng = np.random.default_rng(1)
    obs, mode, advice = (jnp.asarray(rng.uniform(-1, 1, (32, n)), F) for n in (OBS, ACTION, ACTION))
    weights = updates.Imitation(F(1), F(1))

    def loss(mode, rows, told):
        batch = Transition(obs[rows], mode[rows], obs[rows, 0], obs[rows, 0], obs[rows], told[rows])
        return updates._imitation_loss(agent.critic, batch, mode[rows], weights)[0]

    found, slope = jax.value_and_grad(loss)(mode, slice(0, 32), advice.at[16:].set(jnp.nan))
    assert float(found) == pytest.approx(float(loss(mode, slice(0, 16), advice)) / 2, rel=1e-5)
    assert slope[:16].all()
    assert not slope[16:].any()


def test_the_actor_is_kept_near_advice_that_the_critics_prefer():
    """The distance of each state counts with the filter's weight, and with that of an anchor in all states."""
    agent = drawn.module(sac.init_agent, OBS, ACTION, SAC)
    rng = np.random.default_rng(1)
    obs, mode, advice = (jnp.asarray(rng.uniform(-1, 1, (32, n)), F) for n in (OBS, ACTION, ACTION))
    batch = Transition(obs, mode, obs[:, 0], obs[:, 0], obs, advice)

    @jax.jit
    def loss(filtered, everywhere):
        return updates._imitation_loss(agent.critic, batch, mode, updates.Imitation(filtered, everywhere))

    kept = np.min(agent.critic(obs, advice), -1) > np.min(agent.critic(obs, mode), -1)
    assert 0 < kept.sum() < 32
    distance = np.sum(np.asarray(mode - advice) ** 2, -1)
    for weights, expected in (((2.0, 0.0), 2 * kept), ((0.0, 3.0), np.full(32, 3.0))):
        found, share = loss(*map(F, weights))
        assert found == pytest.approx(float(np.mean(expected * distance)), rel=1e-5)
        assert share == pytest.approx(kept.mean())


def test_fresh_experts_differ_and_follow_from_their_keys():
    state = fresh(experts=3)
    assert not same(expert_of(state, 0), expert_of(state, 1))
    assert same(expert_of(state, 0), expert_of(fresh(experts=1), 0))
    assert same(state.agent.critic, state.target_critic)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("gamma", 0.0, "0.0 is not in (0, 1]"),
        ("tau", 1.5, "1.5 is not in (0, 1]"),
        ("log_std_min", 3.0, "3.0 must be below log-std-max=2.0"),
        ("n_step", 0, "0 must be at least 1"),
        ("reward_scale", 0.0, "0.0 must be positive"),
        ("learning_rate", float("inf"), "inf must be positive"),
        ("entropy_per_action", float("nan"), "nan must be finite"),
        ("actor_average", 1.0, "1.0 is not between 0 and 1"),
    ],
)
def test_nonsense_is_refused_by_name(field, value, why):
    with pytest.raises(ConfigError) as refusal:
        sac.SACConfig(**{field: value})
    assert (refusal.value.field, refusal.value.why) == (field, why)


# -- policies ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agents():
    return fresh(experts=3).agent


OBSERVED = np.random.default_rng(0).normal(size=(6, OBS)).astype(np.float32)


def test_each_expert_plays_in_its_own_share_of_the_environments(agents):
    action = AgentPolicy(agents).eval_action(OBSERVED)
    assert action.shape == (6, ACTION)
    for e in range(3):
        alone = Expert(expert_of(agents, e), SAC.value_unit).eval_action(OBSERVED[2 * e : 2 * e + 2])
        np.testing.assert_allclose(action[2 * e : 2 * e + 2], alone, rtol=1e-5, atol=1e-6)


def test_playing_is_deterministic_and_exploring_is_not(agents):
    obs = OBSERVED.reshape(3, 2, OBS)
    one, two = (explore(agents, obs, jax.random.key(seed)) for seed in (0, 1))
    assert not np.array_equal(one, two)
    assert np.array_equal(one, explore(agents, obs, jax.random.key(0)))
    assert np.array_equal(act(agents, obs), act(agents, obs))


def test_labels_are_what_the_agent_does_and_thinks_at_the_stored_action(agents):
    agent = expert_of(agents, 1)
    action = np.random.default_rng(1).uniform(-1, 1, (6, ACTION)).astype(np.float32)
    labels = Expert(agent, SAC.value_unit).label(OBSERVED, action)
    assert labels.unit == (SAC.reward_scale, SAC.gamma)
    assert [x.shape for x in labels[:3]] == [(6, ACTION), (6, ACTION), (6,)]
    for i in range(6):
        gaussian = agent.policy(jnp.asarray(OBSERVED[i]))
        np.testing.assert_allclose(labels.mean[i], np.tanh(gaussian.mean), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(labels.log_std[i], gaussian.log_std, rtol=1e-4)
        q = agent.critic(agent.normalizer(jnp.asarray(OBSERVED[i])), jnp.asarray(action[i]))
        assert labels.q[i] == pytest.approx(float(q.min()), rel=1e-4, abs=1e-5)


def save(out, agent):
    with sealed.stage(out, name="train-task", config={}, inputs={}) as folder:
        save_agent(folder, agent, SAC, task="toy-reach")
    return out


def test_an_agent_comes_back_bit_for_bit(tmp_path, agents):
    agent = expert_of(agents, 2)
    loaded, config = load_agent(save(tmp_path / "model", agent))
    assert same(loaded, agent)
    assert config == SAC
    expert = load_expert(tmp_path / "model")
    assert expert.unit == SAC.value_unit
    assert np.array_equal(expert.eval_action(OBSERVED), Expert(agent, expert.unit).eval_action(OBSERVED))


def test_an_agent_that_was_harmed_is_named(tmp_path, agents):
    out = save(tmp_path / "model", expert_of(agents, 2))
    with (out / "agent.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"agent\.safetensors is corrupt"):
        load_agent(out)
