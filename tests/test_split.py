"""The split: whole episodes, and every phase on both sides."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectiverl.data.split import split
from collectiverl.types import PHASES, ConfigError

FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**31)
FRESH = st.lists(st.fixed_dictionaries({"phase": st.sampled_from(PHASES), "goal": st.just(-1)}), max_size=60)


@given(about=FRESH, fraction=FRACTIONS, seed=SEEDS)
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


def test_another_seed_is_another_split():
    about = [{"phase": "expert", "goal": -1}] * 30
    assert split(about, fraction=0.5, seed=0) != split(about, fraction=0.5, seed=1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"^fraction: .* is not between 0 and 1"):
        split([], fraction=fraction, seed=0)
