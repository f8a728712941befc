"""Files that are asked for: tried before the work, and whatever was computed is shown and kept."""

import json
import os
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from collectiverl.artifacts import outputs
from collectiverl.cli import actions, main
from collectiverl.envs.goals import goal_split
from collectiverl.envs.make import goals
from collectiverl.envs.toy import ToyScene
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.pipeline.plan import unfinished
from collectiverl.stages import films
from collectiverl.stages.base import execute
from collectiverl.stages.evaluation import Evaluate, evaluate_stage
from collectiverl.types import UserError

LINE = ("evaluate", "scripted:toy-reach", "toy-reach", "--goals", "0", "1")
LONG = "x" * 300


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("earlier")


@pytest.mark.parametrize("flag", ["--json", "--video"])
@pytest.mark.parametrize("name", ["", "file/below", "/proc/none/x", LONG, "folder", "file"])
def test_what_cannot_be_written_is_said_before_the_work(capsys, monkeypatch, flag, name):
    if (flag, name) in (("--json", "file"), ("--video", "folder")):
        pytest.skip("these can be written")
    monkeypatch.setattr(actions, "load_policy", None)  # no work
    assert main.dispatch([*LINE, flag, name]) == 2
    message = capsys.readouterr().err
    assert flag in message
    assert repr(name) in message
    assert sorted(os.listdir()) == ["file", "folder"]


