"""`run --seeds`: each seed is a run of its own, with the same settings and its share of the cores."""

import sys
from dataclasses import replace

import pytest

from collectiverl.artifacts import sealed
from collectiverl.artifacts.files import write_json
from collectiverl.cli import main, seeds
from collectiverl.cli.parser import parse
from collectiverl.cli.settings import Run
from collectiverl.types import StageFailed, UserError

LINE = "--preset smoke --run many --until collective --seeds 3 5 --online.learner-rounds 1 --teacher scripted"


def test_each_seed_is_a_command_with_the_same_settings(tmp_path):
    settings = parse(Run, [*LINE.split(), "--root", str(tmp_path), "--cores", "5"], prog="run")
    assert [folder.name for folder in seeds.folders(settings)] == ["many_seed_3", "many_seed_5"]
    for seed, line in zip((3, 5), seeds.commands(settings, tmp_path), strict=True):
        one = parse(Run, line[1:], prog="run")
        assert one.settings == replace(settings.settings, seed=seed)
        assert (one.until, one.cores, one.seeds) == ("collective", 2, ())
        assert one.options.folder == tmp_path / f"many_seed_{seed}"


def test_runs_go_on_beside_one_that_fails_and_its_message_is_shown(tmp_path, monkeypatch, capsys):
    settings = parse(Run, [*LINE.split(), "--root", str(tmp_path), "--cores", "2"], prog="run")
    program = (
        "import sys; print('done stage', sys.argv[3]); print('collectiverl: oh', file=sys.stderr); exit({})"
    )
    for codes, kind in (("2 if 'seed_5' in sys.argv[3] else 0", UserError), ("1", StageFailed)):
        monkeypatch.setattr(seeds, "PROGRAM", (sys.executable, "-c", program.format(codes)))
        with pytest.raises(
            kind, match=f"the run of seed {5 if kind is UserError else 3} ended with exit code"
        ):
            seeds.run_each(settings)
        shown = capsys.readouterr().out
        assert all(f"seed {seed}: collectiverl: oh" in shown for seed in (3, 5))
        assert "seed 3: done stage many_seed_3" in shown


def test_the_means_over_seeds_are_shown(tmp_path, monkeypatch, capsys):
    def finished(settings):
        for folder, rate in zip(seeds.folders(settings), (1.0, 0.5), strict=True):
            summary = folder / "summary" / "collective"
            row = {"policy": "collective", "task": "toy-reach", "success_any": rate, "success_last": rate}
            with sealed.stage(summary, name="summary", config={}, inputs={}) as work:
                write_json(work / "summary.json", {"policies": [row | {"episodes": 50}]})

    monkeypatch.setattr(seeds, "run_each", finished)
    assert main.dispatch(["run", *LINE.split(), "--root", str(tmp_path)]) == 0
    assert "| toy-reach | 0.75 (0.66 to 0.82) |" in capsys.readouterr().out


def test_a_seed_is_named_once(capsys, tmp_path):
    assert main.dispatch(["run", "--seeds", "1", "1", "--root", str(tmp_path)]) == 2
    assert "--seeds: 1 1 names a seed twice" in capsys.readouterr().err
