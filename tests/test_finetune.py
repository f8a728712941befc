"""Fine-tuning: the collective's own networks behind its encoder, frozen or learning."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drawn
from collectiverl.collective.policy import CollectivePolicy
from collectiverl.collective.probing import ProbingConfig
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import episodes
from collectiverl.sac import agent as sac
from collectiverl.sac.help import Weights
from collectiverl.sac.policy import AgentPolicy
from collectiverl.sac.train import Trainer
from collectiverl.student.finetune import EmbeddedEnvs, FinetuningConfig, ReferencePolicy
from collectiverl.student.imitation import ImitationConfig
from collectiverl.student.prior_data import PriorDataConfig, play
from collectiverl.student.trained_encoder import pack, unpack, with_agent, with_trained_encoder
from collectiverl.types import ConfigError, UserError, ValueUnit, Window
from toy_buffers import OWN, any_collective, any_encoder
from training import SAC, TRAIN, same


@pytest.fixture(scope="module")
def collective():
    return any_collective("cls")


@pytest.mark.parametrize(
    ("name", "windows"),
    [(name, windows) for name in ("own", "cls", "last_state") for windows in (False, True)],
)
def test_what_is_tuned_begins_as_the_collective(name, windows):
    """Embedded outside the agent or inside, it does what the collective does."""
    collective = any_collective(name)
    agent = with_trained_encoder(collective) if windows else collective.agent
    ours = EmbeddedEnvs(
        make_envs("toy-reach", 3, goals=[0, 1, 2], order="sequential"), collective, windows=windows
    )
    theirs = make_envs("toy-reach", 3, goals=[0, 1, 2], order="sequential")
    for a, b in zip(
        episodes(ours, AgentPolicy(sac.batch_of_one(agent)), per_env=2, phase="learner", seed=0),
        episodes(theirs, CollectivePolicy(collective), per_env=2, phase="learner", seed=0),
        strict=True,
    ):
        np.testing.assert_allclose(a.action, b.action, atol=1e-5)
        assert a.obs.shape[-1] == ours.spec.obs_dim


def test_what_was_tuned_without_probing_does_not_probe():
    collective = replace(any_collective("own"), probing=ProbingConfig(amplitude=0.5))
    tuned = with_agent(collective, collective.agent)
    assert not tuned.probing.amplitude
    assert same(tuned.agent, collective.agent)


def trained(collective, windows, **imitation):
    return with_agent(
        collective, sac.expert_of(training_of(collective, windows, **imitation).learner.state.agent, 0)
    )


def training_of(collective, windows, held_until=0, **imitation):
    agent = with_trained_encoder(collective) if windows else collective.agent
    config = replace(TRAIN, steps=200, warmup=1, sac=replace(SAC, normalize_obs=False))
    envs, eval_envs = (
        EmbeddedEnvs(make_envs("toy-reach", n, goals="fresh"), collective, windows=windows)
        for n in (config.num_envs, config.eval_episodes)
    )
    reference = ReferencePolicy(
        agent, ImitationConfig(**imitation), ValueUnit(1.0, SAC.gamma), held_until=held_until
    )
    played = EmbeddedEnvs(make_envs("toy-reach", 4, goals="fresh"), collective, windows=windows)
    prior = play(played, reference, PriorDataConfig(episodes=4, updates=100), seed=0).prior
    assert prior.env_steps == 100
    state = sac.batch_of_one(sac.init_state(agent, config.sac))
    trainer = Trainer(state, config, envs, eval_envs, seed=0, help=reference, prior=prior)
    trainer.run()
    return trainer


@pytest.mark.parametrize("windows", [False, True])
def test_the_encoder_learns_only_if_it_may_and_scales_never(collective, windows):
    after = trained(collective, windows)
    assert not same(after.agent.actor, collective.agent.actor)
    assert not same(after.agent.critic, collective.agent.critic)
    assert same(after.agent.normalizer, collective.agent.normalizer)
    assert same(after.encoder.head, collective.encoder.head) != windows
    assert same(after.encoder.tokens, collective.encoder.tokens) != windows
    assert same(after.scales, collective.scales)
    assert same(after.encoder.scales, collective.encoder.scales)
    assert jax.tree.structure(after) == jax.tree.structure(collective)


def test_imitation_keeps_the_actor_near_the_collective(collective):
    obs = jnp.asarray(drawn.normal(200, collective.agent.normalizer.feature_dim))
    mode = eqx.filter_jit(lambda agent: agent.policy(obs).mode)

    def moved(weight):
        after = trained(collective, False, weight=weight)
        return float(np.mean((mode(after.agent) - mode(collective.agent)) ** 2))

    assert moved(20.0) < 0.7 * moved(0.0)


def test_the_anchor_holds_while_the_critics_learn_and_then_they_decide(collective):
    reference = ReferencePolicy(collective.agent, ImitationConfig(weight=2.0), ValueUnit(1.0, SAC.gamma))
    assert reference.weights(0, acting=False) == Weights(anchor=2.0)
    assert reference.weights(10**6, acting=True) == Weights(imitation=2.0)


def test_while_it_is_held_the_collective_acts_in_every_second_environment(collective):
    reference = ReferencePolicy(
        collective.agent, ImitationConfig(weight=2.0), ValueUnit(1.0, SAC.gamma), held_until=500
    )
    obs = np.asarray(drawn.normal(5, collective.agent.normalizer.feature_dim))
    context, output = reference.predict(reference.begin(["toy-reach"] * 5), obs)
    own = np.full_like(output.mean, 7.0)
    held, free = (reference.act(own, output, context, steps) for steps in (499, 500))
    assert np.array_equal(held[1::2], output.mean[1::2])
    assert np.array_equal(held[::2], own[::2])
    assert np.array_equal(free, own)
    assert reference.weights(499, acting=True) == Weights(anchor=2.0)
    assert reference.weights(500, acting=True) == Weights(imitation=2.0)


def test_a_training_takes_the_collectives_actions_where_it_acts_and_only_while_it_holds(collective):
    """The prior's 100 steps count: of the student's own 100, in 4 environments, the first 15 vector steps are held."""
    memory = training_of(collective, False, held_until=160).replay
    count = memory.size - 1  # the last row is no transition
    assert count == 25
    action, advice = (column[:count, 0] for column in (memory.data.action, memory.data.advice))
    followed = np.isclose(action, advice, atol=1e-6).all(-1)
    assert followed[:15, 1::2].all()
    assert not followed[:15, ::2].any()
    assert not followed[15:].any()


@pytest.mark.parametrize("name", ["zeros", "cluster"])
def test_only_a_windows_encoder_can_be_trained_so(name):
    message = f"conditioned on {name} has no encoder that can be trained so.*--strategy.finetune.encoder"
    with pytest.raises(UserError, match=message):
        with_trained_encoder(any_collective(name))


def test_windows_come_back_from_flat_observations():
    rng, encoder = np.random.default_rng(0), any_encoder(OWN)
    columns = [rng.normal(size=(3, OWN.window, *n)).astype(np.float32) for n in ((4,), (2,), ())]
    columns[2][0, 2] = np.nan
    window = Window(*map(jnp.asarray, columns), jnp.asarray(rng.random((3, OWN.window)) < 0.5))
    found = jax.jit(lambda w: unpack(pack(w), OWN.window, encoder.action_dim))(window)
    jax.tree.map(np.testing.assert_array_equal, found, window)


def test_a_rate_must_be_positive():
    with pytest.raises(ConfigError, match=r"^learning-rate: 0\.0 must be positive"):
        FinetuningConfig(learning_rate=0.0)
