"""Odd command lines: a sample of those that `attacks/commands.py` tries, in this process."""

import pytest
from attacks.commands import End, _answer, judged
from attacks.odd_lines import KINDS, Line

EVERY = {"values of flags": 150}


def sample(kind: str) -> list[Line]:
    """Those that need no process of their own."""
    lines = [line for line in KINDS[kind]() if not line.shell and not line.env]
    return lines[7 :: EVERY.get(kind, 23)]


SAMPLE = [(kind, line) for kind in KINDS for line in sample(kind)]


@pytest.mark.parametrize("line", [line for _, line in SAMPLE], ids=[kind for kind, _ in SAMPLE])
def test_an_odd_line_ends_as_it_must(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # left as it was
    assert judged(line, _answer(line, str(tmp_path))) == ""


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (End(2, "│ no task 'a\n│  odd' │"), ""),
        (End(2, "no task"), "does not name"),
        (End(1, "no task 'a odd'"), "exit code 1 in place of 2"),
        (End(2, "Traceback (most recent call last):\nKeyError: 'a odd'"), "KeyError"),
        (End(None, "still at work after 30 s"), "still at work"),
    ],
)
def test_the_end_of_a_line_is_judged(end, why):
    found = judged(Line(("evaluate", "a odd"), names="a odd"), end)
    assert why in found if why else not found
