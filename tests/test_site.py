"""The documentation site and what stands beside it: all pages are in it, papers have links, versions agree."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CITED = re.compile(
    r"((?:[A-Z][\w-]+(?: [A-Z][\w-]+)?)(?: et al\.|,? (?:and|&) [A-Z]\w+)) \(?((?:19|20)\d\d[ab]?)\b"
)


class Loader(yaml.SafeLoader):
    """Of mkdocs.yml, whose slugs are made by a function."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
SITE = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)


def pages(entry) -> list[str]:
    """The files of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]


def test_every_page_is_in_the_navigation_once():
    """`make site` checks the links, and that the pages of the API are there."""
    listed = pages(SITE["nav"])
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    assert all((DOCS / page).is_file() for page in listed)


def test_the_site_asks_no_other_server():
    assert SITE["theme"]["font"] is False


def test_every_citation_has_a_link():
    papers = (DOCS / "papers.md").read_text()
    linked = {" ".join(name.split()) for name in re.findall(r"\[([^\]]+)\]\(https://", papers)}
    found = set()
    for path in [*(ROOT / "src").rglob("*.py"), *DOCS.glob("*.md")]:
        text = " ".join(path.read_text().replace("#", " ").split())
        found |= {
            (f"{name} {year}", path.name) for name, year in CITED.findall(text) if "Pearson" not in name
        }
    assert found
    for citation, where in found:
        assert any(citation in paper for paper in linked), (citation, where)


def test_the_changes_are_told_once():
    assert (DOCS / "changelog.md").resolve() == ROOT / "CHANGELOG.md"
    assert not (DOCS / "changes.md").exists()


def test_versions_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert {"cff-version", "message", "title", "authors", "references"} <= citation.keys()
    assert any("4nd1L0renz" in str(author) for author in citation["references"][0]["authors"])


def test_every_extra_is_pinned():
    """And dev has what the tests of the extras need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    known = {name.lower().replace("_", "-") for name in pinned}
    extras = project["optional-dependencies"]
    tested = {"onnx", "minari", "hub", "wandb", "docs"}
    assert f"collectiverl[{','.join(sorted(tested))}]" in {
        re.sub(r"\[(.*)\]", lambda m: f"[{','.join(sorted(m[1].split(',')))}]", r) for r in extras["dev"]
    }
    for name in tested:
        for requirement in extras[name]:
            assert re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-") in known, requirement
