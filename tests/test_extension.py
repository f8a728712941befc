"""One task after another on the toys: what is rehearsed, what is judged, and that nothing is done twice."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from collectiverl.cli import main
from collectiverl.collective.critic import CriticConfig
from collectiverl.collective.extension import ExtensionConfig, Learning, _drawn, forgetting
from collectiverl.collective.policy import load_collective
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.envs.make import spec
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import claim
from collectiverl.pipeline.presets import smoke
from collectiverl.policies import load_policy
from collectiverl.stages.base import Work, execute, summary
from collectiverl.stages.buffers import open_buffers
from collectiverl.stages.extension import ExtendCollective, _teacher
from collectiverl.studies import lifelong
from toy_buffers import COLLECTIVE, labelled
from training import same

OLD, NEW = ("toy-reach", "toy-mirror"), ("toy-swap", "toy-turn")
SMALL = ExtensionConfig(
    expert_episodes=4,
    learner_rounds=2,
    learner_episodes=4,
    learner_updates=20,
    updates=20,
    critic_updates=50,
    episodes=6,
)


def small():
    """A run of two tasks, scripted teachers, and as little training as there can be."""
    base = smoke()
    return replace(
        base,
        tasks=OLD,
        teacher="scripted",
        student_tasks=(),
        online=replace(
            base.online,
            expert_episodes=4,
            learner_rounds=1,
            learner_episodes=4,
            first_updates=20,
            round_updates=20,
        ),
        collective=replace(COLLECTIVE, updates=20),
    )


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A run's folder, its collective extended twice."""
    run, config = tmp_path_factory.mktemp("runs") / "r", small()
    claim(run, config)
    for stage in plan.stages(config, "collective"):
        if stage.kind not in ("evaluate", "probe", "film", "summary"):
            execute(run, stage)
    for stage in lifelong.stages(run, config, added(*NEW)):
        execute(run, stage)
    return run


def folders(run):
    return [run / "extended" / name / "seed_0" for name in ("3_toy-swap", "4_toy-turn")]


def added(*tasks):
    return lifelong.LifelongConfig(tasks=tasks, extension=SMALL)


def command(run, *tasks):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(SMALL).items()]
    return ["extend-collective", *tasks, "--run", run.name, "--root", str(run.parent), *flags]


def test_each_extension_knows_one_task_more_and_plays(extended):
    for count, folder in enumerate(folders(extended), 3):
        assert load_collective(folder)[0].tasks == (*OLD, *NEW)[:count]
        policy = load_policy(folder, task="toy-swap")
        assert policy.eval_action(np.zeros((3, 6), np.float32)).shape == (3, 2)


def test_statistics_stay_and_all_networks_learn(extended):
    base = load_collective(extended / "model_col")[0]
    for folder in folders(extended):
        found = load_collective(folder)[0]
        assert same(found.scales, base.scales)
        assert not same(found.agent.actor, base.agent.actor)
        assert not same(found.agent.critic, base.agent.critic)
        assert not same(found.encoder.body, base.encoder.body)
        base = found


def test_each_new_task_leaves_a_buffer_for_the_next(extended):
    for count in (3, 4):
        tasks = (*OLD, *NEW)[:count]
        training, validation = open_buffers(extended, "online_buffer", tasks, 0, spec(tasks[0]))
        assert [set(table.tasks) for table in training] == [{task} for task in tasks]
        kept = sum(map(len, training[2:])) + sum(map(len, validation[2:]))
        per_task = SMALL.expert_episodes + SMALL.learner_rounds * SMALL.learner_episodes
        assert kept == (count - 2) * per_task


def test_the_success_after_one_extension_is_that_before_the_next(extended):
    first, second = map(summary, folders(extended))
    assert list(first["before"]) == list(OLD)
    assert second["before"] == first["after"]
    for found in (first, second):
        lost = [found["before"][task] - found["after"][task] for task in found["before"]]
        assert found["forgetting"] == pytest.approx(np.mean(lost))
        assert found["worst_forgetting"] == pytest.approx(max(lost))
        assert found["success"] == found["after"][found["task"]]


