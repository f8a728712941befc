"""Students' strategies: what each does, that they combine, and that without weight they are plain SAC."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.collective.policy import Collective
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.rollout import RandomPolicy, steps
from collectiverl.envs.toy import optimal_action
from collectiverl.sac.agent import SACConfig, init_agent
from collectiverl.sac.settings import Weights
from collectiverl.student.cloning import CloningConfig, clone
from collectiverl.student.imitation import ImitationConfig
from collectiverl.student.jump_start import JumpStartConfig
from collectiverl.student.likelihood import LikelihoodConfig, likelihood
from collectiverl.student.potential import PotentialConfig
from collectiverl.student.prior_data import PriorDataConfig, play
from collectiverl.student.schedule import LinearDecay
from collectiverl.student.strategies import StrategyConfig, guidance
from training import TRAIN, same, trainer

TASKS = ("toy-reach", "toy-mirror")
SPEC = spec("toy-reach")


@pytest.fixture(scope="module")
def collective():
    """Fresh networks told the task: what they do is arbitrary, and enough."""
    config = SACConfig(width=16, log_std_min=-5.0, log_std_max=2.0)
    agent = init_agent(len(TASKS) + SPEC.state_dim, SPEC.action_dim, config, jax.random.key(0))
    return Collective(
        agent=agent,
        encoder=None,
        clusters=None,
        conditioning="task_id",
        tasks=TASKS,
        state_index=SPEC.state_index,
    )


def helped(collective, *use, num_envs=TRAIN.num_envs, **settings):
    config = StrategyConfig(use=use, **settings)
    return guidance(collective, 1.0, ("toy-reach",) * num_envs, config)


def seen_by_hand(collective, obs):
    """What the collective's networks say, one environment at a time."""
    for row in obs:
        seen = jnp.asarray(np.concatenate([[1, 0], row[list(SPEC.state_index)]]).astype(np.float32))
        gaussian = collective.agent.policy(seen)
        yield gaussian, float(collective.agent.q(seen, gaussian.mode))


# -- schedules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_steps", "weight"), [(0, 5.0), (100, 5.0), (150, 2.5), (190, 0.5), (200, 0.0), (10_000, 0.0)]
)
def test_the_weight_is_constant_and_then_falls_to_nothing(env_steps, weight):
    assert LinearDecay(weight=5.0, constant_steps=100, decay_steps=100).at(env_steps) == pytest.approx(weight)


def test_without_decay_the_weight_falls_at_once():
    fading = LinearDecay(weight=5.0, constant_steps=100, decay_steps=0)
    assert [fading.at(steps) for steps in (0, 99, 100)] == [5.0, 5.0, 0.0]


# -- one by one --------------------------------------------------------------------------------------------


def test_the_likelihood_is_one_at_the_mean_and_falls_from_there():
    mean, std = jnp.array([0.3, -0.5]), jnp.array([0.2, 0.5])
    assert likelihood(mean, mean, std) == 1
    away = likelihood(mean + std, mean, std)
    assert away == pytest.approx(np.exp(-0.5 * 2))
    assert 0 < likelihood(jnp.array([-1.0, 1.0]), mean, std) < away


@pytest.mark.parametrize("floor", [0.01, 3.0])
def test_the_bonus_is_the_collectives_likelihood_of_each_action(collective, floor):
    help = helped(collective, "likelihood", likelihood=LikelihoodConfig(sigma_floor=floor))
    help.reset(np.ones(TRAIN.num_envs, bool))
    envs = make_envs("toy-reach", TRAIN.num_envs, goals="fresh")
    for _, step in zip(range(3), steps(envs, RandomPolicy(2, 0), 0), strict=False):
        sight = help.look(step.obs)
        bonus = help.bonus(step)
        assert bonus.shape == (TRAIN.num_envs,)
        assert np.all((bonus > 0) & (bonus <= 1))
        for i, (gaussian, value) in enumerate(seen_by_hand(collective, step.obs)):
            std = np.maximum(np.exp(gaussian.log_std), floor)
            by_hand = np.exp(-0.5 * np.sum(((step.action[i] - np.tanh(gaussian.mean)) / std) ** 2))
            assert bonus[i] == pytest.approx(by_hand, rel=1e-4, abs=1e-7)
            assert sight.potential[i] == pytest.approx(value, rel=1e-4, abs=1e-6)
            assert np.allclose(sight.advice[i], gaussian.mode, atol=1e-5)


