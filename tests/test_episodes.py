"""Episodes on disk: they come back as they were, and windows of them are what a plain loop would cut."""

import json
import resource
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from collectiverl.data.episodes import SHARD_SIZE, EpisodeTable, Shard, paths, relabel, write
from collectiverl.types import Episode, Labels, UserError, ValueUnit

O, A = 5, 2  # noqa: E741
STATE_INDEX = (0, 3)
UNIT = ValueUnit(reward_scale=0.1, gamma=0.97)


def an_episode(rng, steps, q=True, labelled=True, **about):
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    labels = None
    if labelled:
        labels = Labels(normal(steps, A), normal(steps, A), normal(steps) if q else None, UNIT if q else None)
    about = {"task": "toy-reach", "phase": "random", "seed": 3, "goal": -1, "terminated": False} | about
    return Episode(
        obs=normal(steps + 1, O),
        action=normal(steps, A),
        reward=normal(steps),
        success=rng.random(steps) < 0.5,
        labels=labels,
        **about,
    )


def some_episodes(count=7, **kwargs):
    rng = np.random.default_rng(0)
    return [an_episode(rng, int(rng.integers(1, 9)), goal=i, **kwargs) for i in range(count)]


def assert_same(one, two):
    for name in ("obs", "action", "reward", "success"):
        mine, other = getattr(one, name), getattr(two, name)
        assert mine.dtype == other.dtype
        assert np.array_equal(mine, other)
    about = ("task", "phase", "seed", "goal", "terminated")
    assert [getattr(one, name) for name in about] == [getattr(two, name) for name in about]
    assert (one.labels is None) == (two.labels is None)
    for mine, other in zip(one.labels or (), two.labels or (), strict=True):
        assert (mine is None and other is None) or np.array_equal(mine, other)


def assert_all_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("kwargs", [{}, {"q": False}, {"labelled": False}])
def test_episodes_come_back_as_they_were(tmp_path, kwargs):
    written = some_episodes(**kwargs)
    assert write(tmp_path, written) == len(written)
    assert_all_same(EpisodeTable.open(tmp_path), written)


def test_full_shards_are_written_whole_and_more_are_added_behind(tmp_path):
    written = some_episodes(2 * SHARD_SIZE + 1)
    write(tmp_path, written[: SHARD_SIZE + 1])
    assert [path.name for path in paths(tmp_path)] == ["episodes-00000.h5", "episodes-00001.h5"]
    write(tmp_path, written[SHARD_SIZE + 1 :])
    assert len(paths(tmp_path)) == 3
    assert_all_same(EpisodeTable.open(tmp_path), written)


def test_several_folders_are_one_table_and_a_subset_is_some_of_it(tmp_path):
    written = some_episodes(9)
    write(tmp_path / "a", written[:4])
    write(tmp_path / "b", written[4:])
    table = EpisodeTable.open(tmp_path / "a", tmp_path / "b")
    assert_all_same(table, written)
    subset = table.subset([6, 0, 3])
    assert_all_same(subset, [written[i] for i in (6, 0, 3)])
    assert_same(subset.subset([1])[0], written[0])
    assert subset.tasks == ["toy-reach"] * 3


def test_joined_tables_are_one_behind_the_other(tmp_path):
    written = some_episodes(9)
    write(tmp_path / "a", written[:5])
    tables = [EpisodeTable.open(tmp_path / "a").subset([4, 1]), EpisodeTable([Shard.of(written[5:])])]
    joined = EpisodeTable.join(tables)
    wanted = [written[i] for i in (4, 1, 5, 6, 7, 8)]
    assert_all_same(joined, wanted)
    assert np.array_equal(joined.column("reward"), np.concatenate([e.reward for e in wanted]))
    assert_all_same(joined.subset([5, 0]), [wanted[5], wanted[0]])


def test_what_is_read_survives_its_files(tmp_path):
    write(tmp_path, some_episodes())
    episodes = list(EpisodeTable.open(tmp_path))
    paths(tmp_path)[0].unlink()
    assert_all_same(episodes, some_episodes())


