"""What the collective learns from: segments are the stretches of the episodes, and are drawn as asked for."""

import numpy as np
import pytest

from collectiverl.collective.segments import SHORTEST, Draw, Segments, played
from collectiverl.data.episodes import EpisodeTable, Shard
from collectiverl.types import Episode, Labels
from toy_buffers import SPEC, STATE_INDEX

A = SPEC.action_dim
LENGTHS = {"toy-reach": (30, 45), "toy-swap": (70, 90, 120), "toy-turn": (140,)}


def an_episode(task, length, success=None, phase="learner"):
    rng = np.random.default_rng(length)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return Episode(
        obs=normal(length + 1, SPEC.obs_dim),
        action=normal(length, A),
        reward=normal(length),
        success=np.arange(length) >= (length if success is None else success),
        task=task,
        phase=phase,
        labels=Labels(normal(length, A), normal(length, A), None),
    )


@pytest.fixture(scope="module")
def table():
    return EpisodeTable([Shard.of([an_episode(task, n) for task, found in LENGTHS.items() for n in found])])


@pytest.fixture(scope="module")
def segments(table):
    return Segments(table, STATE_INDEX)


def sampled(segments, draw, seed=0):
    return segments.sample(np.random.default_rng(seed), draw)


# -- a segment -----------------------------------------------------------------------------------------------


def test_a_segment_is_the_episodes_stretch(table, segments):
    """A state comes with the action and the reward that led to it, and with the teacher's labels in it."""
    begin, length = 7, 12
    for i, episode in enumerate(table):
        batch = segments.gather(np.array([i]), np.array([begin]), length)
        steps, before = slice(begin, begin + length), slice(begin - 1, begin + length - 1)
        np.testing.assert_array_equal(batch.window.state[0], episode.obs[steps][:, list(STATE_INDEX)])
        np.testing.assert_array_equal(batch.window.action[0], episode.action[before])
        np.testing.assert_array_equal(batch.window.reward[0], episode.reward[before])
        np.testing.assert_array_equal(batch.mean[0], episode.labels.mean[steps])
        np.testing.assert_array_equal(batch.log_std[0], episode.labels.log_std[steps])
        assert batch.window.mask.all()
        assert batch.z.shape == (1, length, 0)


def test_nothing_led_to_an_episodes_first_step(segments):
    window = segments.gather(np.arange(len(segments)), np.zeros(len(segments), int), 3).window
    assert not window.action[:, 0].any()
    assert np.isnan(window.reward[:, 0]).all()
    assert not np.isnan(window.reward[:, 1:]).any()


def test_behind_an_episodes_end_nothing_counts(table, segments):
    batch = segments.gather(np.arange(len(segments)), np.zeros(len(segments), int), int(table.length.max()))
    expected = np.arange(table.length.max()) < table.length[:, None]
    np.testing.assert_array_equal(batch.window.mask, expected)
    np.testing.assert_array_equal(batch.weight, expected)
    assert all(np.isfinite(part).all() for part in (batch.mean, batch.log_std, batch.window.state))


def test_given_embeddings_stand_beside_their_steps(table):
    steps = int(table.length.sum())
    z = np.arange(steps, dtype=np.float32)[:, None]
    found = Segments(table, STATE_INDEX, z).gather(np.array([1]), np.array([4]), 3).z
    np.testing.assert_array_equal(found[0, :, 0], table.length[0] + np.arange(4, 7))


def test_hidden_goals_do_not_reach_a_segment(table):
    hidden = np.isin(STATE_INDEX, SPEC.goal_index)
    blind = Segments(table.hiding(SPEC.goal_index), STATE_INDEX)
    draw = Draw(labels=300, length=10, unrewarded=0.0)
    state, seen = (sampled(s, draw).window.state for s in (blind, Segments(table, STATE_INDEX)))
    assert not state[..., hidden].any()
    np.testing.assert_array_equal(state[..., ~hidden], seen[..., ~hidden])


# -- what is drawn -------------------------------------------------------------------------------------------


