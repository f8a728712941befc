"""Odd command lines: a sample of those that `attacks/commands.py` tries, in this process."""

import pytest
from attacks.commands import End, _answer, judged
from attacks.odd_lines import KINDS, Line

EVERY = {"values of flags": 150, "surroundings": 10_000}  # the latter are processes of their own
SAMPLE = [(kind, line) for kind, lines in KINDS.items() for line in list(lines())[7 :: EVERY.get(kind, 23)]]


@pytest.mark.parametrize("line", [line for _, line in SAMPLE], ids=[kind for kind, _ in SAMPLE])
def test_an_odd_line_ends_as_it_must(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # left as it was
    assert not line.shell
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
