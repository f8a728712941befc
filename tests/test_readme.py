"""What the README shows works as it stands."""

import re
from pathlib import Path

import pytest

from collectiverl.cli.commands import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")  # of Meta-World's own spaces
def test_the_loop_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert '"runs/quickstart"' in code
    shorter = code.replace('"runs/quickstart"', '"scripted:window-close"').replace("range(500)", "range(150)")
    names: dict = {}
    exec(shorter, names)
    assert names["info"]["success"]


@pytest.mark.parametrize("line", re.findall(r"\| `(collectiverl [^`]+)` \|", README))
def test_every_command_of_the_readme_is_one(line, capsys):
    _, verb, *_ = line.split()
    assert verb in COMMANDS


def test_the_map_of_the_files_names_what_is_there():
    (tree,) = re.findall(r"```\n(src/collectiverl/.*?)```", README, re.DOTALL)
    for name in re.findall(r"[a-z_]+(?:\.py|/)", tree.replace("src/collectiverl/", "")):
        root = Path(__file__).parents[1]
        assert any(
            (folder / name).exists() for folder in (root, root / "src/collectiverl", root / "tests")
        ), name
