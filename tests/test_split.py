"""The split: whole episodes, every phase on both sides, and no goal on both where goals are held out."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectiverl.data.split import MIN_GOALS, split
from collectiverl.types import PHASES, ConfigError

FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**31)
FRESH = st.lists(st.fixed_dictionaries({"phase": st.sampled_from(PHASES), "goal": st.just(-1)}), max_size=60)
FIXED = st.lists(
    st.fixed_dictionaries({"phase": st.sampled_from(PHASES), "goal": st.integers(0, 30)}), max_size=60
)


@given(about=FRESH | FIXED, fraction=FRACTIONS, seed=SEEDS)
def test_every_episode_is_on_one_side(about, fraction, seed):
    train, validation = split(about, fraction=fraction, seed=seed)
    assert sorted(train + validation) == list(range(len(about)))
    assert (train, validation) == split(about, fraction=fraction, seed=seed)


@given(about=FRESH, fraction=FRACTIONS, seed=SEEDS)
def test_each_phase_is_split_by_itself(about, fraction, seed):
    train, validation = split(about, fraction=fraction, seed=seed)
    of_train, of_validation = (Counter(about[i]["phase"] for i in side) for side in (train, validation))
    for phase, count in Counter(row["phase"] for row in about).items():
        if count >= 2:
            assert of_train[phase] >= 1
            assert of_validation[phase] >= 1
            assert abs(of_validation[phase] - fraction * count) <= 1
        else:
            assert of_validation[phase] == 0


@settings(max_examples=200)
@given(about=FIXED, fraction=FRACTIONS, seed=SEEDS)
def test_many_fixed_goals_are_on_one_side_each(about, fraction, seed):
    if len({row["goal"] for row in about}) < MIN_GOALS:
        return
    train, validation = split(about, fraction=fraction, seed=seed)
    assert train
    assert validation
    assert not {about[i]["goal"] for i in train} & {about[i]["goal"] for i in validation}


ROUNDS = st.lists(
    st.fixed_dictionaries({"phase": st.sampled_from(PHASES), "goal": st.just(-1), "seed": st.integers(0, 3)}),
    max_size=60,
)


@given(earlier=ROUNDS, fraction=FRACTIONS, seed=SEEDS, rounds=st.sets(st.integers(0, 3)))
def test_what_comes_later_moves_no_episode_to_the_other_side(earlier, fraction, seed, rounds):
    about = sorted(earlier, key=lambda row: row["seed"] in rounds)  # these rounds come last
    first = [row for row in about if row["seed"] not in rounds]
    _, validation = split(first, fraction=fraction, seed=seed)
    _, of_all = split(about, fraction=fraction, seed=seed)
    assert validation == [i for i in of_all if i < len(first)]


def test_few_fixed_goals_are_not_held_out():
    about = [{"phase": "expert", "goal": i % 3} for i in range(30)]
    train, validation = split(about, fraction=0.2, seed=0)
    assert len(validation) == 6
    assert {about[i]["goal"] for i in train} == {0, 1, 2}


def test_another_seed_is_another_split():
    about = [{"phase": "expert", "goal": -1}] * 30
    assert split(about, fraction=0.5, seed=0) != split(about, fraction=0.5, seed=1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"^fraction: .* is not between 0 and 1"):
        split([], fraction=fraction, seed=0)
