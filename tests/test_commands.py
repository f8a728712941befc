"""The commands of the README and of the pages: all can be read, and those of the tables run in their order."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from results.tables import PAGES

from collectiverl.artifacts import sealed
from collectiverl.cli import main, running
from collectiverl.cli.commands import COMMANDS
from collectiverl.cli.parser import parse
from collectiverl.cli.settings import RunSettings
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.pipeline import executor
from collectiverl.pipeline.config import RunConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.student.prior_data import PriorDataConfig
from collectiverl.student.strategies import StrategyConfig
from hub_server import pretending
from toy_buffers import COLLECTIVE, SMALL
from training import TRAIN

ROOT = Path(__file__).parents[1]
STAND_INS = {"TASK": "reach", "SEED": "0"}

EXPERT = replace(TRAIN, steps=300, checkpoint_every=10_000)
TINY = RunConfig(
    tasks=("toy-reach", "toy-mirror"),
    student_tasks=("toy-mirror",),
    expert=EXPERT,
    student=replace(EXPERT.without_sampling(), steps=500),
    strategy=StrategyConfig(prior_data=PriorDataConfig(episodes=5, updates=20)),
    transformer=TransformerConfig(
        updates=20, batch_size=8, validation_every=20, validation_batches=1, warmup=5, encoder=SMALL
    ),
    online=OnlineConfig(
        expert_episodes=4,
        learner_rounds=1,
        learner_episodes=4,
        horizon=None,
        first_updates=10,
        round_updates=10,
    ),
    collective=replace(COLLECTIVE, updates=10),
)
TOYS = {
    "push": "toy-reach",
    "reach": "toy-mirror",
    "window-close": "toy-swap",
    "drawer-close": "toy-turn",
    "faucet-open": "toy-swap",
    "door-close": "toy-turn",
    "500000": "300",
}
SIZES = {
    "compare-students": "--strategies none zero-shot --seeds 1 --steps 300 --eval-every 100 --eval-episodes 8",
    "ablate": "--only default --episodes 2",
    "extend-collective": "--expert-episodes 4 --learner-rounds 1 --learner-episodes 4 --learner-updates 10 "
    "--updates 10 --critic-updates 50 --episodes 2",
    "record": "--episodes 4",
    "transfer": "--goals 0 1",
}


def commands(page: Path) -> list[str]:
    """What a page shows between backticks, and the lines of its blocks of shell commands."""
    text = page.read_text()
    shown = re.findall(r"`collectiverl (\S+ [^`]*)`", text)
    for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        shown += [found[1] for line in lines if (found := re.match(r"(?:\S*/)?collectiverl (.*)", line))]
    return [" ".join(line.split()) for line in shown]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_read(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page.read_text(), re.DOTALL):
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for line in commands(page):
        verb, *args = [STAND_INS.get(word, word) for word in shlex.split(line, comments=True)]
        if verb in COMMANDS and not {"...", "--help", "--help-all"} & set(args):
            args = [re.sub(r"^runs/(demo|mt10|quickstart)\b", "mt10", arg) for arg in args]
            parse(COMMANDS[verb].settings, args, prog=verb)


def on_toys(line: str, config: Path) -> list[str]:
    """The command on toy tasks, with little training."""
    verb, *words = line.replace("--preset", "--run").split()
    args = [TOYS.get(word, word) for word in words]
    if verb == "take-collective":
        args[0] = "runs/demo"
    if verb == "transfer":
        args[0] = "runs/mt10"
    if verb == "compare-students" and "--collective" not in args:
        args += ["--collective", "runs/demo"]
    args += SIZES.get(verb, "").split()
    return [
        verb,
        *args,
        *(["--config", str(config)] if issubclass(COMMANDS[verb].settings, RunSettings) else []),
    ]


def repeated(line: str) -> list[str]:
    """What is done for one task in the table has to be done for the other as well."""
    verb = line.split()[0]
    again = verb in ("train-task", "split-buffer", "split-online-buffer") and "push" in line
    return [line, line.replace("push", "reach")] if again else [line]


def in_turn(run, todo, *, cores, watch, overwrite=False):
    """In place of processes, each of which would begin by importing everything."""
    for stage in todo:
        executor.run_here(run, stage, watch=watch, overwrite=overwrite)


@pytest.mark.slow  # a whole run, and each of its stages and studies by its own command
def test_the_commands_of_the_tables_run_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "run_in_processes", in_turn)
    monkeypatch.setattr(executor, "use_threads", lambda count: None)
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(sealed.to_jsonable(TINY)))
    pages = {page.stem: commands(page) for page in PAGES}
    table = re.findall(r"^\| `collectiverl ([^`]+)` \|", PAGES[0].read_text(), re.MULTILINE)
    for line in table:
        for one in repeated(line):
            assert main.dispatch(on_toys(one, config)) == 0, (one, capsys.readouterr())
    shutil.copytree("runs/mt10", "runs/quickstart")  # the same tiny run
    with pretending(monkeypatch, tmp_path / "cache") as hub:
        for command in COMMANDS.values():
            if command.name == "import-buffer":
                continue  # it needs a dataset: tests/test_logged.py makes one
            line = f"{command.name} {command.example}"
            assert line in pages["commands"]
            for one in repeated(line):
                assert main.dispatch(on_toys(one, config)) == 0, (one, capsys.readouterr())
    assert set(hub.repos) == {"owner/name"}


# -- the online distillation that a buffer is split from ---------------------------------------------------------


def distilled(run: Path, *tasks: str) -> None:
    """An online distillation of these tasks, without episodes."""
    out = run / "online_distill" / "+".join(tasks) / "seed_0"
    with sealed.stage(out, name="online-distill", config={"tasks": tasks}, inputs={}) as folder:
        (folder / "summary.json").write_text(json.dumps({}))
        about = {"tasks": tasks, "conditioning": "own", "goals_hidden": False}
        (folder / "collective.json").write_text(json.dumps(about))


def source(run: Path, *flags: str) -> str:
    args = ["toy-reach", "--run", run.name, "--root", str(run.parent), *flags]
    return parse(COMMANDS["split-online-buffer"].settings, args, prog="").stage().config.source


def test_a_buffer_is_split_from_the_online_distillation_that_has_its_task(tmp_path, capsys):
    distilled(tmp_path, "toy-mirror")
    distilled(tmp_path, "toy-mirror", "toy-reach")
    assert source(tmp_path) == "online_distill/toy-mirror+toy-reach/seed_0/toy-reach/episodes"
    distilled(tmp_path, "toy-reach")
    options = ["--run", tmp_path.name, "--root", str(tmp_path.parent)]
    assert main.dispatch(["split-online-buffer", "toy-reach", *options]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "2 online distillations of toy-reach" in message
    assert "--together toy-mirror toy-reach or --together toy-reach" in message
    assert source(tmp_path, "--together", "toy-reach") == "online_distill/toy-reach/seed_0/toy-reach/episodes"


def test_a_collective_begins_from_the_learner_of_its_tasks_in_any_order(tmp_path):
    distilled(tmp_path, "toy-mirror", "toy-reach")
    options = ["--run", tmp_path.name, "--root", str(tmp_path.parent)]
    for tasks, learner in (
        (("toy-reach", "toy-mirror"), "online_distill/toy-mirror+toy-reach/seed_0"),
        (("toy-reach", "toy-swap"), ""),
    ):
        args = ["--tasks", *tasks, *options]
        settings = parse(COMMANDS["distill-collective"].settings, args, prog="")
        assert settings.config.learner == learner
