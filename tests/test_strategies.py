"""Students' strategies: what each does, that they combine, and that without weight they are plain SAC."""

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import numpy as np
import pytest

import drawn
from collectiverl.collective.conditioning import TaskId
from collectiverl.collective.policy import Collective
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.rollout import RandomPolicy, steps
from collectiverl.envs.toy import optimal_action
from collectiverl.nn.normalizer import Normalizer
from collectiverl.representation.scales import Scales
from collectiverl.sac.agent import SACConfig, init_agent
from collectiverl.sac.help import Weights
from collectiverl.student import cloning
from collectiverl.student.cloning import CloningConfig, clone
from collectiverl.student.imitation import ImitationConfig
from collectiverl.student.jump_start import JumpStartConfig
from collectiverl.student.likelihood import LikelihoodConfig, likelihood
from collectiverl.student.mentor import Mentor
from collectiverl.student.potential import PotentialConfig
from collectiverl.student.prior_data import PriorDataConfig, play
from collectiverl.student.schedule import LinearDecay
from collectiverl.student.strategies import StrategyConfig, guidance
from collectiverl.student.strategy import Guidance
from collectiverl.types import ConfigError, ValueUnit
from training import TRAIN, same, trainer

TASKS = ("toy-reach", "toy-mirror")
SPEC = spec("toy-reach")


@pytest.fixture(scope="module")
def collective():
    """Fresh networks told the task: what they do is arbitrary, and enough."""
    config = SACConfig(width=16, log_std_min=-5.0, log_std_max=2.0)
    seen = len(TASKS) + Scales.identity(SPEC.state_dim).feature_dim
    agent = drawn.module(init_agent, seen, SPEC.action_dim, config, scale=0.05)
    agent = replace(agent, normalizer=Normalizer.identity(seen))
    scales = Scales.identity(SPEC.state_dim)
    return Collective(agent=agent, conditioning=TaskId(TASKS), scales=scales, tasks=TASKS, spec=SPEC)


def help_of(collective, *use, reward_scale=1.0, **settings):
    return guidance(collective, ValueUnit(reward_scale, 0.9), StrategyConfig(use=use, **settings))


def output_at(help, obs):
    """The help's output at the first observations of episodes, and the context that they leave."""
    context = help.reset(help.begin(("toy-reach",) * len(obs)), np.ones(len(obs), bool))
    context, output = help.predict(context, obs)
    return output, context


def guided_steps(help, num_envs, count):
    """Steps of random actions that the help follows, each with its output and its context before it is observed."""
    envs = make_envs("toy-reach", num_envs, goals="fresh")
    context = help.reset(help.begin(envs.tasks), np.ones(num_envs, bool))
    for _, step in zip(range(count), steps(envs, RandomPolicy(2, 0), 0), strict=False):
        context, output = help.predict(context, step.obs)
        yield step, output, context
        context = help.observe(context, step)


def seen_by_hand(collective, obs, before):
    """What the collective's networks say, one environment at a time: of the task, the state, and its change."""
    for row, last in zip(obs, obs if before is None else before, strict=True):
        state = row[list(SPEC.state_index)]
        change = state - last[list(SPEC.state_index)]
        yield said(collective.agent, np.concatenate([[1, 0], state, change]).astype(np.float32))


@eqx.filter_jit
def said(agent, seen):
    """The policy, and the value of what it would do."""
    gaussian = agent.policy(seen)
    return gaussian, agent.q(seen, gaussian.mode)


@eqx.filter_jit
def mode(agent, obs):
    return agent.policy(obs).mode


# -- schedules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_steps", "weight"), [(0, 5.0), (100, 5.0), (150, 2.5), (190, 0.5), (200, 0.0), (10_000, 0.0)]
)
def test_the_weight_is_constant_and_then_falls_to_nothing(env_steps, weight):
    assert LinearDecay(weight=5.0, constant_steps=100, decay_steps=100).at(env_steps) == pytest.approx(weight)


def test_without_decay_the_weight_falls_at_once():
    decay = LinearDecay(weight=5.0, constant_steps=100, decay_steps=0)
    assert [decay.at(steps) for steps in (0, 99, 100)] == [5.0, 5.0, 0.0]


# -- one by one --------------------------------------------------------------------------------------------


def test_the_likelihood_is_one_at_the_mean_and_falls_from_there():
    mean, std = np.array([[0.3, -0.5], [0.2, 0.5]], np.float32)
    of = jax.jit(likelihood)
    assert of(mean, mean, std) == 1
    away = of(mean + std, mean, std)
    assert away == pytest.approx(np.exp(-0.5 * 2))
    assert 0 < of(np.array([-1, 1], np.float32), mean, std) < away


