"""The running context is the window of the recorded episode, embedded; so are `gather` and `encode`."""

import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.data.episodes import EpisodeTable, write
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import EpisodeCollector, RandomPolicy, steps
from collectiverl.representation.batches import gather, pack
from collectiverl.representation.context import Context, encode
from collectiverl.representation.encoder import EncoderConfig
from toy_buffers import STATE_INDEX, any_encoder, buffers

NUM_ENVS = 3
CONFIG = EncoderConfig(window=6, dim=8, layers=2, heads=2, feedforward=16)


@pytest.fixture(scope="module")
def encoder():
    return any_encoder(CONFIG)


class Watching(RandomPolicy):
    """Acts at random, and embeds what it sees as a policy that reads its context does."""

    def __init__(self, context: Context):
        super().__init__(action_dim=2, seed=0)
        self.context, self.seen = context, []
        self.reset, self.observe = context.reset, context.observe

    def eval_action(self, observations):
        self.seen.append(np.asarray(self.context.embed(observations)))
        action = super().eval_action(observations)
        self.context.acted(action)
        return action


@pytest.mark.parametrize("readout", ["cls", "last_state"])
def test_the_running_context_is_the_recorded_window(encoder, readout, tmp_path):
    envs = make_envs("toy-swap", NUM_ENVS)
    policy = Watching(Context(encoder, STATE_INDEX, NUM_ENVS, readout=readout))
    collector, played, owners = EpisodeCollector(envs, "random", 0), [], []
    stream = steps(envs, policy, seed=0)
    for _ in range(2 * envs.spec.horizon + 1):  # two episodes, and the reset between them
        for owner, episode in collector.add(next(stream)):
            owners.append(owner)
            played.append(episode)
    write(tmp_path, played)
    recorded = encode(encoder, EpisodeTable.open(tmp_path), STATE_INDEX, batch=32, readout=readout)
    lived, horizon = np.stack(policy.seen), envs.spec.horizon
    for i, owner in enumerate(owners):
        begin = (i // NUM_ENVS) * (horizon + 1)
        np.testing.assert_allclose(
            recorded[i * horizon : (i + 1) * horizon], lived[begin : begin + horizon, owner], atol=1e-5
        )


def test_a_reset_forgets_only_its_own_environment(encoder):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(4, 2, 6)).astype(np.float32)
    action, reward = rng.normal(size=(2, 2)).astype(np.float32), np.ones(2, np.float32)
    context, fresh = (Context(encoder, STATE_INDEX, 2) for _ in range(2))
    for at in range(3):
        untouched = context.embed(obs[at])
        context.acted(action)
        context.observe(reward)
    context.reset(np.array([True, False]))
    z = context.embed(obs[3])
    np.testing.assert_allclose(z[0], fresh.embed(obs[3])[0], atol=1e-6)
    assert not np.allclose(z[1], fresh.embed(obs[3])[1], atol=1e-3)
    assert not np.allclose(z[1], untouched[1], atol=1e-6)


def test_packed_windows_are_those_of_the_table():
    tables, _ = buffers()
    data = pack(tables, STATE_INDEX)
    rng = np.random.default_rng(0)
    for buffer, table in enumerate(tables):
        episode = rng.integers(0, len(table), 20)
        end = rng.integers(0, table.length[episode] + 1)
        context = rng.integers(1, 9, 20)
        first = data.first[data.offset[buffer] + episode]
        expected = table.windows(episode, end, 8, STATE_INDEX, context)
        numbers = map(jnp.asarray, (first, first + end, context))
        found = gather(data.rows, *numbers, 8)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_encoding_does_not_depend_on_the_batch(encoder):
    table = buffers()[0][0].subset([0, 3])
    whole = encode(encoder, table, STATE_INDEX, batch=64)
    assert whole.shape == (len(table.column("action")), CONFIG.z_dim)
    np.testing.assert_allclose(encode(encoder, table, STATE_INDEX, batch=32), whole, atol=1e-6)
