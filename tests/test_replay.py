"""The replay's samples against episodes recorded beside it, by brute force."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from collectiverl.data.device_replay import DeviceReplay
from collectiverl.data.replay import MIN_ROWS, Replay, Row
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import EpisodeCollector, RandomPolicy, steps
from collectiverl.sac.batches import _joined

GAMMA = 0.9
N = 3


def play(rows, *, capacity=10_000, seed=0, experts=1, n_envs=N, ending=False):
    """A replay filled with `rows` vector steps, and the episodes, the unfinished ones too."""
    envs = make_envs("toy-turn", experts * n_envs, goals="fresh")
    replay = Replay(capacity * n_envs, experts, n_envs, 6, 2)
    collector = EpisodeCollector(envs, "training", seed)
    done = []
    rng = np.random.default_rng(seed)
    for _, step in zip(range(rows), steps(envs, RandomPolicy(2, seed), seed), strict=False):
        result = step.result
        terminated = (
            result.truncated & (rng.random(len(result.reward)) < 0.5) if ending else result.terminated
        )
        result = result._replace(terminated=terminated, truncated=result.truncated & ~terminated)
        step = step._replace(result=result)
        done += [(i, e) for i, e in collector.add(step)]
        columns = (
            step.obs,
            step.action,
            result.reward,
            100 * result.reward,
            step.obs[:, 0],
            -step.action,
            result.terminated,
            result.done,
            ~result.began,
        )
        replay.add(Row(*(c.reshape(experts, n_envs, *c.shape[1:]) for c in columns)))
    return replay, done, collector.running


def transitions(done, running, n_step):
    """Every n-step transition there is, keyed by the bytes of its first observation and action."""
    table = {}
    histories = [(e.obs, e.action, e.reward, True, e.terminated) for _, e in done]
    for steps_so_far in running:
        if steps_so_far:
            obs, action, reward, _ = zip(*steps_so_far, strict=True)
            histories.append((np.stack(obs), np.stack(action), np.stack(reward), False, False))
    for obs, action, reward, over, terminated in histories:
        count = len(action) if over else len(action) - 1  # the newest row's next one is not stored yet
        for t in range(count):
            end = min(t + n_step, count)
            total = sum(GAMMA**k * reward[t + k] for k in range(end - t))
            dies = over and terminated and end == len(action)
            discount = 0.0 if dies else GAMMA ** (end - t)
            table[obs[t].tobytes() + action[t].tobytes()] = (total, discount, obs[end])
    return table


def check(replay, table, n_step, count=400):
    batch = replay.sample(np.random.default_rng(5), (4, count), n_step=n_step, gamma=GAMMA)
    flat = [x.reshape(-1, *x.shape[3:]) for x in batch[:5]]
    seen = set()
    for obs, action, reward, discount, next_obs in zip(*flat, strict=True):
        key = obs.tobytes() + action.tobytes()
        seen.add(key)
        total, expected, following = table[key]
        assert reward == pytest.approx(total, rel=1e-5)
        assert discount == pytest.approx(expected, rel=1e-6)
        assert np.array_equal(next_obs, following)
    return seen


@pytest.mark.parametrize("n_step", [1, 3, 30])
@pytest.mark.parametrize("rows", [2, 5, 26, 27, 60])
def test_samples_are_the_recorded_transitions_and_all_of_them_come(rows, n_step):
    replay, done, running = play(rows, ending=True)
    table = transitions(done, running, n_step)
    assert check(replay, table, n_step) == set(table)


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("rows", [41, 52, 53, 54, 55, 120, 137])
def test_so_they_are_after_the_ring_has_gone_round(rows, n_step):
    """At these numbers of rows the write head stands before, at and behind an episode's end."""
    replay, done, running = play(rows, capacity=40, ending=True)
    assert replay.size == 40
    table = transitions(done, running, n_step)
    newest = (np.arange(40) == (rows - 1) % 40)[:, None]
    held = np.argwhere(replay.data.valid[:, 0] & ~newest)
    stored = {replay.data.obs[r, 0, n].tobytes() + replay.data.action[r, 0, n].tobytes() for r, n in held}
    assert check(replay, table, n_step) == stored


def test_the_next_observation_at_an_episodes_end_is_its_own_last():
    replay, done, _ = play(27)
    batch = replay.sample(np.random.default_rng(0), (1, 2_000), n_step=1, gamma=GAMMA)
    ends = {e.obs[-2].tobytes(): e.obs[-1] for _, e in done}
    found = [i for i, obs in enumerate(batch.obs[0, 0]) if obs.tobytes() in ends]
    assert len({batch.obs[0, 0, i].tobytes() for i in found}) == N
    for i in found:
        assert np.array_equal(batch.next_obs[0, 0, i], ends[batch.obs[0, 0, i].tobytes()])
        assert batch.discount[0, 0, i] == np.float32(GAMMA)  # a time limit still bootstraps


