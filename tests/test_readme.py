"""What the README shows works as it stands."""

import re
from pathlib import Path

import pytest

from collectiverl.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(README.splitlines()) <= 130


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")  # of Meta-World's own spaces
def test_its_loop_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code.replace("range(500)", "range(150)"), names)
    assert names["info"]["success"]


def test_its_commands_are_commands():
    lines = re.findall(r"`collectiverl ([a-z-]+) [^`]*`", README)
    assert lines
    assert set(lines) <= set(COMMANDS)


def test_its_make_targets_are_targets():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)


def test_its_map_names_what_is_there():
    (tree,) = re.findall(r"```\n(src/collectiverl/ .*?)```", README, re.DOTALL)
    rooms = re.findall(r"[a-z]+(?=[,:])", tree.split("tests/")[0])
    assert rooms
    assert all((ROOT / "src/collectiverl" / room).is_dir() for room in rooms)
    assert all((ROOT / folder).is_dir() for folder in tree.splitlines()[-1].split())
