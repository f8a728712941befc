"""The thesis's code is followed in its own order and names, and the page about it says what is so."""

import json
import os
import re
import subprocess
from dataclasses import fields, is_dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from results.ledger import one_at_a_time

from collectiverl.artifacts import configs
from collectiverl.artifacts.sealed import manifest
from collectiverl.cli import main
from collectiverl.cli.commands import ALIASES, COMMANDS
from collectiverl.cli.overrides import FLAGS
from collectiverl.cli.parser import flags, parse
from collectiverl.data.episodes import EpisodeTable
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.plan import experts, unfinished
from collectiverl.pipeline.presets import PRESETS, reference
from collectiverl.policies import load_policy
from collectiverl.sac.policy import load_expert
from test_pipeline import CONFIG  # sizes for which other tests have compiled

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "from-the-original.md").read_text()
TASKS = ("toy-reach", "toy-mirror")


# -- the sequence ---------------------------------------------------------------------------------------------


def script_lines(root: Path) -> list[list[str]]:
    """The command lines of examples/original.sh on toy tasks."""
    (root / "small.yaml").write_text(CONFIG)
    options = f"--preset smoke --config {root / 'small.yaml'}"
    names = {"COLLECTIVERL": "echo", "ROOT": str(root), "RUN": "demo", "OPTIONS": options}
    done = subprocess.run(
        [ROOT / "examples" / "original.sh", *(f"{task}:800" for task in TASKS)],
        env={**os.environ, **names, "STUDENT_STEPS": "600"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Path:
    """The folder of a run that was made by the script's commands, one after another, in this process."""
    root = tmp_path_factory.mktemp("runs")
    for line in script_lines(root):
        assert main.dispatch(line) == 0, line
    return root / "demo"


@pytest.mark.slow
def test_the_sequence_as_written_runs_to_its_end(followed):
    """One task a command; the transformer after the online distillations, which do not need it."""
    assert all(load_policy(followed / path, task=TASKS[0]) for path in ("", "student/toy-reach/seed_1"))
    for name, tasks in (("collective", TASKS), ("student", TASKS[:1]), ("expert_toy-mirror", TASKS[1:])):
        found = json.loads((followed / "evaluated" / f"{name}.json").read_text())["policies"]
        assert [row["task"] for row in found] == list(tasks)


@pytest.mark.slow
def test_tasks_that_were_distilled_one_at_a_time_make_a_collective_from_random_weights(followed):
    """It makes the updates that a learner of all tasks would have made before it: 50 + 50, beside its own 100."""
    config = manifest(followed / "model_col")["config"]
    assert set(config["tasks"]) == set(TASKS)
    assert config["learner"] == ""
    assert config["collective"]["updates"] == 200
    for task in TASKS:
        learner = manifest(followed / "online_distill" / task / "seed_0")["config"]
        assert learner["collective"]["conditioning"] == "own"


@pytest.mark.slow
def test_a_collective_begins_from_the_learner_of_its_tasks_if_there_is_one_of_its_kind(followed):
    """Here each task has a learner of its own, so one task's collective begins from it; not if it reads `cls`."""
    args = ["--tasks", "toy-mirror", "--root", str(followed.parent), "--run", "demo"]
    for conditioning, learner in (("own", "online_distill/toy-mirror/seed_0"), ("cls", "")):
        config = parsed("distill-collective", *args, "--conditioning", conditioning).config
        assert config.learner == learner


@pytest.mark.slow
def test_an_expert_of_its_own_command_is_the_one_that_a_run_trains(followed):
    """So a run goes on from it."""
    config = configs.load(followed.parent / "small.yaml", PRESETS["smoke"]()).resolved()
    assert not unfinished(followed, experts(config))


@pytest.mark.slow
def test_the_ledger_takes_what_was_evaluated(followed):
    found = one_at_a_time(followed, seed=0)
    kinds = [(row["policy"], row["task"]) for row in found["policies"]]
    assert sorted(kinds[:2]) == [("expert", task) for task in sorted(TASKS)]
    assert kinds[2:] == [*(("collective", task) for task in TASKS), ("student", TASKS[0])]
    assert found["mean"].keys() == {"expert", "collective", "student"}
    assert found["policies"][0]["env_steps"] == 800
    assert "model_col" in found["stage_seconds"]


@pytest.mark.slow
def test_what_was_sampled_while_an_expert_learned_is_labelled_by_the_expert_that_is_kept(followed):
    folder = followed / "model" / "toy-mirror" / "seed_0"
    expert, [*sampled] = load_expert(folder), EpisodeTable.open(folder / "episodes")
    assert sampled
    for episode in sampled:
        label = expert.label(episode.obs[:-1], episode.action)
        np.testing.assert_allclose(episode.labels.mean, label.mean, atol=1e-6)
        np.testing.assert_allclose(episode.labels.q, label.q, atol=1e-4)


@pytest.mark.slow
def test_without_names_the_tasks_are_those_whose_buffers_are_there(followed):
    options = ["--root", str(followed.parent), "--run", "demo"]
    for verb in ("train-transformer", "distill-collective", "probe"):
        assert parsed(verb, *options).config.tasks == tuple(sorted(TASKS))
    assert parsed("train-transformer", "--run", "none").config.tasks == RunConfig().resolved().tasks


def parsed(verb: str, *args: str):
    """The settings that a command line stands for."""
    return parse(COMMANDS[verb].settings, args, prog=verb)


@pytest.mark.parametrize("held", ["own", "cls"])
def test_an_online_distillation_has_an_encoder_of_its_own_unless_another_is_asked_for(tmp_path, held):
    """Whatever the run's settings say."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(f"collective: {{conditioning: {held}}}")
    args = ["toy-reach", "--root", str(tmp_path), "--run", "run"]
    assert parsed("online-distill", *args).config.collective.conditioning == "own"
    assert parsed("online-distill", *args, "--conditioning", "cls").config.collective.conditioning == "cls"
    assert parsed("distill-collective", *args[1:]).config.collective.conditioning == held


# -- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_a_name_of_the_thesis_is_the_command_that_it_stands_for(alias, name, capsys):
    assert alias not in COMMANDS
    with pytest.raises(SystemExit) as stop:
        main.dispatch([alias, "--help"])
    assert stop.value.code == 0
    assert f"collectiverl {name}" in capsys.readouterr().out
    assert f"`{alias}`" in PAGE


def test_a_setting_in_the_form_of_the_thesis_is_answered_with_our_flag(capsys):
    line = ["train_task", "toy-reach", "100", "worker.optimizers.actor.lr=5e-4"]
    assert main.dispatch(line) == 2
    assert "collectiverl train-task --sac.learning-rate" in capsys.readouterr().err
    assert main.dispatch(["online_distill", "toy-reach", "experiment.col_eval_freq=3"]) == 2
    assert "no counterpart" in capsys.readouterr().err


def test_a_setting_that_holds_anyway_is_accepted(capsys, tmp_path):
    """As in its `train_task reach-v2 100000 worker.builder.actor_update_freq=1`."""
    line = ["train_task", "toy-reach", "0", "worker.builder.actor_update_freq=1", "--root", str(tmp_path)]
    assert main.dispatch(line) == 2
    assert "STEPS: 0 must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("ours", sorted(set(FLAGS.values())))
def test_a_flag_that_answers_is_a_flag(ours):
    verb, flag = ours.split()
    if flag.startswith("--"):
        assert flag in [name for _, name in flags(COMMANDS[verb].settings)]
    else:
        assert flag in ("TASK", "STEPS", "POLICY")


# -- the preset `reference` -----------------------------------------------------------------------------------

ROW = re.compile(r"^\|[^|]*\|[^|]*\| `--([\w.-]+)` \| (\S+) \|", re.MULTILINE)


def leaves(config, path: str = "") -> dict[str, object]:
    """All settings, by their path."""
    found: dict[str, object] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found |= leaves(value, f"{path}{field.name}.")
        else:
            found[path + field.name] = value
    return found


def test_the_page_has_the_values_of_the_preset():
    rows = ROW.findall(PAGE)
    assert len(rows) > 40
    for flag, shown in rows:
        assert str(attrgetter(flag.replace("-", "_"))(reference())) == shown, flag


def test_the_page_has_every_setting_in_which_the_preset_differs_from_the_defaults():
    """A student's settings are its expert's where no row says more."""
    named = {flag.replace("-", "_") for flag, _ in ROW.findall(PAGE)}
    theirs, default = leaves(reference()), leaves(RunConfig())
    for path, value in theirs.items():
        expected = (
            theirs[path.replace("student.", "expert.", 1)] if path.startswith("student.") else default[path]
        )
        assert value == expected or path in named or path in ("tasks", "student_tasks"), path