def rows_by_hand(**flags):
    """One environment, rewards 1, 2, 4, 8 and observations 0, 1, 2, 3."""
    replay = Replay(100, 1, 1, 1, 1)
    for t, reward in enumerate([1.0, 2.0, 4.0, 8.0]):
        one = lambda x, dtype=np.float32: np.full((1, 1), x, dtype)  # noqa: E731
        ended = flags.get("ended") == t or flags.get("terminated") == t
        replay.add(
            Row(
                one(t)[..., None],
                one(0)[..., None],
                one(reward),
                one(10),
                one(2 * t),
                one(-t)[..., None],
                one(flags.get("terminated") == t, bool),
                one(ended, bool),
                one(True, bool),
            )
        )
    return replay


def sample_first(replay, **kwargs):
    batch = replay.sample(np.random.default_rng(0), (1, 64), gamma=0.5, **kwargs)
    i = int(np.flatnonzero(batch.obs[0, 0, :, 0] == 0)[0])
    return tuple(float(x.reshape(64)[i]) for x in (batch.reward, batch.discount, batch.next_obs))


@pytest.mark.parametrize(
    ("flags", "n_step", "expected"),
    [
        ({}, 1, (1.0, 0.5, 1.0)),
        ({}, 2, (1 + 0.5 * 2, 0.25, 2.0)),
        ({}, 3, (1 + 0.5 * 2 + 0.25 * 4, 0.125, 3.0)),
        ({}, 9, (1 + 0.5 * 2 + 0.25 * 4, 0.125, 3.0)),  # the newest has no row behind it
        ({"ended": 1}, 3, (1 + 0.5 * 2, 0.25, 2.0)),  # a time limit bootstraps
        ({"terminated": 1}, 3, (1 + 0.5 * 2, 0.0, 2.0)),  # a termination does not
        ({"terminated": 2}, 2, (1 + 0.5 * 2, 0.25, 2.0)),  # beyond the n steps
    ],
)
def test_n_step_sums_by_hand(flags, n_step, expected):
    assert sample_first(rows_by_hand(**flags), n_step=n_step) == expected


def test_the_bonus_counts_by_its_weight_of_the_day():
    replay = rows_by_hand()
    assert sample_first(replay, n_step=2, bonus=0.1)[0] == pytest.approx(1 + 1 + 0.5 * (2 + 1))
    assert sample_first(replay, n_step=2, bonus=0.0)[0] == 2.0


@pytest.mark.parametrize(
    ("flags", "n_step", "difference"),
    [
        ({}, 1, 0.5 * 2 - 0),
        ({}, 2, 0.25 * 4 - 0),
        ({"ended": 1}, 3, 0.25 * 4 - 0),  # after a time limit the state is worth what it is
        ({"terminated": 1}, 3, 0.0 - 0),  # after a termination it is worth nothing
    ],
)
def test_potentials_count_at_both_ends(flags, n_step, difference):
    replay = rows_by_hand(**flags)
    plain, shaped = (sample_first(replay, n_step=n_step, potential=w)[0] for w in (0.0, 3.0))
    assert shaped - plain == pytest.approx(3 * difference)


def test_summed_over_an_episode_a_potential_is_the_difference_of_its_ends():
    """So that no policy gains by it: what is left does not depend on the way (Ng et al. 1999)."""
    replay, *_ = play(60)
    batches = {
        w: replay.sample(np.random.default_rng(3), (1, 500), n_step=1, gamma=1.0, potential=w)
        for w in (0.0, 1.0)
    }
    gain = (batches[1.0].reward - batches[0.0].reward).ravel()
    first, last = (x.reshape(-1, 6)[:, 0] for x in (batches[0.0].obs, batches[0.0].next_obs))
    assert np.allclose(gain, last - first, atol=1e-4)


def test_advice_comes_with_its_observation_if_it_is_asked_for():
    replay, *_ = play(30)
    batch = replay.sample(np.random.default_rng(0), (1, 100), n_step=3, gamma=GAMMA, advised=True)
    assert np.array_equal(batch.advice, -batch.action)
    assert replay.sample(np.random.default_rng(0), (1, 100), n_step=3, gamma=GAMMA).advice is None


