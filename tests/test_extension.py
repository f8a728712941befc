"""One task after another on the toys: what is rehearsed, what is judged, and that nothing is done twice."""

import json
import shutil
from dataclasses import asdict, replace
from functools import partial

import jax
import numpy as np
import pytest
from collectiverl.collective.dataset import Dataset

from collectiverl.cli import main
from collectiverl.collective.extension import ExtensionConfig, forgetting
from collectiverl.collective.online import OnlineDistillation, Rehearsal
from collectiverl.collective.policy import load_collective
from collectiverl.collective.train import CollectiveConfig, Emphasis, pool
from collectiverl.data.episodes import EpisodeTable, Shard
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import claim
from collectiverl.pipeline.presets import smoke
from collectiverl.policies import load_policy
from collectiverl.sac.agent import init_agent
from collectiverl.stages.base import execute, summary
from collectiverl.stages.buffers import open_buffers
from collectiverl.stages.extension import ExtendCollective
from collectiverl.studies import lifelong
from toy_buffers import STATE_INDEX, buffers
from training import SAC

OLD, NEW = ("toy-reach", "toy-mirror"), ("toy-swap", "toy-turn")
SMALL = ExtensionConfig(
    encoder_updates=20,
    learner_rounds=2,
    learner_episodes=6,
    learner_updates=100,
    refresh=20,
    actor_updates=100,
    critic_updates=50,
    episodes=10,
)


def small():
    """A run of two tasks, scripted teachers, and as little training as there can be.

    As many updates as in `SMALL`: compiling is most of the time, and what is alike is compiled once.
    """
    base = smoke()
    return replace(
        base,
        tasks=OLD,
        experts="scripted",
        mixed_skill=12,
        transformer=replace(base.transformer, updates=20, validation_every=20, warmup=2),
        online=replace(
            base.online, random_episodes=2, expert_episodes=4, learner_rounds=1, updates=100, refresh=20
        ),
        collective=replace(base.collective, actor_updates=100, critic_updates=50),
    )


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A run's folder, its collective extended twice."""
    run, config = tmp_path_factory.mktemp("runs") / "r", small()
    claim(run, config)
    for stage in plan.stages(config, "collective"):
        if stage.kind not in ("evaluate", "probe", "summary"):
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
        assert (folder / "encoder.json").is_file()


def test_all_online_buffers_are_what_the_collective_is_distilled_from(extended):
    """The normaliser has seen every training step of them, and no other."""
    for count, folder in enumerate(folders(extended), 3):
        training, _ = open_buffers(extended, "online_buffer", (*OLD, *NEW)[:count], 0)
        seen = load_collective(folder)[0].agent.normalizer.count
        assert round(float(seen)) == sum(int(table.length.sum()) for table in training)


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
    assert "all 8 stages are done" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in extended.rglob("manifest.json")}
    rows = json.loads((extended / "extensions.json").read_text())["rows"]
    assert [(row["task"], len(row["tasks"])) for row in rows] == [("toy-swap", 3), ("toy-turn", 4)]


class Killed(Exception):
    pass


def test_killed_and_resumed_it_ends_as_uninterrupted(extended, tmp_path):
    run = tmp_path / "r"
    shutil.copytree(extended, run)
    shutil.rmtree(run / "extended")
    [stage] = [s for s in lifelong.stages(run, small(), added(NEW[0])) if s.kind == "extend-collective"]

    def kill(done, total, note=""):
        if done == 3 and "learning" in note:
            raise Killed

    notes = []
    with pytest.raises(Killed):
        execute(run, stage, report=kill)
    execute(run, stage, report=lambda done, total, note="": notes.append(note))
    assert not any(note.startswith(("random", "expert")) for note in notes)  # those rounds were kept
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
    [({"episodes": 0}, "--episodes=0"), ({"refresh": -1}, "--refresh=-1"), ({"share": 1.0}, r"--share=1\.0")],
)
def test_nonsense_is_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=message):
        ExtensionConfig(**setting)


# -- the parts ---------------------------------------------------------------------------------------------


def test_every_step_is_drawn_alike_unless_a_task_is_emphasised():
    tables = buffers()[0][0].subset(range(18)), buffers()[0][1].subset(range(2))
    labelled = [
        replace(e, labels=ScriptedPolicy((e.task,)).label(e.obs[:-1], e.action))
        for table in tables
        for e in table
    ]
    table = EpisodeTable([Shard.of(labelled)])
    steps = int(table.length.sum())
    data = Dataset(table, np.zeros((steps, 1), np.float32), STATE_INDEX, 1)
    assert pool(data, None).tolist() == list(range(steps))
    new = tables[1].tasks[0]
    drawn = pool(data, Emphasis((new,), 0.5))
    assert set(drawn) == set(range(steps))
    assert np.mean([table.tasks[data.episode[i]] == new for i in drawn]) == 0.5
    assert pool(data, Emphasis((new,), 0.01)).tolist() == list(range(steps))  # it has more than that


def test_what_is_rehearsed_stands_before_what_is_collected():
    training, validation = ([table] for table in (buffers()[0][0], buffers()[1][0]))
    actor = init_agent(1 + len(STATE_INDEX), 2, SAC, jax.random.key(0)).actor
    online = OnlineDistillation(
        partial(make_envs, goals="fresh"),
        {"toy-swap": ScriptedPolicy(("toy-swap",))},
        replace(small().online, conditioning="zeros", learner_rounds=0),
        spec("toy-swap"),
        seed=0,
        rehearsal=Rehearsal(actor, training, validation, share=0.5),
    )
    online.run()
    for side, given in zip(online.sides(), (training, validation), strict=True):
        assert side[0] is given[0]
        assert set(side[1].tasks) == {"toy-swap"}


def test_forgetting_is_what_each_old_task_lost():
    found = forgetting({"a": 1.0, "b": 0.5}, {"a": 0.75, "b": 1.0, "c": 0.0})
    assert found == {"a": 0.25, "b": -0.5}
