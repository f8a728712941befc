"""The judge: numbers that can be told beforehand, and a whole report on a trained encoder."""

import contextlib
import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from collectiverl.artifacts import paths, sealed
from collectiverl.artifacts.paths import TRANSFORMER
from collectiverl.cli.progress import console
from collectiverl.collective.policy import save_collective
from collectiverl.data.episodes import EpisodeTable, Shard, write
from collectiverl.reporting.probe import probe_tables
from collectiverl.representation import samples
from collectiverl.representation.agreement import agreement, k_means, mixture
from collectiverl.representation.clusters import Clusters, fit_clusters
from collectiverl.representation.encoder import save_encoder
from collectiverl.representation.goals import probe_goals
from collectiverl.representation.linear import confusion, most_confused, predict_tasks
from collectiverl.representation.probe import probe
from collectiverl.representation.scales import REWARD_INPUTS
from collectiverl.representation.updates import TransformerConfig
from collectiverl.stages import representation
from collectiverl.stages.base import execute
from collectiverl.stages.representation import (
    GOALS_PICTURE,
    PICTURES,
    Probe,
    TrainTransformer,
    probe_stage,
    train_transformer_stage,
    trajectory_transformer,
)
from collectiverl.types import UserError
from toy_buffers import (
    COLLECTIVE,
    OWN,
    SMALL,
    SPEC,
    STATE_INDEX,
    any_collective,
    any_encoder,
    buffers,
    trained,
)


def blobs(rng, per_blob=60):
    """Four clouds far apart, and the number of each."""
    centres = 10 * np.eye(4)
    label = np.repeat(np.arange(4), per_blob)
    return (centres[label] + rng.normal(size=(len(label), 4))).astype(np.float32), label


def test_a_linear_probe_separates_blobs_and_not_noise():
    rng = np.random.default_rng(0)
    x, label = blobs(rng)
    label = np.array(list("abcd"))[label]
    found = predict_tasks(x, label, blobs(rng)[0])
    assert (found == label).all()
    assert confusion(label, found, list("dbca")) == np.eye(4).tolist()
    noise = rng.normal(size=x.shape)
    assert np.mean(predict_tasks(noise, label, rng.normal(size=x.shape)) == label) < 0.5
    assert (predict_tasks(x[:60], label[:60], x) == label[0]).all()  # one task alone


def test_confusions_are_shares_of_the_rows_of_each_task():
    task, found = np.array(["b", "b", "b", "b", "a", "a"]), np.array(["b", "a", "c", "a", "a", "a"])
    names = ["b", "a", "c"]  # the run's order, not the alphabet's
    matrix = confusion(task, found, names)
    assert matrix == [[0.25, 0.5, 0.25], [0, 1, 0], [0, 0, 0]]  # nothing of c
    counts = metrics.confusion_matrix(task, found, labels=names)
    np.testing.assert_allclose(np.asarray(matrix[:2]), counts[:2] / counts[:2].sum(axis=1, keepdims=True))
    assert most_confused(names, {"1": matrix, "5": np.eye(3).tolist()}, most=1) == [
        {"task": "b", "taken_for": "a", "share": {"1": 0.5, "5": 0.0}}
    ]
    assert most_confused(names, {"1": np.eye(3).tolist()}) == []


def test_agreement_is_what_counting_says():
    rng = np.random.default_rng(0)
    task = rng.choice(["a", "b", "c"], 80)
    found = np.where(rng.random(80) < 0.6, np.searchsorted(["a", "b", "c"], task), rng.integers(0, 5, 80))
    purity = sum(max(np.sum(task[found == c] == t) for t in "abc") for c in range(5)) / 80
    assert agreement(found, task)["purity"] == purity
    names = agreement(found, task)
    assert names == agreement((found + 2) % 5, task)  # what a cluster is called says nothing
    perfect = agreement(np.searchsorted(["a", "b", "c"], task), task)
    np.testing.assert_allclose(list(perfect.values()), 1)


