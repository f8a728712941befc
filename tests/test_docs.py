"""The pages of docs/ and the README lead somewhere, and say what is there."""

import importlib
import re
from operator import attrgetter
from pathlib import Path
from typing import get_args

import pytest
from results.tables import PAGES

from collectiverl.collective.conditioning import CONDITIONINGS
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.presets import PRESETS
from collectiverl.student.strategies import Name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "collectiverl"
DATA = "pretrained"  # holds no code: its folders are not listed one by one

THEIRS = "from-the-original.md"  # names files and settings of another repository

named = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
ours = pytest.mark.parametrize("page", [p for p in PAGES if p.name != THEIRS], ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@named
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@ours
def test_all_code_that_is_named_is_there(page):
    """Names such as `collective.probing.probe`, with the module that holds them."""
    rooms = "|".join(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != DATA)
    for name in re.findall(rf"`((?:{rooms}|types)\.[\w.]+)`", page.read_text()):
        if not name.endswith((".py", ".json", ".md")):
            assert exists(name), name


def exists(name: str) -> bool:
    """Whether a module of the package, or something in one, has this name."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["collectiverl", *parts[:count]]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[count:]:
            fields = getattr(found, "__annotations__", {})
            if not hasattr(found, attribute):
                return attribute in fields
            found = getattr(found, attribute)
        return True
    return False


@ours
def test_every_file_that_is_named_is_there(page):
    names = re.findall(r"`((?:tests|benchmarks|docs)/[\w/.]+\.\w+|[\w/]+\.py)`", page.read_text())
    for name in names:
        assert (ROOT / name).is_file() or (PACKAGE / name).is_file(), name


def test_the_map_lists_the_folders_and_the_modules_at_the_root():
    page = (ROOT / "docs" / "architecture.md").read_text()
    (tree,) = re.findall(r"```\nsrc/collectiverl/\n(.*?)```", page, re.DOTALL)
    listed = [line.split()[0] for line in tree.splitlines()]
    folders = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")} - {Path()}
    modules = {path.name for path in PACKAGE.glob("*.py")}
    assert sorted(listed) == sorted([*(f"{folder.as_posix()}/" for folder in folders), *modules, f"{DATA}/"])
    assert all(len(line.split()) > 2 for line in tree.splitlines())  # each says what it holds


@named
def test_the_defaults_that_are_given_are_those_of_the_code(page):
    """Rows such as `| `--online.horizon` | 200 |`: a setting of a run, and its default."""
    for flag, shown in re.findall(r"^\| `--([\w.-]+)` \| (\S+) \|", page.read_text(), re.MULTILINE):
        value = attrgetter(flag.replace("-", "_"))(RunConfig())
        assert str(value) == shown, flag


def test_every_preset_is_named():
    assert all(f"`{preset}`" in (ROOT / "README.md").read_text() for preset in PRESETS)


def test_every_conditioning_and_strategy_is_explained():
    pages = {
        name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("collective", "glossary", "students")
    }
    for conditioning in CONDITIONINGS:
        assert f"`{conditioning}`" in pages["collective"]
        assert f"| `{conditioning}` |" in pages["glossary"]
    for strategy in get_args(Name):
        assert f"| `{strategy}` |" in pages["students"]
