"""Bad input gets one message and exit code 2, and nothing is lost."""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_type_hints

import pytest
from jax import random
from tyro._docstrings import get_field_docstring

from collectiverl.artifacts import files, provenance, sealed
from collectiverl.cli import actions, main
from collectiverl.cli.commands import COMMANDS, ESSENTIAL
from collectiverl.cli.options import RunOptions
from collectiverl.cli.parser import _configs, _unwrapped, flags, parse
from collectiverl.cli.reference import reference
from collectiverl.cli.settings import Run, Settings, StudySettings
from collectiverl.nn.keys import seeded_key
from collectiverl.pipeline.config import RunConfig, claim
from collectiverl.policies import tasks_of
from collectiverl.stages.flags import Flat, OrNone
from collectiverl.types import ConfigError, StageFailed, UserError

MT10 = (
    *("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3"),
    *("button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3"),
)


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


def test_without_a_command_all_are_listed(capsys):
    assert main.dispatch([]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} " in shown and c.help in shown for name, c in COMMANDS.items())


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_explains_itself(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        main.dispatch([verb, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out.lower()


CONFIGS = {config for command in COMMANDS.values() for config in _configs(command.settings)} - {StudySettings}


@pytest.mark.parametrize("config", sorted(CONFIGS, key=str))
def test_every_flag_is_explained_and_none_by_the_comment_of_another(config):
    """tyro reads comments: it misses one that the formatter moved, and takes one above two fields for both."""
    hints, before = get_type_hints(config, include_extras=True), None
    for setting in dataclasses.fields(config):
        said = get_field_docstring(config, setting.name, ())
        assert said or dataclasses.is_dataclass(_unwrapped(hints[setting.name])[0]), setting.name
        assert not said or said != before, setting.name
        before = said


def test_the_version_is_that_of_the_manifests(capsys):
    assert main.dispatch(["--version"]) == 0
    assert capsys.readouterr().out.strip() == provenance.versions()["collectiverl"]


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert "did you mean 'train-task'" in refused(capsys, "train-tsk", "reach")


def test_an_unknown_task_is_answered_with_the_nearest(capsys, tmp_path):
    message = refused(capsys, "train-task", "raech", "9000", "--root", str(tmp_path))
    assert "no task 'raech'" in message
    assert "'reach-v3'" in message


def test_an_unknown_flag_is_refused(capsys, tmp_path):
    assert "--stepz" in refused(capsys, "train-task", "toy-reach", "--stepz", "1", "--root", str(tmp_path))


def test_a_missing_task_is_asked_for(capsys, tmp_path):
    assert "TASK" in refused(capsys, "train-task", "--root", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train-task toy-reach 0", "STEPS: 0 must be at least 1"),
        ("train-task toy-reach -5", "STEPS: -5 must be at least 1"),
        ("train-task toy-reach --sac.gamma 2", "--sac.gamma: 2.0 is not in (0, 1]"),
        ("run --student.sac.gamma 2", "--student.sac.gamma: 2.0 is not in (0, 1]"),
        ("run --expert.warmup 2000000", "--expert.warmup: 2000000 exceeds"),
        ("train-task toy-reach --warmup 2000000", "--warmup: 2000000 exceeds"),
        ("train-task toy-reach --demos random:5", "--demos: 'random:5' is not a number of scripted episodes"),
        ("record toy-reach --num-envs 0", "--num-envs: 0 must be at least 1"),
        ("split-buffer toy-reach --fraction 2", "--fraction: 2.0 is not between 0 and 1"),
        ("online-distill toy-reach --fraction 2", "--fraction: 2.0 is not between 0 and 1"),
        ("train-transformer --warmup 5000", "--warmup: 5000 must be less than the 4000 updates"),
        ("train-transformer --encoder.dim 7", "--encoder.dim: 7 is not a multiple of the 8 heads"),
        ("run --transformer.warmup 5000", "--transformer.warmup: 5000 must be less"),
        ("run --transformer.encoder.dim 7", "--transformer.encoder.dim: 7 is not a multiple"),
        ("run --transformer.objective.info-nce -1", "--transformer.objective.info-nce: -1.0 must be"),
        ("run --validation-fraction 2", "--validation-fraction: 2.0 is not between 0 and 1"),
        ("run --cores -1", "--cores: -1 must be at least 0"),
        ("run --seed 4294967296", "--seed: 4294967296 is not from 0 to 4294967295"),
        ("record toy-reach --seed -1", "--seed: -1 is not from 0 to 4294967295"),
        ("train-task toy-reach --seed 4294967296", "--seed: 4294967296 is not from 0 to 4294967295"),
        ("train-student toy-reach --seed 4294967296", "--seed: 4294967296 is not from 0 to 4294967295"),
        ("train-task toy-reach --num-envs 999999999999", "--num-envs: 999999999999 must be at most"),
        ("train-task toy-reach --capacity 999999999999", "--capacity: 999999999999 must be at most"),
        ("train-task toy-reach --demos scripted:999999", "--demos: 'scripted:999999' are more than"),
        ("record toy-reach --num-envs 999999999999", "--num-envs: 999999999999 must be at most"),
        ("ablate --seeds 999999999999", "--seeds: 999999999999 must be at most"),
        ("run --tasks toy-reach --student-tasks push", "cannot be named together"),
        (
            "run --teacher scripted --until experts",
            "--until: scripted experts are neither trained nor copied",
        ),
        ("ablate --only weather", "--only: weather: choose some of"),
        (
            "train-student toy-reach 410 --preset smoke --strategy.prior-data.episodes 20",
            "STEPS: 410 leave nothing to learn in",
        ),
        (
            "train-student toy-reach --steps 410 --preset smoke --strategy.prior-data.episodes 20",
            "--steps: 410 leave nothing to learn in",
        ),
        (
            "run --student.steps 410 --preset smoke --strategy.prior-data.episodes 20",
            "--student.steps: 410 leave nothing to learn in",
        ),
    ],
)
def test_a_setting_is_refused_under_the_name_that_was_typed(capsys, tmp_path, line, message):
    assert message in refused(capsys, *line.split(), "--root", str(tmp_path))
    assert not list(tmp_path.rglob("manifest.json"))


@dataclass(frozen=True, kw_only=True)
class Inner:
    warmup: int = 1

    def __post_init__(self):
        if self.warmup > 5:
            raise ConfigError("warmup", f"{self.warmup} exceeds 5")


@dataclass(frozen=True, kw_only=True)
class Twice(Settings):
    """The same config twice, once in a config of its own."""

    expert: Inner = field(default_factory=Inner)
    student: Flat[Inner] = field(default_factory=Inner)
    other_one: OrNone[Inner] = None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--expert.warmup 9", "--expert.warmup: 9 exceeds 5"),
        ("--warmup 9", "--warmup: 9 exceeds 5"),
        ("--warmup 4 --expert.warmup 9", "--expert.warmup: 9 exceeds 5"),
        ("--expert.warmup=4 --warmup=9", "--warmup: 9 exceeds 5"),
        ("--expert.warmup 4 --expert.warmup 9", "--expert.warmup: 9 exceeds 5"),
    ],
)
def test_a_config_that_stands_in_two_places_is_refused_in_the_right_one(line, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        parse(Twice, line.split(), prog="twice")


@pytest.mark.parametrize(
    "line",
    [
        "evaluate scripted:reach reach --video films --film.after-success inf",  # a config's checks may forget it
        "evaluate scripted:reach reach --film.speed nan",
        "train-task reach --sac.tau nan",
        "run --expert.sac.reward-scale 1e39",
    ],
)
def test_what_is_not_finite_is_refused_by_its_flag_before_anything_else(capsys, line):
    flag, value = line.split()[-2:]
    assert refused(capsys, *line.split()) == (
        f"collectiverl: {flag}: {float(value)} must be finite in single precision"
    )


THREADED = [name for name, c in COMMANDS.items() if "--threads" in dict(flags(c.settings)).values()]


@pytest.mark.parametrize(
    "verb", [name for name in THREADED if "--threads" not in COMMANDS[name].settings.decided]
)
def test_every_stage_checks_what_all_stages_have(capsys, verb):
    """A class of settings with checks of its own makes those of its base as well."""
    message = refused(capsys, verb, *COMMANDS[verb].example.split(), "--threads", "-1")
    assert message == "collectiverl: --threads: -1 must be at least 1"


def test_checks_are_back_after_parsing():
    assert parse(Twice, ["--warmup", "5"], prog="twice").student == Inner(warmup=5)
    with pytest.raises(ConfigError):
        Inner(warmup=6)


@pytest.mark.parametrize(
    ("flags", "overwrite"),
    [
        ("", False),
        ("--overwrite", True),
        ("--overwrite --no-overwrite", False),
        ("--no-overwrite --overwrite", True),
        ("--overwrite --seed 3", True),
    ],
)
def test_of_overwrite_and_no_overwrite_the_last_wins(flags, overwrite):
    assert RunOptions.read([*flags.split(), "--help"]).overwrite is overwrite
    assert parse(Run, ["--tasks", "toy-reach", *flags.split()], prog="run").options.overwrite is overwrite


def test_the_help_of_run_shows_what_is_changed_most_and_help_all_the_rest(capsys):
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as stop:
            main.dispatch(["run", flag])
        assert stop.value.code == 0
        shown[flag] = capsys.readouterr().out
    assert len(shown["--help"].splitlines()) <= 85
    assert all(flag in shown["--help"] for flag in ESSENTIAL)
    assert "--expert.num-envs" not in shown["--help"]
    every = [flag for _, flag in flags(Run)]
    assert len(every) > 100
    assert all(flag in shown["--help-all"] for flag in every)
    assert all(flag in every for flag in ESSENTIAL)


def test_the_page_of_commands_is_that_of_the_table():
    page = Path(__file__).parents[1] / "docs" / "commands.md"
    assert page.read_text() == reference()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_examples_of_the_commands_can_be_parsed(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    args = command.example.replace("runs/demo", "mt10").split()
    parse(command.settings, args, prog=command.name)


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
    for use in ("finetune", "prior-data"):
        assert "collectiverl distill-collective" in refused(
            capsys, "train-student", "toy-reach", "--strategy.use", use, "--root", str(tmp_path)
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
    monkeypatch.setattr("collectiverl.artifacts.attempts.write_json", full)
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


def test_a_name_for_each_task_plays_each_tasks_own_policy(capsys, tmp_path):
    figures = tmp_path / "figures.json"
    line = ["evaluate", "scripted:{task}", "toy-turn", "toy-reach", "--json", str(figures)]
    assert main.dispatch(line) == 0
    rows = json.loads(figures.read_text())["policies"]
    assert [(row["task"], row["success_any"]) for row in rows] == [("toy-turn", 1.0), ("toy-reach", 1.0)]
    assert all("new" not in row for row in rows)
    assert "name the tasks to play" in refused(capsys, "evaluate", "scripted:{task}")
    assert "stands for one policy a task" in refused(capsys, "evaluate-meta", "mt10/{task}")
    assert "comes with no basketball-v3" in refused(capsys, "evaluate", "mt10/{task}", "basketball")


@pytest.mark.parametrize(
    ("policy", "tasks"),
    [
        ("scripted:push", ("push-v3",)),
        ("random:toy-reach", ("toy-reach",)),
        ("mt10/push", ("push-v3",)),
        ("mt10", MT10),
    ],
)
def test_a_policy_says_which_tasks_it_was_made_for(policy, tasks):
    assert tasks_of(policy) == tasks


def test_without_tasks_a_policy_plays_those_that_it_was_made_for(capsys, tmp_path):
    figures = tmp_path / "figures.json"
    assert main.dispatch(["evaluate", "scripted:toy-turn", "--json", str(figures)]) == 0
    assert [row["task"] for row in json.loads(figures.read_text())["policies"]] == ["toy-turn"]


def test_tasks_that_a_policy_was_not_made_for_are_marked(capsys, tmp_path):
    figures = tmp_path / "figures.json"
    line = ["evaluate", "scripted:toy-turn", "toy-turn", "toy-reach", "--json", str(figures)]
    assert main.dispatch(line) == 0
    shown = capsys.readouterr().out
    assert "toy-reach *" in shown
    assert "toy-turn *" not in shown
    assert "* a task that the policy was not made for" in shown
    assert [row["new"] for row in json.loads(figures.read_text())["policies"]] == [False, True]


def test_a_file_that_cannot_be_written_is_refused_before_the_work(capsys, tmp_path):
    for line in (["evaluate", "scripted:toy-turn"], ["evaluate-meta", "mt10-hidden"]):
        assert "is a folder: name a file" in refused(capsys, *line, "--json", str(tmp_path))


def test_a_finished_run_that_cannot_be_written_still_shows_its_table(recorded, monkeypatch):
    """A shared folder, say, or a medium that is read-only."""
    root, args = recorded
    settings = parse(Run, ["--tasks", "toy-reach", "--root", str(root)], prog="run")
    stage = parse(COMMANDS["record"].settings, args[1:], prog="record").stage()
    monkeypatch.setattr(actions.plan, "stages", lambda *_: [stage])
    claim(settings.options.folder, settings.settings)
    with sealed.stage(settings.options.folder / "summary/end", name="", config={}, inputs={}) as work:
        (work / "summary.json").write_text('{"policies": []}')
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr(files, "write_atomically", None)
    assert actions.run_pipeline(settings) == {"policies": [], "page": None}
    other = parse(Run, ["--tasks", "toy-swap", "--root", str(root)], prog="run")
    with pytest.raises(UserError, match="belongs to another configuration"):
        actions.run_pipeline(other)
    monkeypatch.setattr(actions.plan, "stages", lambda *_: [replace(stage, out="new")])
    with pytest.raises(UserError, match="cannot write to"):
        actions.run_pipeline(settings)


def test_a_setting_without_a_value_whose_name_is_damaged_is_noticed(tmp_path):
    claim(tmp_path, RunConfig())
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace("after_success: null", "after_juccess: null", 1))
    with pytest.raises(UserError, match="after_juccess"):
        claim(tmp_path, RunConfig())


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_would_be_cut_makes_no_key(seed):
    with pytest.raises(ConfigError, match="seed"):
        seeded_key(seed)
    assert not (random.key_data(seeded_key(2**32 - 1)) == random.key_data(seeded_key(0))).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scripted:push", "scripted:push is not a collective"),
        ("mt10/push", "mt10/push is not a collective"),
        ("mt10", "train one with --goals-hidden"),
        ("mt10-hidden --benchmark ML11", "ML11"),
        ("mt10-hidden --envs-per-task 51", "--envs-per-task: 51 is more than the 50 goals"),
        ("no/such", "there is no policy"),
    ],
)
def test_what_the_protocol_of_meta_learning_cannot_play_is_refused(capsys, line, message):
    assert message in refused(capsys, "evaluate-meta", *line.split())