@pytest.mark.parametrize("floor", [0.01, 3.0])
def test_the_bonus_is_the_collectives_likelihood_of_each_action(collective, floor):
    help = help_of(collective, "likelihood", likelihood=LikelihoodConfig(sigma_floor=floor))
    before = None
    for step, output, _ in guided_steps(help, TRAIN.num_envs, 3):
        bonus = help.bonus(step, output)
        assert bonus.shape == (TRAIN.num_envs,)
        assert ((bonus > 0) & (bonus <= 1)).all()
        for i, (gaussian, value) in enumerate(seen_by_hand(collective, step.obs, before)):
            gaussian = jax.tree.map(np.asarray, gaussian)
            std = np.maximum(np.exp(gaussian.log_std), floor)
            by_hand = np.exp(-0.5 * np.sum(((step.action[i] - np.tanh(gaussian.mean)) / std) ** 2))
            assert bonus[i] == pytest.approx(by_hand, rel=1e-4, abs=1e-7)
            assert output.value[i] == pytest.approx(float(value), rel=1e-4, abs=1e-6)
            assert np.allclose(output.mean[i], np.tanh(gaussian.mean), atol=1e-5)
        before = step.obs


def test_the_collectives_value_is_in_units_of_the_environments_reward(collective):
    obs = np.random.default_rng(0).uniform(-1, 1, (4, SPEC.obs_dim)).astype(np.float32)
    one, ten = (
        output_at(help_of(collective, "potential", reward_scale=scale), obs)[0].value for scale in (1.0, 0.1)
    )
    assert np.allclose(ten, 10 * one, rtol=1e-5)


@pytest.mark.parametrize(("env_steps", "longest"), [(0, 10), (50, 5), (100, 0)])
def test_the_collective_acts_the_first_steps_fewer_and_fewer(collective, env_steps, longest):
    num_envs = 11
    config = JumpStartConfig(steps=10, decay_steps=100)
    help = help_of(collective, "jump-start", jump_start=config)
    own, acted = np.full((num_envs, 2), 7.0), np.zeros(num_envs, int)
    for _, output, context in guided_steps(help, num_envs, 12):
        action = help.act(own, output, context, env_steps)
        guided = (action != own).all(1)
        assert np.array_equal(action[guided], output.mean[guided])
        acted += guided
    assert np.array_equal(acted, np.ceil(longest * np.linspace(0, 1, num_envs)))


def test_imitation_is_held_back_until_the_student_acts(collective):
    """Then its weight is the same for ever: it is the critics that end it."""
    help = help_of(collective, "imitation", "likelihood")
    before, first, last = (help.weights(n, acting=a) for n, a in ((0, False), (0, True), (10**6, True)))
    assert before.imitation == 0 < before.bonus
    assert first.imitation == last.imitation == 1


def test_a_collective_that_never_succeeds_is_not_followed(collective):
    """Its bonus and its values stay: it is its actions that harm."""
    help = help_of(collective, "imitation", "jump-start", "likelihood", "potential")
    obs = np.random.default_rng(0).uniform(-1, 1, (TRAIN.num_envs, SPEC.obs_dim)).astype(np.float32)
    output, context = output_at(help, obs)
    own = np.zeros((TRAIN.num_envs, 2), np.float32)
    followed, weights = help.without_following(), help.weights(0, acting=True)
    assert weights.imitation > 0
    assert not np.array_equal(help.act(own, output, context, 0), own)
    assert np.array_equal(followed.act(own, output, context, 0), own)
    assert followed.weights(0, acting=True) == weights._replace(imitation=0.0)


def played(collective, **settings):
    envs = make_envs("toy-reach", 6, goals="fresh")
    return play(envs, help_of(collective, "prior-data"), PriorDataConfig(episodes=6, **settings), seed=0)


def test_the_collective_plays_whole_episodes_the_same_for_the_same_seed(collective):
    prior = played(collective).prior
    data = prior.memory.data
    assert prior.env_steps == 6 * SPEC.horizon == data.valid.sum()
    assert np.array_equal(data.action[data.valid], data.advice[data.valid])
    assert np.array_equal(played(collective).prior.memory.data.obs, data.obs)


@dataclass(frozen=True)
class PartlyOptimal(Mentor):
    """A mentor whose actions are optimal in this share of the environments."""

    share: float

    def predict(self, context, obs):
        context, output = super().predict(context, obs)
        optimal = np.arange(len(obs)) < self.share * len(obs)
        return context, output._replace(
            mean=np.where(optimal[:, None], optimal_action("toy-reach", obs), 0.0).astype(np.float32)
        )


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_all_that_the_collective_played_is_learned_from_however_well_it_played(collective, share):
    help = Guidance(PartlyOptimal(collective, ValueUnit(1.0, 0.9), share), ())
    envs = make_envs("toy-reach", 6, goals="fresh")
    found = play(envs, help, PriorDataConfig(episodes=6, updates=30), seed=1)
    assert found.success == pytest.approx(share, abs=0.1)  # a goal may lie where it stands still
    assert found.prior.env_steps == 6 * SPEC.horizon
    assert (found.prior.share, found.prior.updates) == (0.0, 30)