def test_clusters_of_blobs_agree_with_them():
    x, label = blobs(np.random.default_rng(0))
    found = k_means(x, label, seed=0)
    assert found["nmi"] == found["ari"] == found["purity"] == 1
    assert found["silhouette"] == pytest.approx(metrics.silhouette_score(x, label))
    numbers, cluster = mixture(x, label, seed=0)
    assert numbers == {"nmi": 1, "ari": 1, "purity": 1, "clusters": 4}
    assert len(set(zip(cluster.tolist(), label.tolist(), strict=True))) == 4


def test_a_raw_window_holds_every_step_that_was_seen():
    encoder, (_, tables) = any_encoder(SMALL), buffers()
    side = samples.side_of(tables, STATE_INDEX)
    sample = samples.at_start(side, 3, np.random.default_rng(0))
    seen = samples.whole_windows(encoder, side.data, sample).reshape(len(sample.end), 3, -1)
    actions = 2
    own = np.asarray(side.data.rows.action)[sample.first[:, None] + np.arange(3)]
    np.testing.assert_allclose(seen[..., :actions], own, rtol=1e-6)
    before = actions + REWARD_INPUTS
    states = seen[:, -1, before : before + len(STATE_INDEX)]
    np.testing.assert_allclose(states, samples.last_states(encoder, side.data, sample), rtol=1e-5)


def test_the_mixture_finds_how_many_clusters_there_are():
    x, label = blobs(np.random.default_rng(0))
    clusters = fit_clusters(x, most=12, seed=0)
    assert clusters.mean.shape == (4, 4)
    snapped = np.asarray(jax.vmap(clusters)(x))
    for blob in range(4):
        own = snapped[label == blob]
        assert (own == own[0]).all()
        np.testing.assert_allclose(own[0], x[label == blob].mean(axis=0), atol=0.2)


def test_the_likelihood_of_a_cluster_by_hand():
    roots = jnp.array([[[1.0]], [[0.5]]])  # sigma 1 and 2
    clusters = Clusters(jnp.log(jnp.array([0.5, 0.5])), jnp.zeros((2, 1)), roots)
    found = clusters.log_likelihood(jnp.array([2.0]))

    def normal(sigma):
        return np.log(0.5) - np.log(sigma) - 0.5 * (2 / sigma) ** 2

    np.testing.assert_allclose(found, [normal(1), normal(2)], rtol=1e-6)
    assert clusters.index(jnp.array([2.0])) == 1
    assert clusters.index(jnp.array([0.5])) == 0


@pytest.fixture(scope="module")
def judged():
    """Of a trained encoder: the report, and the points that are drawn."""
    return probe(trained()[0], *buffers(), STATE_INDEX, seed=0)


def test_the_losses_of_held_out_episodes_fall():
    _, log = trained()
    assert log[-1]["validation/loss"] < 0.9 * log[0]["validation/loss"]
    assert log[-1]["validation/info_nce"] < 0.99 * log[0]["validation/info_nce"]


def test_the_trajectory_tells_the_task_and_the_state_does_not(judged):
    found, points = judged
    assert json.loads(json.dumps(found)) == found
    assert list(found["linear_probe"]) == ["1", "2", "3", "5", "10", "20", "anywhere"]
    assert found["linear_probe"]["20"] > 0.6  # after a short training; chance is 0.25
    assert found["linear_probe"]["1"] < 0.5
    assert max(found["raw"]["linear_probe"].values()) < 0.6
    assert found["raw_window"]["linear_probe"].keys() == found["linear_probe"].keys()
    assert found["clustering"]["nmi"] > 0.2 > found["raw"]["clustering"]["nmi"]
    assert found["raw"]["clustering"]["mixture"]["clusters"] >= 1
    assert found["reconstruction"]["masked_state"] < 0.5  # of the variance
    assert found["reconstruction"]["masked"] < found["reconstruction"]["copied"]
    assert found["z"]["z/std"] > 0.2
    sides = [{(row["task"], row["goal"]) for t in tables for row in t.about} for tables in buffers()]
    assert found["episodes"]["goals_on_both_sides"] == len(sides[0] & sides[1])
    assert (points.step >= 0).all()
    assert len(points.z) == len(points.task) == len(points.reward) == len(points.cluster)


