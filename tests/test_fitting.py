"""Tables at every width: no figure is ever cut short, with a terminal or without."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from collectiverl.cli import main
from collectiverl.cli.progress import columns
from collectiverl.reporting.probe import probe_tables
from collectiverl.reporting.students import comparison_table
from collectiverl.reporting.tables import (
    ablation_table,
    extensions_table,
    places,
    policies_table,
)

TASK = "peg-insert-side-v3"  # a long one
POLICY = {
    "policy": "collective",
    "task": TASK,
    "success_any": 0.98,
    "success_last": 0.97,
    "interval": (0.91, 1.0),
    "return": 4321.5,
    "env_steps": 480_000,
    "seconds": 12_345.6,
}
CLUSTERS = {"nmi": 0.123, "ari": 0.234, "purity": 0.345}
CLUSTERING = {**CLUSTERS, "silhouette": 0.456, "mixture": {**CLUSTERS, "clusters": 57}}
PROBE = {
    "chance": 0.1,
    "tasks": 50,
    "linear_probe": {"1": 0.111, "20": 0.222},
    "clustering": CLUSTERING,
    "raw": {"linear_probe": {"1": 0.333, "20": 0.444}, "clustering": CLUSTERING},
    "raw_window": {"linear_probe": {"1": 0.555, "20": 0.666}},
    "most_confused": [
        {"task": TASK, "taken_for": "button-press-topdown-v3", "share": {"1": 0.77, "20": 0.88}}
    ],
}
ROW = {"success_any": 0.981, "success_last": 0.972, "by_task": {TASK: 0.963}, "collected": 1234}
ABLATED = {"group": "conditioning", "variant": "last_state", "seeds": [ROW], "seconds": [4321.0]}
COMPARED = {
    "task": TASK,
    "strategy": "jump-start+prior-data+imitation",
    "seeds": [1, 2],
    "holes": 1,
    "success": [0.96, 0.94],
    "steps": [50_400, 51_200],
    "seconds": [321.0, 323.0],
    "area": [0.71, 0.73],
    "ratio": {"value": 13.61, "bound": "at least"},
    "forward_transfer": 0.37,
}
EXTENDED = {
    "task": TASK,
    "tasks": ["a", "b", TASK],
    "success": 0.94,
    "before": {"a": 0.951, "b": 0.951},
    "after": {"a": 0.942, "b": 0.942, TASK: 0.94},
    "forgetting": 0.009,
    "worst": "button-press-topdown-v3",
    "worst_forgetting": 0.02,
}
TABLES = {
    "policies": [policies_table([POLICY, POLICY | {"policy": "sac"}])],
    "one policy": [policies_table([POLICY])],
    "probe": list(probe_tables(PROBE)),
    "ablation": [ablation_table([ABLATED])],
    "comparison": [comparison_table([COMPARED], {"success": 0.9, "seeds": 3, "steps": 60_000})],
    "extensions": [table for table in extensions_table([EXTENDED]) if not isinstance(table, str)],
    "places": [places(Path("runs/demo"), {"figures": "summary/end/summary.json"})],
}
FIGURE = re.compile(r"[\d.,:%k+-]*\d[\d.,%k+-]*")


def printed(table, width: int | None) -> str:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=width is not None, no_color=True).print(table)
    return re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())


def figures(text: str) -> list[str]:
    return sorted(figure.strip(",:") for figure in FIGURE.findall(text))


@pytest.mark.parametrize("width", [40, 60, 80, 120, None])
@pytest.mark.parametrize("name", TABLES)
def test_every_figure_is_shown_whole(name, width):
    for table in TABLES[name]:
        shown, whole = printed(table, width), printed(table, 500)
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= (width or 80)
        assert set(figures(whole)) <= set(figures(shown)) | set(figures("".join(shown.split())))


@pytest.mark.parametrize("name", [name for name in TABLES if name != "places"])
def test_a_table_that_does_not_fit_is_a_list(name):
    for table in TABLES[name]:
        assert "─" in printed(table, 500)
        assert "─" not in printed(table, 20)


def test_tables_fit_eighty_columns():
    for name, tables in TABLES.items():
        for table in tables:
            assert "─" in printed(table, None) or name == "places", name


def test_a_list_says_whose_figures_they_are():
    lines = printed(policies_table([POLICY]), 40)
    assert f"{TASK}: any 0.98, 95 % 0.91-1.00" in lines.replace("\n", " ").replace("  ", " ")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_progress_of_a_stage_is_shown_whole(width):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, no_color=True)
    with Progress(*columns(width), console=console) as progress:
        note = "success 0.98"
        progress.add_task(
            f"train-student {TASK}", completed=1, total=2, note=note, rate="1,234/s", count="123,456/500,000"
        )
    shown = "".join(re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", file.getvalue()).split())
    assert "123,456/500,000" in shown
    assert "…" not in shown


def test_elsewhere_than_on_linux_it_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert main.dispatch(["run"]) == 2
    assert "runs on Linux" in capsys.readouterr().err


def test_a_reader_who_has_seen_enough_is_no_error():
    line = f"{sys.executable} -m collectiverl run --help-all | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stderr == ""
    assert "usage" in done.stdout


def test_what_the_readme_calls_is_installed():
    root = Path(__file__).parents[1]
    assert "`tensorboard --logdir" in (root / "README.md").read_text()
    assert '"tensorboard>=' in (root / "pyproject.toml").read_text()
    assert "\ntensorboard==" in (root / "constraints.txt").read_text()