def test_the_collectives_value_is_in_units_of_the_environments_reward(collective):
    obs = np.random.default_rng(0).uniform(-1, 1, (4, SPEC.obs_dim)).astype(np.float32)
    one, ten = (
        guidance(collective, scale, ("toy-reach",) * 4, StrategyConfig()).look(obs).potential
        for scale in (1.0, 0.1)
    )
    assert np.allclose(ten, 10 * one, rtol=1e-5)


@pytest.mark.parametrize(("env_steps", "longest"), [(0, 10), (50, 5), (100, 0)])
def test_the_collective_acts_the_first_steps_fewer_and_fewer(collective, env_steps, longest):
    num_envs = 11
    config = JumpStartConfig(steps=10, decay_steps=100)
    help = helped(collective, "jump-start", num_envs=num_envs, jump_start=config)
    help.reset(np.ones(num_envs, bool))
    envs, own = make_envs("toy-reach", num_envs, goals="fresh"), np.full((num_envs, 2), 7.0)
    acted = np.zeros(num_envs, int)
    for _, step in zip(range(12), steps(envs, RandomPolicy(2, 0), 0), strict=False):
        advice = help.look(step.obs).advice
        action = help.act(own, env_steps)
        guided = (action != own).all(1)
        assert np.array_equal(action[guided], advice[guided])
        acted += guided
        help.bonus(step)
    assert np.array_equal(acted, np.ceil(longest * np.linspace(0, 1, num_envs)))


def test_imitation_draws_the_actor_to_the_advice(collective):
    """More of it, nearer to it, in the states that both have met."""
    obs = np.random.default_rng(0).uniform(-1, 1, (200, SPEC.obs_dim)).astype(np.float32)
    advice = helped(collective, "imitation", num_envs=len(obs)).look(obs).advice
    distances = []
    for weight in (0.0, 10.0):
        fading = ImitationConfig(weight=weight, constant_steps=10_000)
        _, one = run(helped(collective, "imitation", imitation=fading), steps=400)
        agent = jax.tree.map(lambda x: x[0] if hasattr(x, "shape") else x, one.state.agent)
        distances.append(float(np.mean((agent.policy(jnp.asarray(obs)).mode - advice) ** 2)))
    assert distances[1] < 0.5 * distances[0]


def test_who_knows_nothing_is_not_imitated_nor_lets_others_wait(collective):
    help = helped(collective, "imitation", "jump-start")
    obs = np.random.default_rng(0).uniform(-1, 1, (TRAIN.num_envs, SPEC.obs_dim)).astype(np.float32)
    help.look(obs)
    own = np.zeros((TRAIN.num_envs, 2), np.float32)
    assert help.weights(0).imitation > 0
    assert not np.array_equal(help.act(own, 0), own)
    help.trust = 0.0
    assert help.weights(0) == Weights()
    assert np.array_equal(help.act(own, 0), own)


def played(collective, **settings):
    envs = make_envs("toy-reach", 6, goals="fresh")
    config = PriorDataConfig(num_envs=6, **settings)
    return play(envs, helped(collective, "prior-data", num_envs=6), config, seed=0)


def test_the_collective_plays_whole_episodes_the_same_for_the_same_seed(collective):
    prior = played(collective, rounds=1).prior
    data = prior.memory.data
    assert prior.env_steps == 6 * SPEC.horizon == data.valid.sum()
    assert np.array_equal(data.action[data.valid], data.advice[data.valid])
    assert np.array_equal(played(collective, rounds=1).prior.memory.data.obs, data.obs)


class Knowing:
    """A mentor that does the right thing, in this share of the environments."""

    def __init__(self, share, collective):
        self.known, self.mentor = share, helped(collective, "prior-data", num_envs=6).mentor

    def look(self, obs):
        view = self.mentor.look(obs)
        knows = np.arange(len(obs)) < self.known * len(obs)
        return view._replace(mean=np.where(knows[:, None], optimal_action("toy-reach", obs), 0.0))

    def see(self, action, reward):
        self.mentor.see(action, reward)

    def reset(self, env_mask):
        self.mentor.reset(env_mask)


