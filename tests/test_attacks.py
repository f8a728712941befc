"""Attacks find what does not hold: a table, an exit code, and parts that a broken package would not pass."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from attacks import Row, __main__, kills, odd_calls

from collectiverl.artifacts import sealed
from collectiverl.envs.policy import CheckedPolicy


@pytest.fixture
def of_rows(monkeypatch):
    """Runs the command with a part that has these rows; returns its exit code."""

    def run(*rows, **options):
        monkeypatch.setitem(sys.modules, "attacks.fake", SimpleNamespace(attack=lambda scale: list(rows)))
        return __main__.main(only=("fake",), **options)

    return run


def test_the_command_shows_what_failed_and_fails(of_rows, tmp_path, capsys):
    good, bad = Row("doors", 3, 3, ()), Row("windows", 4, 3, ("a [red] one: open",))
    assert of_rows(good) == 0
    capsys.readouterr()
    assert of_rows(good, bad, json_file=tmp_path / "found.json") == 1
    shown = capsys.readouterr().out
    assert "a [red] one: open" in shown
    assert re.findall(r"\d+", shown.split("all")[1])[:3] == ["7", "6", "1"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["held"] for row in found["rows"]] == [3, 3]


def test_what_tried_nothing_has_not_held(of_rows):
    assert of_rows(Row("nothing", 0, 0, ())) == 1


class Sum(CheckedPolicy):
    """Acts on the sum of all rewards and observations that it was given."""

    remembers = True

    def __init__(self):
        super().__init__(39, 4)
        self.sum = 0.0

    def _act(self, obs):
        self.sum = self.sum + obs.sum()
        return np.full((len(obs), 4), self.sum, np.float32)

    def _observe(self, rewards):
        self.rewards = rewards

    def _reset(self, env_mask):
        self.sum = 0.0 if env_mask.all() else self.sum


class Unchecked(Sum):
    """The same without a door."""

    def eval_action(self, observations):
        return self._act(np.asarray(observations))

    def reset(self, env_mask):
        self._reset(np.asarray(env_mask))

    def observe(self, rewards):
        self._observe(np.asarray(rewards))


@pytest.mark.parametrize(("kind", "holds"), [(Sum, True), (Unchecked, False)])
def test_odd_calls_tell_a_checked_policy_from_another(monkeypatch, kind, holds):
    monkeypatch.setattr(odd_calls, "made", lambda name: kind())
    row = odd_calls.odd_calls("sum", odd_calls.REFUSED, True, len(odd_calls.REFUSED))
    assert (row.held == row.tried) == holds
    assert bool(row.failures) != holds
    assert odd_calls.odd_calls("sum", odd_calls.TAKEN, False, len(odd_calls.TAKEN)).failures == ()


def sealed_run(folder, seconds, weight=1.0):
    with sealed.stage(folder / "model", name="test", config={}, inputs={}) as work:
        (work / "weights").write_text(str(weight))
        (work / "summary.json").write_text(json.dumps({"seconds": seconds}))
        (work / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": weight, "seconds": seconds}))
    return kills.content(folder)


def test_runs_are_compared_without_their_times(tmp_path):
    one, other = (sealed_run(tmp_path / str(seconds), seconds) for seconds in (1, 2))
    assert kills.difference(one, other) is None
    changed = sealed_run(tmp_path / "changed", 1, weight=2.0)
    assert kills.difference(changed, one) == "model/manifest.json differs"
    (tmp_path / "1" / "left.partial").write_text("")
    assert kills.difference(kills.content(tmp_path / "1"), one) == "left.partial is there"
    assert kills.difference({}, one) == "model/manifest.json is missing"