def test_a_column_holds_all_steps_in_order(tmp_path):
    written = some_episodes(SHARD_SIZE + 3)
    write(tmp_path, written)
    table = EpisodeTable.open(tmp_path)
    assert np.array_equal(table.column("reward"), np.concatenate([e.reward for e in written]))
    assert np.array_equal(table.column("teacher_q"), np.concatenate([e.labels.q for e in written]))


def test_a_missing_column_is_filled_or_refused(tmp_path):
    written = some_episodes(3, q=False)
    write(tmp_path, written)
    table = EpisodeTable.open(tmp_path)
    filled = table.column("teacher_q", missing=np.nan)
    assert np.isnan(filled).all()
    assert len(filled) == sum(map(len, written))
    with pytest.raises(UserError, match="no teacher_q: label them"):
        table.column("teacher_q")


def test_what_some_episodes_of_a_shard_lack_is_not_dropped_in_silence(tmp_path):
    mixed = some_episodes(2) + some_episodes(2, q=False)
    with pytest.raises(ValueError, match="all labels of a shard have q, or none"):
        write(tmp_path, mixed)
    with pytest.raises(ValueError, match="either all episodes of a shard are labelled, or none"):
        write(tmp_path, some_episodes(2) + some_episodes(2, labelled=False))
    assert not paths(tmp_path)


# -- the unit of values ------------------------------------------------------------------------------------


def of_task(task, unit):
    return [replace(e, task=task, labels=e.labels and e.labels._replace(unit=unit)) for e in some_episodes(2)]


def test_the_unit_of_values_travels_with_the_episodes(tmp_path):
    write(tmp_path / "labelled", some_episodes())
    write(tmp_path / "unlabelled", some_episodes(labelled=False))
    table = EpisodeTable.open(tmp_path / "labelled")
    assert all(episode.labels.unit == UNIT for episode in table)
    assert table.value_unit() == UNIT
    assert EpisodeTable.open(tmp_path / "unlabelled").value_unit() is None
    assert EpisodeTable.open(tmp_path / "labelled", tmp_path / "unlabelled").value_unit() == UNIT
    assert EpisodeTable([Shard.of(some_episodes())]).value_unit() == UNIT


def test_files_written_before_units_were_stored_have_none(tmp_path):
    write(tmp_path, some_episodes())
    [path] = paths(tmp_path)
    with h5py.File(path, "r+") as file:
        rows = json.loads(str(file.attrs["episodes"]))
        file.attrs["episodes"] = json.dumps([{k: row[k] for k in row if k != "value_unit"} for row in rows])
    table = EpisodeTable.open(tmp_path)
    assert table[0].labels.q is not None
    assert table[0].labels.unit is None
    assert table.value_unit() is None
    assert not np.isnan(table.values(UNIT)).any()


def test_values_of_another_unit_than_most_are_none(tmp_path):
    other = ValueUnit(1.0, 0.99)
    write(tmp_path, of_task("toy-reach", UNIT) + of_task("toy-mirror", other)[:1])
    table = EpisodeTable.open(tmp_path)
    assert table.value_unit() == UNIT
    mirrored = np.repeat([task == "toy-mirror" for task in table.tasks], table.length)
    assert mirrored.any()
    assert np.array_equal(np.isnan(table.values(UNIT)), mirrored)
    assert np.array_equal(table.values(UNIT)[~mirrored], table.column("teacher_q")[~mirrored])
    assert np.array_equal(np.isnan(table.values(other)), ~mirrored)
    assert table.subset(np.flatnonzero([task == "toy-mirror" for task in table.tasks])).value_unit() == other


# -- windows -----------------------------------------------------------------------------------------------


