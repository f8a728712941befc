"""A peer with our settings: each of them reaches it or is listed, and it plays our environments."""

from dataclasses import fields, replace

import numpy as np
import pytest
from benchmarks import peers
from benchmarks.our_settings import NOT_TAKEN, our_settings

from collectiverl.envs.make import make_envs
from collectiverl.sac.agent import SACConfig
from collectiverl.sac.settings import TrainConfig

BY_ENVIRONMENTS = ("num_envs", "horizon", "sac.reward_scale", "sac.normalize_obs")
JUDGED = (
    "steps",
    "success_at",
    "checkpoint_every",
)  # and eval_*, stop_*: of our evaluations, which the judge replaces
PEERS = ("sb3", pytest.param("sbx", marks=pytest.mark.bench))


def other(value):
    """Another value of a setting, of its kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return "float32"
    return 0.9 if value is None else value + 1 if isinstance(value, int) else value / 2


def variants():
    """Our settings, with each of those of the training changed alone."""
    base = TrainConfig()
    for field in fields(TrainConfig):
        if field.name not in (*JUDGED, "sac") and not field.name.startswith(("eval_", "stop_")):
            yield field.name, replace(base, **{field.name: other(getattr(base, field.name))})
    for field in fields(SACConfig):
        changed = replace(base.sac, **{field.name: other(getattr(base.sac, field.name))})
        yield f"sac.{field.name}", replace(base, sac=changed)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.filterwarnings("ignore")  # of packages that SBX needs
def test_each_of_our_settings_reaches_a_peer_or_is_listed(peer):
    usual = str(our_settings(peer, TrainConfig(), 4))
    same = [name for name, train in variants() if str(our_settings(peer, train, 4)) == usual]
    assert sorted(same) == sorted((*NOT_TAKEN[peer], *BY_ENVIRONMENTS))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.filterwarnings("ignore")
def test_a_peer_makes_as_many_updates_a_vector_step_as_ours(peer):
    found = our_settings(peer, TrainConfig(updates_per_step=7), 4)
    assert found["gradient_steps"] == 7 * found["train_freq"]


# -- with the peers installed ------------------------------------------------------------------------------

SMALL = TrainConfig(
    num_envs=2,
    horizon=5,
    warmup=20,
    updates_per_step=1,
    capacity=1_000,
    sac=SACConfig(batch_size=4, width=8, depth=1),
)
bench = pytest.mark.bench


def env(**changes):
    pytest.importorskip("stable_baselines3")
    from benchmarks.our_envs import training_env

    return training_env("toy-reach", replace(SMALL, **changes))


def unscaled(**sac):
    return env(sac=replace(SMALL.sac, normalize_obs=False, **sac))


@bench
def test_a_peer_sees_every_transition_of_ours_and_the_true_last_observation():
    theirs, ours = unscaled(reward_scale=0.5), make_envs("toy-reach", 2, goals="fresh", horizon=5)
    theirs.seed(3)
    np.testing.assert_array_equal(theirs.reset(), ours.reset(3))
    rng = np.random.default_rng(0)
    for step in range(1, 16):
        action = rng.uniform(-1, 1, (2, 2)).astype(np.float32)
        (obs, reward, done, infos), true = theirs.step(action), ours.step(action)
        np.testing.assert_array_equal(reward, true.reward * np.float32(0.5))
        np.testing.assert_array_equal(done, true.done)
        assert done.all() == (step % 5 == 0)
        if done.all():
            ends = np.array([info["terminal_observation"] for info in infos])
            np.testing.assert_array_equal(ends, true.obs)
            assert all(info["TimeLimit.truncated"] for info in infos)
            true = ours.step(action)
            assert true.began.all()
        np.testing.assert_array_equal(obs, true.obs)


@bench
def test_episodes_that_do_not_end_together_are_refused():
    theirs = unscaled()
    theirs.reset()
    true = theirs.envs.step
    theirs.envs.step = lambda action: true(action)._replace(truncated=np.array([True, False]))
    with pytest.raises(RuntimeError, match="do not end together"):
        theirs.step(np.zeros((2, 2), np.float32))


@bench
def test_observations_are_standardised_with_a_floor_as_ours_are():
    standard = env()
    standard.obs_rms.mean[:], standard.obs_rms.var[:] = 1.0, 0.0
    found = standard.normalize_obs(np.full((1, standard.observation_space.shape[0]), 1.1))
    np.testing.assert_allclose(found, 0.1 / 0.05, rtol=1e-5)
    assert not standard.norm_reward


@bench
@pytest.mark.parametrize("peer", peers.PEERS)
@pytest.mark.filterwarnings("ignore")
def test_a_peer_learns_with_our_settings_and_bootstraps_at_time_limits(peer):
    pytest.importorskip(peers.PEERS[peer])
    model = peers.make_sac(peer, env(), seed=0, **our_settings(peer, SMALL, 2))
    model.learn(60)
    buffer = model.replay_buffer
    count = buffer.pos
    assert count * SMALL.num_envs >= 60
    ends = buffer.dones[:count].astype(bool)
    assert ends[4::5].all()
    assert ends.sum() == ends[4::5].size
    np.testing.assert_array_equal(buffer.timeouts[:count], ends)
    follow = ~ends[:-1]
    np.testing.assert_array_equal(
        buffer.next_observations[: count - 1][follow], buffer.observations[1:count][follow]
    )
    assert model._n_updates > 0
    policy = peers.PeerPolicy(model)
    assert policy.statistics is model.env
    policy.eval_action(np.zeros((4, model.observation_space.shape[0]), np.float32))


@bench
@pytest.mark.filterwarnings("ignore")
def test_sbx_holds_its_noise_as_long_as_ours():
    pytest.importorskip("sbx")
    model = peers.make_sac("sbx", env(), seed=0, **our_settings("sbx", SMALL, 2))
    obs = np.zeros((2, model.observation_space.shape[0]), np.float32)
    model.learn(1)  # one rollout
    first = model.predict(obs)[0]
    np.testing.assert_array_equal(model.predict(obs)[0], first)
    model.policy.reset_noise(2)  # as each rollout begins
    assert not np.array_equal(model.predict(obs)[0], first)
    assert model.train_freq.frequency == SMALL.noise_hold
