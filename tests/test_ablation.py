"""The ablation: every row differs from the run in one thing; a row collects, distils and plays; and its stages."""

from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from collectiverl.artifacts import paths, sealed
from collectiverl.collective.conditioning import ConditioningName
from collectiverl.collective.policy import load_collective, save_collective
from collectiverl.data.episodes import write
from collectiverl.envs.tasks import resolve
from collectiverl.pipeline import plan
from collectiverl.pipeline.plan import unfinished
from collectiverl.pipeline.presets import smoke
from collectiverl.stages.ablation import Ablation, ablation_stage, judged, play
from collectiverl.stages.base import execute, input_hashes
from collectiverl.stages.collective import DistillCollective, distill_collective_stage
from collectiverl.studies.ablation import GROUPS, AblationConfig, chosen, rows, stages
from collectiverl.types import ConfigError, UserError
from toy_buffers import COLLECTIVE, OWN, any_collective, labelled
from training import same

TASKS = ("toy-reach", "toy-swap")
CONFIG = replace(
    smoke(),
    tasks=TASKS,
    teacher="scripted",
    online=replace(
        smoke().online,
        random_episodes=0,
        expert_episodes=4,
        learner_rounds=1,
        learner_episodes=4,
        first_updates=10,
        round_updates=10,
    ),
    collective=replace(COLLECTIVE, updates=10),
)
ROW = next(rows(CONFIG, AblationConfig(episodes=3), seed=0))


def differences(row: Ablation) -> set[str]:
    """What differs from the default row, by name."""
    fields = {"collective", "online", "goals_hidden", "fresh", "shuffled", "told"}
    return {name for name in fields if getattr(row, name) != getattr(ROW, name)}


def test_every_row_differs_from_the_run_in_one_thing():
    table = list(rows(CONFIG, AblationConfig(), seed=0))
    assert not differences(table[0])
    assert all(len(differences(row)) == 1 for row in table[1:] if row.group != "episodes")
    assert {row.group for row in table} == set(GROUPS)
    assert max(Counter((row.group, row.variant) for row in table).values()) == 1
    conditionings = {row.variant for row in table if row.group == "conditioning"} | {"own"}
    assert conditionings == {*get_args(ConditioningName), "shuffled"}


def test_on_few_episodes_encoders_differ_in_how_they_began_alone():
    table = chosen(CONFIG, AblationConfig(only=("episodes",)))
    for own, tuned in zip(table[::2], table[1::2], strict=True):
        assert own.variant.split("_")[1] == tuned.variant.split("_")[1] == str(own.online.expert_episodes)
        alike = replace(tuned.collective, conditioning="own")
        assert replace(tuned, variant=own.variant, collective=alike) == own
        assert tuned.collective.conditioning == "tuned"


def test_the_transformer_that_rows_read_is_made_first_and_is_as_large_as_the_collectives_encoder(tmp_path):
    reading = AblationConfig(rows=("tuned", "cls", "zeros"))
    every = stages(tmp_path, CONFIG, reading)
    kinds = [stage.kind for stage in every]
    assert kinds[-3:] == ["ablate"] * 3
    assert kinds.index("train-transformer") == kinds.index("ablate") - 1
    [transformer] = [stage for stage in every if stage.kind == "train-transformer"]
    assert transformer.config.transformer.encoder == CONFIG.collective.encoder
    assert {stage.kind for stage in stages(tmp_path, CONFIG, AblationConfig(rows=("zeros",)))} == {"ablate"}


READING = AblationConfig(rows=("tuned",))


def sealed_as(run, every):
    """Leaves folders in a run as if these stages had been done."""
    for stage in every:
        made = {"config": stage.settings, "inputs": input_hashes(run, stage), "format": stage.format}
        with sealed.stage(run / stage.out, name=stage.kind, **made) as folder:
            (folder / "made").write_text(stage.label)