def test_a_batch_is_a_function_of_the_generator_alone(segments):
    draw = Draw(labels=240, length=12, unrewarded=0.5)
    one, two, other = (sampled(segments, draw, seed) for seed in (3, 3, 4))
    for a, b in zip(one.window, two.window, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.mean, other.mean)


def test_a_batch_has_as_many_labels_as_asked_for(segments):
    for length in (1, 12, 60):
        assert sampled(segments, Draw(labels=240, length=length, unrewarded=0.0)).weight.shape == (
            240 // length,
            length,
        )
    assert sampled(segments, Draw(labels=3, length=12, unrewarded=0.0)).weight.shape == (1, 12)


def test_episodes_are_drawn_by_their_length_and_at_every_place(table, segments):
    batch = sampled(segments, Draw(labels=20_000, length=10, unrewarded=0.0))
    states = np.concatenate([e.obs[:-1] for e in table])[:, list(STATE_INDEX)]
    row = {state.tobytes(): i for i, state in enumerate(states)}
    rows = np.array([row[state[0].tobytes()] for state in batch.window.state])
    owner = np.repeat(np.arange(len(table)), table.length)[rows]
    share = np.bincount(owner, minlength=len(table)) / len(rows)
    np.testing.assert_allclose(share, table.length / table.length.sum(), atol=0.04)
    begins = rows - segments.first[owner]
    assert (begins <= table.length[owner] - 10).all()
    assert {0, 1, 60, 130} <= set(begins[owner == len(table) - 1])
    assert np.mean(begins == 0) > 1.5 * np.mean(begins == 1)  # so that an episode's ends are not rare


def test_rewards_are_left_out_of_a_share_of_the_segments(segments):
    draw = Draw(labels=20_000, length=10, unrewarded=0.2)
    unknown = np.isnan(sampled(segments, draw).window.reward).all(axis=1)
    assert unknown.mean() == pytest.approx(0.2, abs=0.03)


def test_whole_episodes_of_about_one_length_come_together(table, segments):
    """No more than half of a batch is padding, but for the shortest ones."""
    shapes = set()
    for seed in range(40):
        batch = sampled(segments, Draw(labels=600, length=None, unrewarded=0.0), seed)
        length = batch.weight.shape[1]
        shapes.add(batch.weight.shape)
        lengths = batch.window.mask.sum(axis=1)
        assert len(lengths) == 600 // length
        assert set(lengths) <= set(table.length)
        assert (lengths <= length).all()
        assert (lengths > length / 2).all() or length == SHORTEST
        assert np.isnan(batch.window.reward[:, 0]).all()  # they begin at the beginning
    assert {length for _, length in shapes} == {50, 100, 140}


def test_emphasized_tasks_have_their_share_of_every_batch(table):
    draw = Draw(labels=20_000, length=10, unrewarded=0.0)

    def share(tasks, **emphasis):
        found = Segments(table, STATE_INDEX, **emphasis)
        chosen = np.isin(table.tasks, tasks)
        return found.chance[chosen].sum() / found.chance.sum(), sampled(found, draw)

    new = ("toy-turn",)
    assert share(new, emphasized=new, share=0.5)[0] == pytest.approx(0.5)
    assert share(new, emphasized=new, share=0.05)[0] == pytest.approx(0.05)
    natural = table.length[-1] / table.length.sum()
    for emphasis in ({}, {"emphasized": new}, {"emphasized": tuple(LENGTHS), "share": 0.5}):
        assert share(new, **emphasis)[0] == pytest.approx(natural)
    drawn = share(new, emphasized=new, share=0.5)[1]
    mine = {state.tobytes() for state in table[len(table) - 1].obs[:, list(STATE_INDEX)]}
    assert np.mean([s[0].tobytes() in mine for s in drawn.window.state]) == pytest.approx(0.5, abs=0.04)


def test_the_random_phase_is_not_judged(table):
    random = EpisodeTable([Shard.of([an_episode("toy-reach", 30, phase="random")])])
    assert played(EpisodeTable.join([random, table])).about == table.about
    assert len(played(random)) == 1  # better than nothing
