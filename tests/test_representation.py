"""Laws of the objectives, of what is drawn, and of training."""

import json
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drawn
from collectiverl.representation import losses, objective
from collectiverl.representation import train as training
from collectiverl.representation.batches import draw, fit_scales, pack
from collectiverl.representation.objective import ObjectiveConfig
from collectiverl.representation.scales import Standard
from collectiverl.representation.train import TransformerConfig, train
from collectiverl.types import UserError
from toy_buffers import CONFIG, SMALL, STATE_INDEX, any_encoder, buffers
from training import same

Z = np.array([[1, 0], [0, 2], [3, 0], [0, 1]], np.float32)  # two pairs: rows 0 and 2, 1 and 3
PAIRS = np.roll(np.eye(4, dtype=bool), 2, axis=1)
BUFFER = np.array([0, 1, 0, 1])
info_nce = jax.jit(losses.info_nce, static_argnums=(3, 4))
corrupt = jax.jit(losses.corrupt)


# -- objectives --------------------------------------------------------------------------------------------


def test_info_nce_by_hand():
    """Cosines are 1 in a pair and 0 across; each of the two negatives weighs exp(0)."""
    expected = np.log(np.exp(1 / 0.5) + 2) - 1 / 0.5
    for negatives in ("buffers", "all"):
        assert info_nce(Z, PAIRS, BUFFER, 0.5, negatives) == pytest.approx(expected, rel=1e-5)


def test_windows_of_the_same_buffer_are_no_negatives_unless_asked_for():
    z = np.concatenate([Z, Z])
    buffer = np.array([0, 1, 0, 1, 2, 3, 2, 3])
    pairs = np.zeros((8, 8), bool)
    pairs[0, 1] = True  # one pair to look at: anchor 0, positive 1

    def alone(b):
        return info_nce(z, pairs, b, 0.5, "buffers")

    alike = np.where(
        np.isin(np.arange(8), (4, 6)), 0, buffer
    )  # windows 4 and 6 now are of the anchor's buffer
    cosine = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])  # of the anchor with each

    def by_hand(others):
        return np.log(np.exp(2 * cosine[[1, *others]]).sum()) - 2 * cosine[1]

    assert alone(buffer) == pytest.approx(by_hand([1, 3, 4, 5, 6, 7]), rel=1e-5)
    assert alone(alike) == pytest.approx(by_hand([1, 3, 5, 7]), rel=1e-5)
    assert info_nce(z, pairs, alike, 0.5, "all") == pytest.approx(by_hand([2, 3, 4, 5, 6, 7]), rel=1e-5)


def test_names_of_buffers_do_not_matter():
    renamed = info_nce(Z, PAIRS, np.array([7, 3, 7, 3]), 0.5, "buffers")
    assert renamed == info_nce(Z, PAIRS, BUFFER, 0.5, "buffers")


def test_one_buffer_alone_has_nothing_to_learn_from_and_breaks_nothing():
    slope = jax.jit(jax.value_and_grad(losses.info_nce), static_argnums=(3, 4))
    value, grad = slope(Z, PAIRS, np.zeros(4, int), 0.5, "buffers")
    assert value == 0
    np.testing.assert_array_equal(grad, np.zeros_like(Z))


def a_standard(batch=400, length=10, offset=0.0) -> Standard:
    rng = np.random.default_rng(0)

    def column(size):
        return rng.normal(offset, 1, (length, batch, size)).astype(np.float32)

    mask = np.tile(np.arange(length)[:, None] >= 4, batch)
    known = (mask & (np.arange(length)[:, None] != 6))[..., None].astype(np.float32)
    columns = column(3), column(3), column(2), column(2), column(1), column(4), known, mask
    return Standard(*map(jnp.asarray, columns))


def test_masking_is_berts():
    windows, others = a_standard(), a_standard(offset=100.0)
    found = corrupt(windows, others, jax.random.key(0))
    (hidden, places), windows, others = jax.tree.map(np.asarray, (found, windows, others))
    assert not places[:, :4].any()
    assert not places[1, 6].any()  # a reward that is unknown cannot be asked for
    assert float(places[::2, 4:].mean()) == pytest.approx(
        0.15, abs=0.04
    )  # steps of a span are not independent
    state = places[2]
    kept = (hidden.state == windows.state).all(axis=-1)
    assert kept[~state].all()
    of_masked = [(hidden.state == x).all(axis=-1)[state].mean() for x in (0.0, others.state, windows.state)]
    np.testing.assert_allclose(of_masked, [0.8, 0.1, 0.1], atol=0.06)


@pytest.mark.parametrize(("row", "change"), [(2, "change"), (1, "reward_change")])
def test_what_is_masked_cannot_be_read_from_the_changes_beside_it(row, change):
    windows = a_standard()
    hidden, places = corrupt(windows, windows, jax.random.key(0))
    masked = np.asarray(places[row])
    before = np.roll(masked, 1, axis=0)
    shown = np.asarray((getattr(hidden, change) != 0).any(axis=-1))
    np.testing.assert_array_equal(shown, ~masked & ~before)


def test_a_masked_state_cannot_be_read_from_its_differences():
    windows = a_standard()
    hidden, places = corrupt(windows, windows, jax.random.key(0))
    shown = np.asarray((hidden.difference != 0).any(axis=-1))
    np.testing.assert_array_equal(shown, ~np.asarray(places[2]))


def test_reconstruction_counts_masked_places_only():
    truth = tuple(np.zeros((2, 1, size), np.float32) for size in (2, 1, 3))
    guess = tuple(part + 1 + i for i, part in enumerate(truth))
    places = np.array([[True, False], [False, False], [True, True]])[..., None]
    errors = jax.jit(losses.reconstruction_errors)(guess, truth, places)
    np.testing.assert_array_equal(errors, [1, 0, 9])