def test_a_file_without_permission_is_refused_and_its_folder_with_it(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for name in ("file", "folder/new"):
        with pytest.raises(UserError, match=r"--json: .* cannot be written: no write permission"):
            outputs.check_file("--json", name)


def test_a_trial_leaves_the_file_as_it_was():
    outputs.check_file("--json", "file")
    outputs.check_file("--json", "new/file")
    assert Path("file").read_text() == "earlier"
    assert os.listdir("new") == []


def test_a_link_stays_a_link_and_a_pipe_a_pipe():
    os.symlink("file", "link")
    outputs.check_file("--json", "link")
    outputs.write_file("--json", "link", b"results")
    assert os.path.islink("link")
    assert Path("file").read_text() == "results"
    os.mkfifo("pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_text()), daemon=True)
    reader.start()
    outputs.write_file("--json", "pipe", b"results")
    reader.join(5)
    assert read == ["results"]
    assert outputs.is_special("pipe")


# -- whatever was computed -----------------------------------------------------------------------------------


def test_figures_that_cannot_be_written_in_the_end_are_shown(capsys, monkeypatch):
    def full(flag, name, data):
        raise UserError(f"{flag}: {name!r} cannot be written: No space left on device")

    monkeypatch.setattr(outputs, "write_file", full)
    assert main.dispatch([*LINE, "--json", "figures.json"]) == 2
    shown = capsys.readouterr()
    assert "1.00" in shown.out
    assert "No space left" in shown.err


@pytest.mark.parametrize(
    ("cause", "code"),
    [(KeyboardInterrupt, 130), (main.Terminated, 143), (UserError("gone"), 2), (OSError(5, "I/O"), 2)],
)
def test_however_a_command_ends_what_it_found_is_shown_and_kept(capsys, monkeypatch, cause, code):
    whole = actions.evaluate

    def evaluate(policy, task, *args, **kwargs):
        if task == "toy-swap":
            raise cause
        return whole(policy, task, *args, **kwargs)

    monkeypatch.setattr(actions, "evaluate", evaluate)
    line = [
        "evaluate",
        "scripted:toy-reach",
        "toy-reach",
        "toy-swap",
        "--goals",
        "0",
        "--json",
        "figures.json",
    ]
    assert main.dispatch(line) == code
    assert "1.00" in capsys.readouterr().out
    kept = json.loads(Path("figures.json").read_text())
    assert [row["task"] for row in kept["policies"]] == ["toy-reach"]
    assert kept["incomplete"] is True
    monkeypatch.undo()


def test_finished_figures_are_not_marked():
    assert main.dispatch([*LINE, "--json", "figures.json"]) == 0
    assert "incomplete" not in json.loads(Path("figures.json").read_text())


# -- films ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), ("--goals-hidden",)])
def test_a_film_is_of_an_episode_that_was_evaluated_and_says_its_goal(capsys, monkeypatch, hidden):
    seen, draw = [], ToyScene.draw

    def spy(scene, obs):
        seen.append(obs[4:6])
        return draw(scene, obs)[::15, ::15].repeat(15, 0).repeat(15, 1)

    monkeypatch.setattr(ToyScene, "draw", spy)
    line = [
        "evaluate",
        "random:toy-reach",
        "--goals",
        "held-out",
        "--video",
        "films",
        "--json",
        "figures.json",
        *hidden,
    ]
    assert main.dispatch(line) == 0
    number = goal_split()[1][0]
    np.testing.assert_allclose(seen, np.tile(goals("toy-reach")[number][2:], (len(seen), 1)), atol=1e-6)
    [name] = os.listdir("films")
    assert name == f"toy-reach_goal_{number}.mp4"
    with av.open(f"films/{name}") as film:
        assert film.metadata["title"] == f"random:toy-reach plays toy-reach, goal {number}"
    [row] = json.loads(Path("figures.json").read_text())["policies"]
    assert row["film"] == {"file": name, "goals": [number], "success": [False]}
    assert f"toy-reach, goal {number}, failed" in " ".join(capsys.readouterr().out.split())


def test_a_film_that_could_not_be_drawn_is_tried_again_elsewhere(tmp_path, monkeypatch):
    goal = EvaluateConfig(goals=(0,))
    played = Evaluate(kind="scripted", policy="scripted:toy-reach", task="toy-reach", evaluate=goal)
    evaluation = evaluate_stage(played, 0)
    execute(tmp_path, evaluation)
    stage, draw = films.film_stage(evaluation, 0), films._film

    def cannot(*_):
        raise UserError("this machine cannot draw")

    monkeypatch.setattr(films, "_film", cannot)
    assert execute(tmp_path, stage)["why"] == "this machine cannot draw"
    assert unfinished(tmp_path, [stage]) == []  # nothing has changed: it would fail again
    monkeypatch.setattr(films, "_film", draw)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert unfinished(tmp_path, [stage]) == [stage]
    found = execute(tmp_path, stage)
    assert (len(found["films"]), found["why"]) == (1, "")
    monkeypatch.delenv("MUJOCO_GL")
    assert unfinished(tmp_path, [stage]) == []


def test_a_film_that_fails_costs_no_figures(capsys, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ToyScene, "draw", fails)
    assert main.dispatch([*LINE, "--video", "films", "--json", "figures.json"]) == 2
    shown = capsys.readouterr()
    assert "1.00" in shown.out
    assert "No space left" in shown.err
    assert len(json.loads(Path("figures.json").read_text())["policies"]) == 1
    assert os.listdir("films") == []


def test_several_episodes_of_several_tasks_play_side_by_side_in_one_file(capsys):
    tasks = ("toy-reach", "toy-mirror")
    look = ("--film.episodes", "2", "--film.width", "64", "--film.height", "48", "--film.fps", "5")
    line = ["evaluate", "random:toy-reach", *tasks, "--goals", "0", "1", "2", "3", "--num-envs", "2", *look]
    assert main.dispatch([*line, "--video", "films/both.gif", "--json", "figures.json"]) == 0
    assert os.listdir("films") == ["both.gif"]
    with av.open("films/both.gif") as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (2 * 64 + 4, 48)
    rows = json.loads(Path("figures.json").read_text())["policies"]
    assert [row["film"]["goals"] for row in rows] == [
        [0, 2],
        [0, 2],
    ]  # those of the first of two environments
    assert "toy-mirror, goals 0, 2, 0 succeeded" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--film.episodes", "2"], "--video: nothing is filmed without it"),
        (["--video", "films", "--film.episodes", "9"], "--film.episodes: 9 exceeds the 5"),
        (["--video", "films", "--film.camera", "below"], "below is none of above"),
        (["--video", "films", "--film.speed", "0"], "--film.speed: 0.0 is not in [0.01, 1000]"),
    ],
)
def test_what_cannot_be_filmed_is_refused_by_name(capsys, flags, message):
    assert main.dispatch(["evaluate", "scripted:toy-reach", *flags]) == 2
    assert message in capsys.readouterr().err