@pytest.mark.parametrize("who", ["run", "ablate", "train-transformer"])
def test_a_transformer_that_is_there_goes_on_to_fit(who, tmp_path):
    config = CONFIG if who != "run" else replace(CONFIG, collective=replace(COLLECTIVE, conditioning="tuned"))
    before = [s for s in stages(tmp_path, config, READING) if s.kind != "ablate"]
    sealed_as(tmp_path, before if who == "ablate" else plan.trajectory_transformer(config))
    assert {s.kind for s in unfinished(tmp_path, stages(tmp_path, config, READING))} == {"ablate"}


def test_a_transformer_that_does_not_fit_is_refused(tmp_path):
    larger = replace(CONFIG, collective=replace(COLLECTIVE, encoder=replace(COLLECTIVE.encoder, z_dim=3)))
    sealed_as(tmp_path, [s for s in stages(tmp_path, larger, READING) if s.kind != "ablate"])
    with pytest.raises(UserError, match=r"trajectory_transformer was made with other settings"):
        unfinished(tmp_path, stages(tmp_path, CONFIG, READING))


def test_cloning_has_as_many_episodes_and_updates_as_the_run():
    def given(row):
        o, rounds = row.online, row.online.learner_rounds
        episodes = o.random_episodes + o.expert_episodes + rounds * o.learner_episodes
        return episodes, o.first_updates + rounds * o.round_updates

    table = {row.group: row for row in rows(CONFIG, AblationConfig(only=("default", "data")), seed=0)}
    assert given(table["data"]) == given(table["default"])
    assert table["data"].online.learner_rounds == 0 < table["default"].online.learner_rounds


def test_rows_are_chosen_by_group_and_name(tmp_path):
    found = chosen(CONFIG, AblationConfig(only=("window", "z"), rows=("window_5", "z_16"), seeds=2))
    assert [(row.variant, row.training_seed) for row in found] == [
        ("window_5", 0),
        ("z_16", 0),
        ("window_5", 1),
        ("z_16", 1),
    ]
    assert found[0].collective.encoder.window == 5
    every = stages(tmp_path, CONFIG, AblationConfig(seeds=2))
    assert len({stage.out for stage in every}) == len(every)
    assert len({repr(stage.settings) for stage in every}) == len(every)  # the seed of a training is one
    with pytest.raises(ConfigError, match="only: nonsense: choose some of default, conditioning"):
        AblationConfig(only=("nonsense",))


def test_a_row_that_the_run_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="rows: windw_5: of these groups, the run has window_1, window_5"):
        chosen(CONFIG, AblationConfig(only=("window",), rows=("window_5", "windw_5")))


def test_what_would_change_nothing_or_need_another_transformer_is_no_row():
    """The encoder of `tuned` is the trajectory transformer, which sees what the run's collective sees."""
    tuned = replace(CONFIG, collective=replace(CONFIG.collective, conditioning="tuned"))
    table = list(rows(tuned, AblationConfig(), seed=0))
    assert {row.group for row in table} == set(GROUPS) - {"encoder", "window", "z", "goals"}
    assert {row.variant for row in table if row.group == "rewards"} == {"not_told"}
    [still] = resolve(["own_tasks:point"])  # of which nothing is said to move
    still = replace(CONFIG, tasks=(still,))
    assert "probing" not in {row.group for row in rows(still, AblationConfig(), seed=0)}


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"collective": replace(CONFIG.collective, loss="kl")}, "kl"),
        ({"online": replace(CONFIG.online, learner_rounds=0)}, "cloning"),
        ({"online": replace(CONFIG.online, learner_rounds=0)}, "fresh"),
        ({"tasks": CONFIG.tasks[:1]}, "shuffled"),
        (
            {
                "collective": replace(
                    CONFIG.collective, encoder=replace(CONFIG.collective.encoder, rewards=False)
                )
            },
            "none",
        ),
    ],
)
def test_no_row_is_the_default_again(changes, absent):
    def found(config):
        return {row.variant for row in rows(config, AblationConfig(), seed=0)}

    assert absent in found(CONFIG)
    assert absent not in found(replace(CONFIG, **changes))


def test_rows_hold_out_as_much_as_the_run():
    config = replace(CONFIG, validation_fraction=0.4)
    assert {row.fraction for row in rows(config, AblationConfig(), seed=0)} == {0.4}