def test_each_expert_samples_its_own_environments():
    replay, *_ = play(40, experts=3, n_envs=2)
    batch = replay.sample(np.random.default_rng(0), (2, 100), n_step=1, gamma=GAMMA)
    assert batch.obs.shape == (2, 3, 100, 6)
    for expert in range(3):
        stored = {obs.tobytes() for obs in replay.data.obs[:40, expert].reshape(-1, 6)}
        assert {obs.tobytes() for obs in batch.obs[:, expert].reshape(-1, 6)} <= stored


@pytest.mark.parametrize("rows", [7, 60])
def test_a_restored_replay_goes_on_as_the_one_that_was_saved(rows):
    replay, *_ = play(rows, capacity=40)
    other = Replay(40 * N, 1, N, 6, 2)
    other.restore({name: array.copy() for name, array in replay.state().items()})
    one, two = (r.sample(np.random.default_rng(0), (1, 50), n_step=3, gamma=GAMMA) for r in (replay, other))
    assert all(np.array_equal(a, b) for a, b in zip(one[:5], two[:5], strict=True))
    assert (other.next, other.size) == (replay.next, replay.size)


def test_a_single_row_is_not_ready_and_the_smallest_ring_always_has_a_transition():
    assert not play(1)[0].ready
    for rows in range(2, 60):
        replay, *_ = play(rows, capacity=1)
        assert len(replay.data.reward) == MIN_ROWS
        assert replay.ready
        replay.sample(np.random.default_rng(0), (1, 8), n_step=3, gamma=GAMMA)


def test_a_memory_of_episodes_gives_their_transitions_and_no_others():
    """Of whole episodes of unlike length and number, one expert's never among the other's."""
    own = [[e for i, e in play(70, seed=seed)[1] if i < count] for seed, count in ((0, 3), (1, 2))]
    short = own[0][0]
    own[0][0] = replace(
        short, obs=short.obs[:6], action=short.action[:5], reward=short.reward[:5], success=short.success[:5]
    )
    tables = [transitions([(0, e) for e in episodes], [], 3) for episodes in own]
    memory = Replay.of(own)
    batch = memory.sample(np.random.default_rng(0), (2, 200), n_step=3, gamma=GAMMA)
    seen = [set(), set()]
    for u, e, b in np.ndindex(batch.reward.shape):
        key = batch.obs[u, e, b].tobytes() + batch.action[u, e, b].tobytes()
        reward, discount, next_obs = tables[e][key]
        seen[e].add(key)
        assert batch.reward[u, e, b] == pytest.approx(reward, rel=1e-5)
        assert batch.discount[u, e, b] == pytest.approx(discount)
        assert np.array_equal(batch.next_obs[u, e, b], next_obs)
    assert all(len(keys) > 0.5 * len(table) for keys, table in zip(seen, tables, strict=True))


# -- on the device -----------------------------------------------------------------------------------------


def test_the_memory_on_the_device_draws_the_same_transitions_also_after_a_checkpoint():
    """Three experts, past the ring's end; arrays of JAX, here on the CPU."""
    rng, kinds = np.random.default_rng(0), (Replay, DeviceReplay)
    memories = [kind(20, 3, 2, 5, 2) for kind in kinds]
    for step in range(27):
        row = Row(
            obs=rng.normal(size=(3, 2, 5)).astype(np.float32),
            action=rng.normal(size=(3, 2, 2)).astype(np.float32),
            reward=rng.normal(size=(3, 2)).astype(np.float32),
            bonus=rng.normal(size=(3, 2)).astype(np.float32),
            potential=rng.normal(size=(3, 2)).astype(np.float32),
            advice=rng.normal(size=(3, 2, 2)).astype(np.float32),
            terminated=np.zeros((3, 2), bool),
            ended=np.full((3, 2), step % 5 == 4),
            valid=np.full((3, 2), step % 5 != 0),
        )
        for memory in memories:
            memory.add(row)
    again = DeviceReplay(20, 3, 2, 5, 2)
    again.restore({name: np.asarray(value) for name, value in memories[1].state().items()})
    drawn = [
        memory.sample(
            np.random.default_rng(1), (4, 6), n_step=2, gamma=0.9, bonus=1.0, potential=1.0, advised=True
        )
        for memory in (*memories, again)
    ]
    assert isinstance(drawn[1].obs, jax.Array)
    for other in drawn[1:]:
        for one, same in zip(drawn[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def test_batches_on_the_device_stay_there_beside_those_of_a_prior():
    columns = np.ones((1, 1, 2, 3), np.float32), jax.numpy.ones((1, 1, 4, 3), np.float32)
    assert isinstance(_joined(*columns), jax.Array)
    assert _joined(columns[1]) is columns[1]
    assert isinstance(_joined(columns[0], columns[0]), np.ndarray)