def test_a_clone_does_what_it_has_seen(collective):
    prior = played(collective).prior
    data = prior.memory.data
    obs, advice = data.obs[data.valid], data.advice[data.valid]

    def error(updates):
        agent = clone(prior.memory, TRAIN.sac, CloningConfig(updates=updates, batch_size=64), seed=0)
        return float(np.mean((mode(agent, obs) - advice) ** 2))

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
    help = help_of(collective, "likelihood", "potential", "imitation", "jump-start", **NOTHING)
    plain, one = run(steps=1_200, updates_per_step=8)
    shaped, two = run(help, steps=1_200, updates_per_step=8)
    assert one.learner.state.updates == two.learner.state.updates >= 2_000
    assert same(one.learner.state, two.learner.state)
    assert same(plain.agent, shaped.agent)
    assert two.replay.data.bonus.any()  # it was judged, and did not count
    assert two.replay.data.potential.any()


@pytest.mark.parametrize("name", ["likelihood", "potential", "imitation", "jump-start"])
def test_with_weight_it_is_not(collective, name):
    (_, one), (_, two) = run(steps=200), run(help_of(collective, name), steps=200)
    assert not same(one.learner.state.agent, two.learner.state.agent)


def test_strategies_add_up(collective):
    obs = np.random.default_rng(0).uniform(-1, 1, (TRAIN.num_envs, SPEC.obs_dim)).astype(np.float32)
    both = help_of(collective, "likelihood", "imitation", "potential")
    names = ("likelihood", "imitation", "potential")
    weights = [help_of(collective, name).weights(0, acting=True) for name in names]
    assert both.weights(0, acting=True) == Weights(*np.sum(weights, axis=0))
    assert output_at(both, obs)[0].mean.shape == (TRAIN.num_envs, 2)


@pytest.mark.parametrize(
    "use", [(), ("none", "prior-data"), ("finetune", "imitation"), ("prior-data", "prior-data")]
)
def test_nonsense_combinations_are_refused(use):
    with pytest.raises(ConfigError, match=r"^use: .*name none or finetune, or other strategies"):
        StrategyConfig(use=use)


def test_plain_sac_has_no_strategy_settings():
    assert StrategyConfig(use=("none",)).active is None
    assert StrategyConfig().active == StrategyConfig()


@pytest.mark.parametrize(
    ("config", "setting", "message"),
    [
        (LikelihoodConfig, {"weight": -1.0}, r"weight: -1\.0 must be at least 0"),
        (LikelihoodConfig, {"weight": float("inf")}, "weight: inf must be at least 0"),
        (LikelihoodConfig, {"decay_steps": -1}, "decay-steps: -1 must be at least 0"),
        (LikelihoodConfig, {"sigma_floor": 0.0}, r"sigma-floor: 0\.0 must be positive"),
        (PotentialConfig, {"weight": float("nan")}, "weight: nan must be at least 0"),
        (JumpStartConfig, {"steps": -1}, "steps: -1 must be at least 0"),
        (PriorDataConfig, {"episodes": 0}, "episodes: 0 must be at least 1"),
        (PriorDataConfig, {"updates": -1}, "updates: -1 must be at least 0"),
        (ImitationConfig, {"weight": -1.0}, r"weight: -1\.0 must be at least 0"),
        (CloningConfig, {"updates": 0}, "updates: 0 must be at least 1"),
    ],
)
def test_nonsense_is_refused_by_name(config, setting, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        config(**setting)


def test_cloning_killed_and_resumed_ends_as_uninterrupted(tmp_path, monkeypatch, collective):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    help = help_of(collective, "imitation")
    memory = play(make_envs("toy-reach", 10, goals="fresh"), help, PriorDataConfig(), 0).prior.memory
    config, done = CloningConfig(updates=200, batch_size=16), []

    def kill(step, total, note=""):
        if step == 150:
            raise KeyboardInterrupt

    whole = clone(memory, TRAIN.sac, config, 0)
    with pytest.raises(KeyboardInterrupt):
        clone(memory, TRAIN.sac, config, 0, work=tmp_path, report=kill)
    report = lambda step, total, note="": done.append(step)  # noqa: E731
    assert same(clone(memory, TRAIN.sac, config, 0, work=tmp_path, report=report), whole)
    assert done == [150, 200]


def test_a_cloning_that_diverges_stops_by_name(tmp_path, monkeypatch, collective):
    help = help_of(collective, "imitation")
    memory = play(make_envs("toy-reach", 5, goals="fresh"), help, PriorDataConfig(), 0).prior.memory
    real = cloning.descend
    monkeypatch.setattr(cloning, "descend", lambda *args: (*real(*args)[:2], np.float32(np.nan)))
    with pytest.raises(FloatingPointError, match="loss is not finite after 50 updates"):
        clone(memory, TRAIN.sac, CloningConfig(updates=200, batch_size=16), 0, work=tmp_path)