def test_a_policy_that_does_not_say_its_tasks_asks_for_them(capsys, tmp_path):
    folder = tmp_path / "model"
    with sealed.stage(folder, name="train-task", config={}, inputs={}) as work:
        (work / "agent.json").write_text("{}")
    assert "name the tasks to play" in refused(capsys, "evaluate", str(folder))


@pytest.mark.parametrize(
    "line",
    [
        "distill-collective --sac.learning-rate 1",
        "distill-collective --sac.batch-size 1",
        "distill-collective --sac.tau 1",
        "distill-collective --sac.n-step 1",
        "train-student toy-reach --sampling.period 1",
        "online-distill toy-reach --updates 8",
        "online-distill toy-reach --critic.updates 8",
        "run --student.sampling.episodes 1",
        "run --collective.sac.tau 1",
    ],
)
def test_a_setting_that_changes_nothing_is_no_flag(capsys, tmp_path, line):
    flag = next(part for part in line.split() if part.startswith("--"))
    message = refused(capsys, *line.split(), "--root", str(tmp_path))
    assert "nrecognized" in message or "cannot accept a value" in message
    assert flag in message


def test_imitation_of_demonstrations_that_there_are_not_is_refused(capsys, tmp_path):
    line = ("train-task", "toy-reach", "--root", str(tmp_path), "--demo-imitation")
    assert "--demo-imitation: changes nothing without demonstrations" in refused(capsys, *line, "1")
    assert "--demo-imitation" in refused(capsys, *line, "-1", "--demos", "scripted:2")


@pytest.mark.parametrize(
    ("flag", "value", "by_all"),
    [("--sac.width", "8", False), ("--sac.learning-rate", "1", False), ("--warmup", "1", True)],
)
def test_what_fine_tuning_decides_on_is_refused_and_its_other_settings_are_kept(
    capsys, tmp_path, flag, value, by_all
):
    line = ("train-student", "toy-reach", "--root", str(tmp_path), flag, value)
    message = refused(capsys, *line)
    assert f"{flag}: changes nothing" in message
    own = refused(capsys, *line, "--strategy.use", "prior-data", "imitation")
    assert (f"{flag}: changes nothing" in own) is by_all
    assert ("distill-collective" in own) is not by_all
    assert "distill-collective" in refused(capsys, *line, "--strategy.use", "imitation")
    settings = parse(COMMANDS["train-student"].settings, ["toy-reach", "--sac.tau", "0.5"], prog="")
    assert settings.config.train.sac.tau == 0.5