@pytest.mark.parametrize(
    ("share", "rounds", "trust"), [(1.0, 2, 1.0), (5 / 6, 3, 2 / 3), (0.5, 2, 0.0), (0.0, 1, 0.0)]
)
def test_it_is_trusted_as_far_as_it_succeeds_asked_longer_in_doubt_and_not_again_if_it_never_does(
    collective, share, rounds, trust
):
    help = helped(collective, "prior-data", num_envs=6)
    help.mentor = Knowing(share, collective)
    envs = make_envs("toy-reach", 6, goals="fresh")
    found = play(
        envs,
        help,
        PriorDataConfig(num_envs=6, rounds=2, most_rounds=3, updates=30, trust_threshold=0.5),
        seed=1,
    )
    assert found.success == pytest.approx(share, abs=0.1)  # a goal may lie where it stands still
    expected = max(0.0, 2 * found.success - 1)
    assert found.trust == pytest.approx(expected) == pytest.approx(trust, abs=0.2)
    assert found.prior.env_steps == 6 * rounds * SPEC.horizon
    assert (found.prior.share, found.prior.updates) == (found.trust / 2, round(30 * found.trust))


def test_a_clone_does_what_it_has_seen(collective):
    prior = played(collective).prior
    data = prior.memory.data
    obs, advice = data.obs[data.valid], data.advice[data.valid]

    def error(updates):
        agent = clone(prior.memory, TRAIN.sac, CloningConfig(updates=updates, batch_size=64), seed=0)
        return float(np.mean((agent.policy(jnp.asarray(obs)).mode - advice) ** 2))

    assert error(1_000) < 0.1 * error(1)


# -- together ----------------------------------------------------------------------------------------------


def run(help=None, **changes):
    one = trainer(replace(TRAIN, **changes), help=help)
    return one.run()[0], one


NOTHING = {
    "likelihood": LikelihoodConfig(weight=0.0),
    "potential": PotentialConfig(weight=0.0),
    "imitation": ImitationConfig(weight=0.0),
    "jump_start": JumpStartConfig(steps=0),
}


def test_without_weight_it_is_plain_sac_bit_for_bit_after_two_thousand_updates(collective):
    help = helped(collective, "likelihood", "potential", "imitation", "jump-start", **NOTHING)
    plain, one = run(steps=4_200)
    shaped, two = run(help, steps=4_200)
    assert one.state.updates == two.state.updates >= 2_000
    assert same(one.state, two.state)
    assert same(plain.agent, shaped.agent)
    assert two.replay.data.bonus.any()  # it was judged, and did not count
    assert two.replay.data.potential.any()


@pytest.mark.parametrize("name", ["likelihood", "potential", "imitation", "jump-start"])
def test_with_weight_it_is_not(collective, name):
    (_, one), (_, two) = run(steps=200), run(helped(collective, name), steps=200)
    assert not same(one.state.agent, two.state.agent)


def test_strategies_add_up(collective):
    obs = np.random.default_rng(0).uniform(-1, 1, (TRAIN.num_envs, SPEC.obs_dim)).astype(np.float32)
    both = helped(collective, "likelihood", "imitation", "potential")
    weights = [helped(collective, name).weights(0) for name in ("likelihood", "imitation", "potential")]
    assert both.weights(0) == Weights(*np.sum(weights, axis=0))
    assert both.look(obs).advice.shape == (TRAIN.num_envs, 2)


@pytest.mark.parametrize("use", [(), ("none", "prior-data"), ("prior-data", "prior-data")])
def test_nonsense_combinations_are_refused(use):
    with pytest.raises(ValueError, match=r"strategy\.use="):
        StrategyConfig(use=use)


@pytest.mark.parametrize(
    ("config", "setting", "message"),
    [
        (LikelihoodConfig, {"weight": -1.0}, r"weight=-1\.0"),
        (LikelihoodConfig, {"decay_steps": -1}, r"decay-steps=-1"),
        (LikelihoodConfig, {"sigma_floor": 0.0}, r"sigma-floor=0\.0 must be positive"),
        (PotentialConfig, {"weight": -1.0}, r"weight=-1\.0"),
        (JumpStartConfig, {"steps": -1}, r"steps=-1"),
        (PriorDataConfig, {"rounds": 0}, r"rounds=0"),
        (PriorDataConfig, {"rounds": 3, "most_rounds": 2}, r"most-rounds=2"),
        (PriorDataConfig, {"trust_threshold": 1.0}, r"trust_threshold=1\.0"),
        (CloningConfig, {"updates": 0}, r"updates=0"),
    ],
)
def test_nonsense_is_refused_by_name(config, setting, message):
    with pytest.raises(ValueError, match=message):
        config(**setting)
