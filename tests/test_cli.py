"""Bad input gets one message and exit code 2, and nothing is lost."""

import json
import shutil

import pytest

from collectiverl.cli import main
from collectiverl.cli.commands import COMMANDS
from collectiverl.types import StageFailed


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The message of a command line that must end with exit code 2."""
    try:
        code = main.dispatch(list(args))
    except SystemExit as stop:  # how tyro refuses
        code = stop.code
    shown = capsys.readouterr()
    message = " ".join((shown.err + shown.out).split())
    assert code == 2, message
    assert "Traceback" not in message
    return message


def test_without_a_verb_all_verbs_are_listed(capsys):
    assert main.dispatch([]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_explains_itself(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        main.dispatch([verb, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out.lower()


def test_an_unknown_verb_is_answered_with_the_nearest(capsys):
    assert "did you mean 'train-task'" in refused(capsys, "train-tsk", "reach")


def test_an_unknown_task_is_answered_with_the_nearest(capsys, tmp_path):
    message = refused(capsys, "train-task", "raech", "9000", "--root", str(tmp_path))
    assert "no task 'raech'" in message
    assert "'reach-v3'" in message


def test_an_unknown_flag_is_refused(capsys, tmp_path):
    assert "--stepz" in refused(capsys, "train-task", "toy-reach", "--stepz", "1", "--root", str(tmp_path))


def test_a_missing_task_is_asked_for(capsys, tmp_path):
    assert "TASK" in refused(capsys, "train-task", "--root", str(tmp_path))


@pytest.mark.parametrize("steps", ["0", "-5"])
def test_no_steps_are_refused_by_name(capsys, tmp_path, steps):
    message = refused(capsys, "train-task", "toy-reach", steps, "--root", str(tmp_path))
    assert "steps" in message
    assert not any(tmp_path.iterdir())


def test_nonsense_settings_are_refused_by_name(capsys, tmp_path):
    assert "sac.gamma" in refused(
        capsys, "train-task", "toy-reach", "--sac.gamma", "2", "--root", str(tmp_path)
    )


def test_a_missing_input_names_the_command_that_makes_it(capsys, tmp_path):
    message = refused(capsys, "split-buffer", "toy-reach", "--root", str(tmp_path))
    assert "collectiverl train-task toy-reach" in message
    message = refused(capsys, "train-transformer", "--tasks", "toy-reach", "--root", str(tmp_path))
    assert "collectiverl split-buffer toy-reach" in message
    message = refused(capsys, "distill-collective", "--tasks", "toy-reach", "--root", str(tmp_path))
    assert "collectiverl split-online-buffer toy-reach" in message
    message = refused(capsys, "online-distill", "toy-reach", "--root", str(tmp_path))
    assert "collectiverl train-task toy-reach" in message
    assert "--teacher scripted" in message
    for verb in ("train-student", "finetune-student"):
        assert "collectiverl distill-collective" in refused(
            capsys, verb, "toy-reach", "--root", str(tmp_path)
        )


def test_an_unwritable_folder_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = refused(capsys, "record", "toy-reach", "--root", str(tmp_path / "file"))
    assert "cannot write to" in message
    assert str(tmp_path / "file") in message


def test_an_unknown_preset_lists_those_that_are(capsys, tmp_path):
    assert "quickstart" in refused(capsys, "run", "--preset", "quick", "--root", str(tmp_path))


def test_a_config_file_may_name_nothing_unknown(capsys, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("expert: {stepz: 5}")
    message = refused(capsys, "run", "--config", str(path), "--root", str(tmp_path))
    assert "stepz" in message
    assert "did you mean 'steps'" in message
    path.write_text("expert: [")
    assert "not YAML" in refused(capsys, "run", "--config", str(path), "--root", str(tmp_path))
    assert "cannot read" in refused(capsys, "run", "--config", str(tmp_path / "no"), "--root", str(tmp_path))


def test_a_policy_that_is_not_there_is_named(capsys, tmp_path):
    assert "there is no policy" in refused(capsys, "evaluate", str(tmp_path / "no"), "toy-reach")
    assert "did you mean" in refused(capsys, "evaluate", "scripted:psh", "toy-reach")


@pytest.fixture
def recorded(tmp_path, capsys):
    """The folder of a recorded buffer."""
    args = ["record", "toy-reach", "--episodes", "4", "--root", str(tmp_path)]
    assert main.dispatch(args) == 0
    capsys.readouterr()
    return tmp_path, args


def test_a_finished_stage_is_not_done_again(recorded, capsys):
    root, args = recorded
    manifest = next(root.rglob("manifest.json"))
    before = manifest.stat().st_mtime_ns
    assert main.dispatch(args) == 0
    assert manifest.stat().st_mtime_ns == before


def test_other_settings_are_refused_and_the_result_kept(recorded, capsys):
    root, args = recorded
    manifest = next(root.rglob("manifest.json"))
    before = manifest.read_bytes()
    message = refused(capsys, *args, "--num-envs", "2")
    assert "num_envs: 5 there, 2 now" in message
    assert "--overwrite" in message
    assert manifest.read_bytes() == before
    assert main.dispatch([*args, "--num-envs", "2", "--overwrite"]) == 0
    assert manifest.read_bytes() != before


def test_an_interrupted_stage_is_no_policy(recorded, capsys):
    root, _ = recorded
    folder = root / "default/recorded/scripted/toy-reach/seed_0"
    shutil.move(folder, folder.with_name("seed_0.partial"))
    assert "interrupted" in refused(capsys, "evaluate", str(folder), "toy-reach")


def test_a_full_disk_is_the_users_to_mend_and_nothing_is_lost(recorded, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    root, args = recorded
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.write_json", full)
    message = refused(capsys, *args, "--seed", "1")
    assert "No space left on device" in message
    assert "goes on" in message
    assert not (root / "default/recorded/scripted/toy-reach/seed_1").exists()
    monkeypatch.undo()
    assert main.dispatch([*args, "--seed", "1"]) == 0


def test_a_defect_is_said_without_a_traceback(capsys, monkeypatch):
    def defect(*_):
        raise StageFailed("train-task failed; the traceback is in a log")

    monkeypatch.setattr(main, "_command", defect)
    assert main.dispatch(["run"]) == 1
    assert "the traceback is in a log" in capsys.readouterr().err


def test_any_policy_is_evaluated_and_its_figures_are_written(capsys, tmp_path):
    figures = tmp_path / "figures.json"
    assert main.dispatch(["evaluate", "scripted:toy-reach", "toy-reach", "--json", str(figures)]) == 0
    assert "toy-reach" in capsys.readouterr().out
    [row] = json.loads(figures.read_text())["policies"]
    assert (row["task"], row["episodes"], row["success_any"]) == ("toy-reach", 50, 1.0)