def test_collapse_shows():
    spread = jax.jit(losses.spread)
    same = spread(np.ones((10, 3), np.float32))
    assert same["z/std"] == 0
    line = spread(np.tile(np.arange(10, dtype=np.float32)[:, None], 3))
    assert line["z/dimensions"] == pytest.approx(1, rel=1e-4)


# -- what is drawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("positives", ["views", "episode", "buffer"])
def test_pairs_are_what_they_are_called(positives):
    data = pack(buffers()[0], STATE_INDEX)
    chosen = draw(data, np.random.default_rng(0), 200, 20, 0.25, positives)
    one, other = ({k: v[s] for k, v in chosen._asdict().items()} for s in (slice(200), slice(200, None)))

    def same(name):
        return float(np.mean(one[name] == other[name]))

    assert same("buffer") == same("positive_group") == 1
    assert (same("first") == 1) is (positives != "buffer")
    assert (same("end") == 1) is (positives == "views")
    assert len(np.unique(chosen.positive_group)) == {"views": 200, "buffer": 4}.get(
        positives, len(np.unique(chosen.first))
    )


def test_windows_are_of_every_length_and_stay_in_their_episode():
    data = pack(buffers()[0], STATE_INDEX)
    chosen = draw(data, np.random.default_rng(0), 2000, 20, 0.25, "buffer")
    length = dict(zip(data.first, data.length, strict=True))
    step = chosen.end - chosen.first
    assert (step >= 0).all()
    assert all(s <= length[f] for s, f in zip(step, chosen.first, strict=True))
    assert (chosen.other > chosen.first).all()
    assert set(np.minimum(step + 1, chosen.context)) == set(range(1, 21))


def test_an_empty_buffer_is_refused():
    with pytest.raises(UserError, match="without episodes"):
        pack([buffers()[0][0].subset([])], STATE_INDEX)


# -- training ----------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    config = replace(CONFIG, updates=240, validation_every=60, warmup=20)

    def kill(done, total, note):
        if done == 120:  # the last checkpoint is of update 100
            raise Killed

    def run(name, report):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return train(*buffers(), config, state_index=STATE_INDEX, seed=0, work=folder, report=report)

    with pytest.raises(Killed):
        run("killed", kill)
    done = []
    resumed = run("killed", lambda step, total, note: done.append(step))
    assert done == [120, 180, 240]
    assert same(resumed, run("whole", lambda step, total, note: None))
    log = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [60, 120, 180, 240]


def test_a_training_that_diverges_stops_by_name(tmp_path, monkeypatch):
    real = training.update

    def update(*args):
        state, metrics = real(*args)
        return state, metrics | {"loss": np.float32(np.nan)}

    monkeypatch.setattr(training, "update", update)
    with pytest.raises(FloatingPointError, match=r"train\.loss is not finite after 100 updates"):
        train(*buffers(), CONFIG, state_index=STATE_INDEX, seed=0, work=tmp_path)


def test_the_optional_objectives_reach_the_encoder():
    data = pack(buffers()[0], STATE_INDEX)
    config = ObjectiveConfig(
        reconstruction=0.0, info_nce=0.0, bottleneck=1.0, supervised=1.0, positives="views"
    )
    encoder = any_encoder(SMALL)
    model = drawn.module(objective.init_model, encoder, config, 2, 4)
    model = eqx.tree_at(lambda m: m.encoder, model, encoder)
    load = eqx.filter_jit(objective.load)
    batch = load(encoder, data.rows, draw(data, np.random.default_rng(0), 8, 20, 0.5, "views"), 20)

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def grad(model: Any):
        return objective.loss(model, batch, jax.random.key(2), config, dropout=False)

    grads, metrics = grad(model)
    assert {"bottleneck", "supervised", "reconstruction", "info_nce"} <= metrics.keys()
    assert float(metrics["loss"]) == pytest.approx(float(metrics["bottleneck"] + metrics["supervised"]))
    assert np.abs(grads.encoder.tokens.embed.weight).max() > 0
    assert not any(np.abs(leaf).max() for leaf in jax.tree.leaves(grads.encoder.scales))


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ({"updates": 0}, "updates: 0"),
        ({"updates": 105, "validation_every": 10}, "updates: 105 is not a multiple"),
        ({"batch_size": 7}, "batch-size: 7"),
        ({"prefix_fraction": 1.5}, "prefix-fraction: 1.5"),
        ({"warmup": 5_000}, "warmup: 5000"),
        ({"learning_rate": 0.0}, "learning-rate: 0.0"),
    ],
)
def test_nonsense_is_refused_by_name(setting, flag):
    with pytest.raises(ValueError, match=flag):
        replace(TransformerConfig(), **setting)


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ({"temperature": 0.0}, "temperature: 0.0"),
        ({"info_nce": -1.0}, "info-nce: -1.0"),
        ({"reconstruction": 0.0, "info_nce": 0.0}, "nothing would be learned"),
    ],
)
def test_a_senseless_objective_is_refused_by_name(setting, flag):
    with pytest.raises(ValueError, match=flag):
        ObjectiveConfig(**setting)


def test_the_frozen_statistics_stay_what_the_data_say():
    config = replace(CONFIG, updates=20, validation_every=20, warmup=10)
    encoder = train(*buffers(), config, state_index=STATE_INDEX, seed=0)
    assert same(encoder.scales, fit_scales(pack(buffers()[0], STATE_INDEX)))