def test_the_matrices_explain_the_accuracy(judged):
    found, _ = judged
    for length, matrix in found["confusion"].items():
        np.testing.assert_allclose(np.sum(matrix, axis=1), 1, atol=1e-3)
        if length != "anywhere":  # there all tasks have as many windows
            assert np.mean(np.diagonal(matrix)) == pytest.approx(found["linear_probe"][length], abs=1e-3)
    worst = found["most_confused"][0]
    row, column = (found["task_names"].index(worst[name]) for name in ("task", "taken_for"))
    assert worst["share"]["1"] == found["confusion"]["1"][row][column] > worst["share"]["20"]
    with console.capture() as shown:
        console.print(*probe_tables(found), sep="")
    assert "raw window" in shown.get()
    assert f"{worst['share']['1']:.0%}" in shown.get()


def told(table):
    """An embedding that holds the goal from the fifth step on, under a rotation and beside noise."""
    rng = np.random.default_rng(len(table))
    rows = []
    for episode in table:
        goal = episode.obs[:-1, SPEC.goal_index] @ np.array([[0.6, 0.8], [-0.8, 0.6]])
        known = np.arange(len(goal)) >= 4
        noise = rng.normal(size=(len(goal), 3))
        rows.append(np.concatenate([np.where(known[:, None], goal, noise[:, :2]), noise[:, 2:]], axis=1))
    return np.concatenate(rows)


def test_a_goal_is_decoded_from_where_it_is_in_z_and_from_nowhere_else():
    goals, course = probe_goals(told, *buffers(), SPEC)
    assert set(goals) == set(TASKS)
    for found in goals.values():
        assert list(found["error"]) == ["1", "2", "5", "10", "20"]
        assert found["error"]["20"] < 0.01 < 0.3 < found["chance"]
        assert found["error"]["2"] > 0.7 * found["chance"]
    assert course.task == TASKS[0]
    assert course.hand.shape == course.decoded.shape == (SPEC.horizon, 2)
    np.testing.assert_allclose(
        course.decoded[4:], np.tile(course.goal, (len(course.decoded) - 4, 1)), atol=0.02
    )
    assert json.loads(json.dumps(goals)) == goals


def test_a_goal_that_never_differs_is_not_looked_for():
    def fixed(table):
        return EpisodeTable([Shard.of([replace(e, obs=np.where(GOAL, 0.5, e.obs)) for e in table])])

    tables = [[fixed(table) for table in side[:1]] for side in buffers()]
    assert probe_goals(told, *tables, SPEC) == ({}, None)
    few = [[table.subset(range(5)) for table in side] for side in buffers()]
    assert probe_goals(told, *few, SPEC) == ({}, None)
    assert probe_goals(told, *buffers(), replace(SPEC, goal_index=())) == ({}, None)


GOAL = np.isin(np.arange(SPEC.obs_dim), SPEC.goal_index)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with both buffers of two toy tasks, and an encoder that is not the run's own."""
    root = tmp_path_factory.mktemp("runs") / "toy"
    for training, validation in zip(*buffers(), strict=True):
        for kind in ("buffer_distill", "online_buffer"):
            out = root / paths.buffer(kind, training.tasks[0], 0)
            with sealed.stage(out, name="split", config={}, inputs={}) as folder:
                write(folder / "train", training)
                write(folder / "validation", validation)
    with sealed.stage(root / "refreshed", name="refresh", config={}, inputs={}) as folder:
        save_encoder(folder, any_encoder(SMALL), SMALL)
    return root


TASKS = tuple(table.tasks[0] for table in buffers()[0])


