"""The tutorial is executed: every block of it, in its order, on toy tasks."""

import re
import shlex
from pathlib import Path

import pytest

from collectiverl.cli import main
from collectiverl.cli.commands import COMMANDS
from collectiverl.cli.parser import parse
from test_pipeline import CONFIG  # sizes for which other tests have compiled

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TOYS = {"reach": "toy-reach", "push": "toy-mirror", "60000": "800", "100000": "800"}


def command_lines(block: str) -> list[list[str]]:
    lines = [shlex.split(line) for line in block.splitlines()]
    assert all(line[0] == "collectiverl" for line in lines)
    return [line[1:] for line in lines]


def test_its_commands_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert BLOCKS
    for kind, block in BLOCKS:
        for verb, *args in command_lines(block) if kind == "bash" else []:
            parse(COMMANDS[verb].settings, ["mt10" if a == "runs/tutorial" else a for a in args], prog=verb)


@pytest.mark.slow
def test_it_goes_from_experts_to_a_student_on_toy_tasks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    for kind, block in BLOCKS:
        if kind == "python":
            exec(re.sub(r"\b(reach|push)-v3", lambda task: TOYS[task[1]], block), {})
            continue
        for verb, *args in command_lines(block):
            line = [verb, *(TOYS.get(arg, arg) for arg in args)]
            small = ["--config", "small.yaml"] if "--run" in args and verb != "export" else []
            assert main.dispatch([*line, *small]) == 0, (line, capsys.readouterr())
    assert (tmp_path / "runs" / "tutorial_onnx" / "policy.onnx").is_file()
    shown = capsys.readouterr().out
    assert "toy-mirror successes:" in shown
    assert "sac 800" in shown or "environment steps" in shown