def window_by_hand(episode, end, size, context):
    """One step after the other, as a policy would see them come."""
    rows = []
    for at in range(end - size + 1, end + 1):
        if at < 0 or at <= end - context:
            rows.append((np.zeros(2), np.zeros(A), 0.0, False))
        else:
            led = (episode.action[at - 1], episode.reward[at - 1]) if at else (np.zeros(A), np.nan)
            rows.append((episode.obs[at][list(STATE_INDEX)], *led, True))
    return [np.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("shorten", [False, True])
def test_windows_are_what_a_plain_loop_would_cut(tmp_path, shorten):
    written = some_episodes(SHARD_SIZE + 9)
    write(tmp_path, written)
    table = EpisodeTable.open(tmp_path).subset(np.arange(len(written))[::-2])
    rng, size = np.random.default_rng(1), 4
    episode = rng.integers(0, len(table), 200)
    end = rng.integers(0, table.length[episode] + 1)
    context = rng.integers(1, size + 1, 200) if shorten else np.full(200, size)
    windows = table.windows(episode, end, size, STATE_INDEX, context if shorten else None)
    assert windows.state.dtype == windows.action.dtype == windows.reward.dtype == np.float32
    assert {0, 1} <= set(end)
    assert (end == table.length[episode]).any()
    for i in range(200):
        by_hand = window_by_hand(table[episode[i]], end[i], size, context[i])
        for mine, other in zip(windows, by_hand, strict=True):
            np.testing.assert_array_equal(mine[i], other)


# -- hidden entries ----------------------------------------------------------------------------------------


def test_hidden_entries_read_as_zero_everywhere(tmp_path):
    write(tmp_path, some_episodes(4))
    table, hidden = EpisodeTable.open(tmp_path), (1, 2)
    blind = table.hiding(hidden)
    places = np.array([0, 3]), np.array([1, 1])
    for shown, of in (
        (blind[1].obs, table[1].obs),
        (blind.subset([2, 1])[1].obs, table[1].obs),
        (EpisodeTable.join([blind, blind])[5].obs, table[1].obs),
        (blind.windows(*places, 2, range(O)).state, table.windows(*places, 2, range(O)).state),
    ):
        assert not shown[..., hidden].any()
        assert of[..., hidden].any()
        left = np.delete(np.arange(O), hidden)
        np.testing.assert_array_equal(shown[..., left], of[..., left])


def test_what_is_hidden_stays_hidden_when_tables_are_joined(tmp_path):
    write(tmp_path, some_episodes(2))
    table = EpisodeTable.open(tmp_path)
    with pytest.raises(ValueError, match="hide different entries"):
        EpisodeTable.join([table, table.hiding((1,))])
    once, twice = table.hiding((2, 1)), table.hiding((1,)).hiding((1, 2))
    assert len(EpisodeTable.join([once, twice])) == 2 * len(table)


# -- damaged and missing files -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_shard_is_named(tmp_path, share):
    write(tmp_path, some_episodes())
    path = paths(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"episodes-00000\.h5.*run its stage again"):
        EpisodeTable.open(tmp_path)


def test_a_folder_without_episodes_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no episodes in .*nothing"):
        EpisodeTable.open(tmp_path / "nothing")


def test_relabelling_replaces_the_labels_alone():
    before = some_episodes(2)
    labels = [Labels(e.action, e.action, None) for e in before]
    after = list(relabel(before, lambda e: Labels(e.action, e.action, None)))
    assert_all_same(after, [replace(e, labels=label) for e, label in zip(before, labels, strict=True)])


def opened(folder, soft, hard):
    """What a process says that opens the episodes of a folder, and may open no more files than this."""
    program = (
        "import resource, sys; from pathlib import Path; from collectiverl.data.episodes import EpisodeTable\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        f"try: print(len(EpisodeTable.open(Path({str(folder)!r}))))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_a_shard_holds_one_file_open_and_too_few_files_are_not_said_to_be_damage(tmp_path):
    shards = 60
    for _ in range(shards):
        write(tmp_path, some_episodes(1))
    assert opened(tmp_path, soft=2 * shards, hard=2 * shards) == f"{shards}\n"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert (
        opened(tmp_path, soft=shards // 2, hard=hard) == f"{shards}\n"
    )  # the limit is raised where it may be
    said = opened(tmp_path, soft=shards // 2, hard=shards // 2)
    assert said.startswith("NotRead")
    assert "ulimit -n" in said
    assert "delete" not in said