def test_a_second_command_does_nothing(extended, capsys):
    before = {path: path.stat().st_mtime_ns for path in extended.rglob("manifest.json")}
    assert main.dispatch(command(extended, *NEW)) == 0
    assert "all 4 stages are done" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in extended.rglob("manifest.json")}
    rows = json.loads((extended / "extensions.json").read_text())["rows"]
    assert [(row["task"], len(row["tasks"])) for row in rows] == [("toy-swap", 3), ("toy-turn", 4)]


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("when", "begins"), [((2, "learning"), "learning"), ((20, "actor"), "actor"), ((70, "critic"), "critic")]
)
def test_killed_and_resumed_it_ends_as_uninterrupted(extended, tmp_path, monkeypatch, when, begins):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    run = tmp_path / "r"
    shutil.copytree(extended, run)
    shutil.rmtree(run / "extended")
    [stage] = [s for s in lifelong.stages(run, small(), added(NEW[0])) if s.kind == "extend-collective"]

    def kill(done, total, note=""):
        if done == when[0] and note.startswith(when[1]):
            raise Killed

    notes = []
    with pytest.raises(Killed):
        execute(run, stage, report=kill)
    execute(run, stage, report=lambda done, total, note="": notes.append(note))
    work = [note for note in notes if not note.startswith(("playing", "2 tasks"))]
    assert work[0].startswith(begins)  # what came before was kept
    assert not list(folders(run)[0].rglob("checkpoint*"))
    one, other = (folders(folder)[0] / "collective.safetensors" for folder in (run, extended))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("task", "message"), [("toy-mirror", "knows toy-mirror already"), ("toy-swop", "no task")]
)
def test_a_known_task_and_an_unknown_one_are_refused(extended, capsys, task, message):
    assert main.dispatch(command(extended, "toy-swap", task)) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_without_a_collective_there_is_nothing_to_extend(tmp_path, capsys):
    assert main.dispatch(command(tmp_path / "none", "toy-swap")) == 2
    assert "has no collective yet" in " ".join(capsys.readouterr().err.split())


def test_an_input_for_each_task_leaves_no_room_for_one_more():
    with pytest.raises(ValueError, match="cannot take one more"):
        ExtendCollective(
            task="toy-swap",
            known=OLD,
            base="model_col",
            fraction=0.2,
            collective=CollectiveConfig(conditioning="task_id"),
        )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"episodes": 0}, "episodes: 0"),
        ({"critic_updates": -1}, "critic-updates: -1"),
        ({"share": 1.0}, r"share: 1\.0"),
        ({"rehearsed": 0.0}, r"rehearsed: 0\.0 is not in"),
        ({"expert_episodes": 1}, "expert-episodes: 1 must be at least 2"),
    ],
)
def test_nonsense_is_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=message):
        ExtensionConfig(**setting)


# -- the parts ---------------------------------------------------------------------------------------------


def test_a_task_is_added_by_the_runs_settings_for_as_long_as_its_own_say():
    online = OnlineConfig(random_episodes=3, horizon=77, taught=0.1)
    collective = CollectiveConfig(labels=500, critic=CriticConfig(batch_size=99))
    found = Learning.of(SMALL, online, collective)
    assert found.online == replace(
        online,
        random_episodes=0,
        expert_episodes=4,
        learner_rounds=2,
        learner_episodes=4,
        first_updates=20,
        round_updates=20,
    )
    assert found.collective == replace(collective, updates=20, critic=CriticConfig(batch_size=99, updates=50))
    assert found.share == SMALL.share
    assert Learning.of(replace(SMALL, rehearsed=0.1), online, collective).rehearsed == 0.1


@pytest.mark.parametrize(("share", "count"), [(1.0, 20), (0.5, 10), (0.1, 2), (0.001, 1)])
def test_a_part_of_the_stored_episodes_is_rehearsed_at_least_one(share, count):
    table = labelled()[0]
    table = table.subset([i % len(table) for i in range(20)])
    kept = _drawn(table, share, seed=0)
    assert len(kept) == count
    assert kept.about == _drawn(table, share, seed=0).about
    if share == 0.5:
        assert kept.length.tolist() != table.length.tolist()[:count] or kept.about != table.about[:count]


def test_a_task_that_looks_like_a_known_one_is_labelled_by_the_script_for_both(tmp_path):
    def script(task, *known, teacher="scripted"):
        config = ExtendCollective(task=task, known=known, base="model_col", fraction=0.2, teacher=teacher)
        return _teacher(Work(run=tmp_path, folder=tmp_path, config=config))._first

    assert script("push-v3", "push-wall-v3", "reach-v3") == "push-wall-v3"
    assert script("push-v3", "reach-v3") == "push-v3"


def test_forgetting_is_what_each_old_task_lost():
    found = forgetting({"a": 1.0, "b": 0.5}, {"a": 0.75, "b": 1.0, "c": 0.0})
    assert found == {"a": 0.25, "b": -0.5}