def test_only_rows_that_read_the_transformer_need_it():
    for row in rows(CONFIG, AblationConfig(), seed=0):
        needed = paths.TRANSFORMER in ablation_stage(row, 0).inputs
        assert needed is (row.collective.conditioning in ("tuned", "cls", "last_state", "cluster"))


def test_a_row_collects_distils_and_plays(tmp_path):
    found = execute(tmp_path, ablation_stage(replace(ROW, goals_hidden=True), 0))
    assert found["episodes"] == 3 * len(TASKS)
    assert found["collected"] == (4 + 4) * len(TASKS)
    assert 0 <= found["success_last"] <= found["success_any"] <= 1
    assert found["success_any"] == pytest.approx(np.mean(list(found["by_task"].values())))
    assert found["validation_loss"] > 0


def test_rewards_that_are_not_told_and_exchanged_embeddings_change_what_is_done():
    collective = any_collective()

    def actions(**changes):
        played = play(collective, replace(ROW, **changes))
        assert [e.task for e in played] == [task for task in TASKS for _ in range(3)]
        assert judged(played, TASKS)["episodes"] == len(played)
        return np.stack([e.action[5] for e in played])

    plain = actions()
    np.testing.assert_array_equal(actions(), plain)
    assert not np.allclose(actions(told=False), plain, atol=1e-4)
    assert not np.allclose(actions(shuffled=True), plain, atol=1e-4)


# -- distill-collective --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's online buffers, and a learner that left them."""
    root = tmp_path_factory.mktemp("runs") / "r"
    for task in TASKS:
        out = root / paths.buffer("online_buffer", task, 0)
        with sealed.stage(out, name="split", config={}, inputs={}) as folder:
            for side, table in zip(("train", "validation"), labelled(), strict=True):
                write(folder / side, [e for e in table if e.task == task])
    with sealed.stage(root / "learner", name="online-distill", config={}, inputs={}) as folder:
        save_collective(folder, any_collective(), COLLECTIVE.sac, OWN)
    return root


def distilled(run, **changes):
    config = DistillCollective(tasks=TASKS, collective=replace(COLLECTIVE, updates=10), **changes)
    stage = distill_collective_stage(config, 0)
    summary = execute(run, stage, overwrite=True)
    assert summary["tasks"] == list(TASKS)
    return load_collective(run / stage.out)[0]


def test_a_collective_goes_on_from_the_online_learner(run):
    """Its statistics stay; from nothing they are those of the episodes, without hidden goals."""
    found = distilled(run, learner="learner")
    assert same(found.scales, any_collective().scales)
    assert not same(found.agent.actor, any_collective().agent.actor)
    fresh = distilled(run, goals_hidden=True)
    assert fresh.goals_hidden
    assert not np.asarray(fresh.scales.state.mean)[2:].any()
    assert not same(fresh.scales, found.scales)


def test_a_learner_of_another_kind_is_refused(run):
    with pytest.raises(UserError, match="is conditioned on own: distil a collective of that kind"):
        distilled(run, learner="learner", goals_hidden=True)


class Killed(Exception):
    pass


def test_a_row_killed_in_its_last_distillation_goes_on_there(tmp_path, monkeypatch):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    stage, seen, again = ablation_stage(ROW, 0), [], []

    def kill(done, total, note=""):
        if note.startswith("actor"):
            seen.append((done, note))
            raise Killed

    whole = execute(tmp_path / "whole", stage)
    with pytest.raises(Killed):
        execute(tmp_path / "killed", stage, report=kill)
    found = execute(
        tmp_path / "killed", stage, report=lambda done, total, note="": again.append((done, note))
    )
    assert found == whole
    assert again[0] == seen[-1]  # neither the rounds nor what was killed is begun anew


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": replace(OWN, dim=32)}, r"encoder\.dim: 16 there, 32 now"),
        ({"differences": False}, "differences"),
    ],
)
def test_networks_other_than_the_learners_are_refused(run, change, said):
    config = replace(COLLECTIVE, updates=10, **change)
    stage = distill_collective_stage(DistillCollective(tasks=TASKS, learner="learner", collective=config), 0)
    with pytest.raises(UserError, match=said):
        execute(run, stage, overwrite=True)
