"""Every table of README and docs is the one that the ledger makes."""

import json
import re

import pytest
from results.ledger import FOLDER
from results.tables import MARKED, PAGES, TABLES, written

ENTRIES = sorted(FOLDER.glob("*/*.json"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_pages_tables_are_those_of_the_ledger(page):
    assert written(page.read_text()) == page.read_text(), "run 'make tables'"


def test_every_marked_table_is_made_by_somebody():
    named = {name for page in PAGES for _, name, *_ in MARKED.findall(page.read_text())}
    assert named <= set(TABLES)
    assert named


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_an_entry_says_how_it_was_made(path):
    entry = json.loads(path.read_text())
    assert entry["command"].startswith(("collectiverl ", "examples/"))
    assert re.fullmatch("[0-9a-f]{40}", entry["commit"])
    assert entry["machine"]["cpu"]
    assert all(0 <= row["success_any"] <= 1 and row["episodes"] for row in entry["policies"])
