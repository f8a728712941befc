"""What the README shows works as it stands."""

import re
from pathlib import Path

import pytest

from collectiverl.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "README.zh.md").read_text()


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


# -- the Chinese page ------------------------------------------------------------------------------------------


def cells(page: str) -> list[list[str]]:
    """The rows of its tables."""
    return [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]


def test_the_chinese_page_has_the_same_commands_code_and_links():
    for what in (r"```.*?```", r"(?<!`)`[^`\n]+`(?!`)", r"\]\(([^)\s]+)\)"):
        ours, theirs = (re.findall(what, page, re.DOTALL) for page in (README, CHINESE))
        if what.startswith("```"):
            assert ours == theirs
        else:
            assert set(ours) == set(theirs) - {"README.md"} | ({"README.zh.md"} & set(ours))


def test_the_chinese_page_has_the_same_tables():
    """Row by row: what is code, a link or a number is the same, the words are not."""
    same = re.compile(r"`[^`]+`|\]\([^)]+\)|[-+]?\d[\d.,]*")
    ours, theirs = cells(README), cells(CHINESE)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other)
        assert [set(same.findall(cell)) for cell in one] == [set(same.findall(cell)) for cell in other]
    words = {cell for row in theirs for cell in row} & {cell for row in ours for cell in row}
    assert all(same.search(word) for word in words)  # the others are translated