def test_another_encoder_and_another_buffer_are_judged_in_their_place(run, monkeypatch):
    """Twice the same, and so deterministic; of few windows, which is enough for that."""
    monkeypatch.setattr(samples, "MOST", 200)
    stage = probe_stage(Probe(tasks=TASKS, encoder="refreshed", buffer="online_buffer"), 0)
    assert set(stage.inputs) == {"refreshed", *(f"online_buffer/{task}/seed_0" for task in TASKS)}
    found = execute(run, stage)
    expected, _ = probe(any_encoder(SMALL), *buffers(), STATE_INDEX, seed=0)
    expected |= {"goals": found["goals"]}
    assert set(found["goals"]) == set(TASKS)
    assert found == {"encoder": "refreshed", "buffer": "online_buffer", **expected}
    assert stage.out != paths.probe(TRANSFORMER, "buffer_distill")  # that one stays beside it
    files = sealed.verify(run / stage.out)["files"]
    for picture in (*PICTURES.values(), GOALS_PICTURE):
        assert picture in files
        assert (run / stage.out / picture).read_bytes().startswith(b"\x89PNG")


def test_a_collective_from_which_goals_are_hidden_is_judged_without_them(run, monkeypatch):
    judged = {}

    def probe(encoder, training, validation, state_index, seed):
        judged.update(encoder=encoder, tables=(*training, *validation))
        raise Judged

    monkeypatch.setattr("collectiverl.representation.probe.probe", probe)
    for name, hidden in (("blind", True), ("seeing", False)):
        with sealed.stage(run / name, name="distill-collective", config={}, inputs={}) as folder:
            save_collective(folder, any_collective(goals_hidden=hidden), COLLECTIVE.sac, OWN)
        with pytest.raises(Judged):
            execute(run, probe_stage(Probe(tasks=TASKS, encoder=name), 0))
        assert judged["encoder"].window == OWN.window
        shown = [table[0].obs[:, SPEC.goal_index].any() for table in judged["tables"]]
        assert any(shown) is not hidden


class Judged(Exception):
    pass


@pytest.mark.parametrize("hidden", [True, False])
def test_a_transformer_sees_what_its_collective_sees(run, tmp_path, monkeypatch, hidden):
    """It is trained without goals for a collective that does not see them, judged so, and given to no other."""
    run, seen = shutil.copytree(run, tmp_path / "run"), []

    def train(training, validation, config, **_):
        seen.extend((*training, *validation))
        return any_encoder(SMALL)

    monkeypatch.setattr(representation, "train", train)
    small = TransformerConfig(encoder=SMALL)
    execute(
        run, train_transformer_stage(TrainTransformer(tasks=TASKS, goals_hidden=hidden, transformer=small), 0)
    )
    assert any(table[0].obs[:, SPEC.goal_index].any() for table in seen) is not hidden
    assert trajectory_transformer(run, goals_hidden=hidden)[1] == SMALL
    with pytest.raises(UserError, match=r"train-transformer --.*goals-hidden --overwrite"):
        trajectory_transformer(run, goals_hidden=not hidden)
    judged = []
    monkeypatch.setattr(
        "collectiverl.representation.probe.probe", lambda *found, **_: judged.extend(found[1])
    )
    with contextlib.suppress(TypeError):  # nothing was found
        execute(run, probe_stage(Probe(tasks=TASKS, encoder=TRANSFORMER, buffer="buffer_distill"), 0))
    assert any(table[0].obs[:, SPEC.goal_index].any() for table in judged) is not hidden


def test_an_encoder_that_is_not_there_is_asked_for(run):
    with pytest.raises(UserError, match="train-transformer"):
        execute(run, probe_stage(Probe(tasks=TASKS, encoder=TRANSFORMER), 0))
    with pytest.raises(UserError, match="holds no encoder"):
        execute(run, probe_stage(Probe(tasks=TASKS, encoder=paths.buffer("online_buffer", TASKS[0], 0)), 0))
