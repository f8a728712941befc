"""The page of a run: what is read, what is said, and that the file needs nothing else."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from collectiverl.artifacts.paths import REPORT
from collectiverl.cli import main
from collectiverl.pipeline.described import described
from collectiverl.reporting.page import figures, studies
from collectiverl.reporting.page.about import _facts
from collectiverl.reporting.page.blocks import Plot
from collectiverl.reporting.page.page import page, parts
from collectiverl.reporting.page.reading import RunFolder
from run_folders import MIRROR, REACH, finished_run, seal

VOID = {"meta", "link", "img", "br", "input"}


class Outline(HTMLParser):
    """Headings, anchors, links, figures and tables; and whether every element is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.headings, self.ids, self.links = [], [], [], []
        self.unnamed, self.outside, self.scopes, self.rows = [], [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.scopes += "scope" in found
        self.rows += tag == "tr"
        if tag in ("img", "video") or "plot" in found.get("class", "").split():
            self.unnamed += [] if found.get("alt") or found.get("aria-label") else [found]
        for name in ("src", "href"):
            if not found.get(name, "data:").startswith(("data:", "#")):
                self.outside.append(found[name])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def text(run) -> str:
    return page([described(run)])


def shown(text: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def titles(text: str) -> list[str]:
    return re.findall(r'<h2 id="[^"]*">([^<]*)', text)


def figures_of(runs) -> list[Plot]:
    return [
        block
        for part in parts(runs)
        for section in part.sections
        for block in section.blocks
        if isinstance(block, Plot)
    ]


def test_a_finished_run_has_every_section_and_nothing_is_missing(text):
    assert titles(text) == [
        *("What was run", "Success", "Films", "Learning", "Embedding"),
        *("Where the seconds went", "What not to conclude"),
    ]
    assert "not finished" not in shown(text)
    assert "2 tasks by the preset smoke" in shown(text)


def test_each_round_of_distillation_is_shown_at_any_step_and_at_the_last(text):
    for when in ("at any step", "at the last step"):
        assert f"Distillation: success of the learner {when}, in each round" in shown(text)
        assert f"Success of the learner {when}, by round" in shown(text)


def test_where_the_collective_errs_is_shown_by_task_and_step(text):
    assert "The largest is 0.30, in toy-reach." in shown(text)
    for step in ("0 to 19", "20 to 49", "from 50"):
        assert step in shown(text)
    assert re.search(r"toy-mirror 0\.110 0\.040 0\.050", shown(text))


def test_the_file_needs_nothing_else(text):
    assert Outline(text).outside == []
    assert "default-src 'none'" in text


def test_it_can_be_read_without_seeing_it(text):
    outline = Outline(text)
    assert outline.open == []
    assert outline.unnamed == []
    assert outline.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(outline.headings, outline.headings[1:], strict=False))
    assert len(set(outline.ids)) == len(outline.ids)
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)
    assert outline.scopes > outline.rows  # each row and each column names itself


def test_every_figure_is_one_of_plotly_and_says_what_it_shows(run):
    from plotly.graph_objects import Figure

    known = {*(f"${i + 1}" for i in range(figures.COLOURS)), "$ink", "$muted", "$line"}
    for plot in figures_of([described(run)]):
        assert plot.text.strip()
        for figure in plot.figures.values():
            plain = json.dumps(figure)
            assert set(re.findall(r'"(\$\w+)"', plain)) <= known | {"$matrix", "$sequential", "$diverging"}
            plain = re.sub(r'"\$(matrix|sequential|diverging)"', '"Cividis"', plain)
            Figure(json.loads(re.sub(r'"\$\w+"', '"#123456"', plain)))


def test_the_embedded_data_cannot_end_its_element_and_is_json(text):
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    found = json.loads(data)
    assert "<" not in data
    assert len(found["figures"]) > 5
    assert [film["course"] is not None for [*films] in found["films"].values() for film in films] == [
        True
    ] * 4


def test_success_has_an_interval_at_any_and_at_the_last_step(text):
    row = "collective toy-reach 0.90 0.79 to 0.96 0.70 0.56 to 0.81 200 50"
    assert row in shown(text)


def test_steps_that_were_played_before_training_are_counted(run):
    [experts] = [plot for plot in figures_of([described(run)]) if plot.title.startswith("Experts: success")]
    assert experts.figures[""]["data"][0]["x"] == [1100, 2100, 3100]


def test_a_task_has_the_same_colour_in_every_figure(run):
    plots = {plot.title: plot for plot in figures_of([described(run)])}
    scatter = plots["Embeddings of held-out windows"].figures["PCA, by task"]["data"]
    curves = plots["Experts: success while they learn"].figures[""]["data"]
    assert {t["name"]: t["marker"]["color"] for t in scatter} == {
        t["name"]: t["marker"]["color"] for t in curves
    }


def test_an_unfinished_run_says_what_is_missing(tmp_path):
    run = finished_run(tmp_path / "half", without=("film", "probe", "summary", "evaluate"))
    (run / "films" / "collective" / MIRROR / "seed_0.partial").mkdir(parents=True)
    (run / "films" / "collective" / MIRROR / "seed_0.partial" / ".intent.json").write_text("{}")
    text = page([described(run)])
    assert "This run is not finished" in shown(text)
    assert f"begun: film collective {MIRROR}" in shown(text)
    assert "Success" not in titles(text)
    assert "Learning" in titles(text)


@pytest.mark.parametrize(("until", "flag"), [("collective", " --until collective"), ("end", "")])
def test_the_command_for_the_same_again_goes_as_far_as_the_run(tmp_path, until, flag):
    run = finished_run(tmp_path / "far")
    assert f"config.yaml{flag}\n" in "\n".join(dict(_facts(described(run, until))).values()) + "\n"


def test_nothing_unsealed_and_nothing_damaged_is_shown(tmp_path):
    run = finished_run(tmp_path / "bad")
    log = run / "model" / MIRROR / "seed_0" / "metrics.jsonl"
    log.write_text(log.read_text().replace("1000", "1001"))
    unsealed = run / "evaluation" / "expert" / "toy-turn" / "seed_0.partial"
    unsealed.mkdir(parents=True)
    (unsealed / "summary.json").write_text(json.dumps({"policy": "expert", "task": "toy-turn"}))
    (run / "evaluation" / "sac" / MIRROR / "seed_0" / "summary.json").unlink()
    text = shown(page([described(run)]))
    assert f"model/{MIRROR}/seed_0/metrics.jsonl is damaged: its checksum does not fit" in text
    assert f"evaluation/sac/{MIRROR}/seed_0/summary.json is missing" in text
    assert "toy-turn" not in text


@pytest.mark.parametrize("content", ["tasks: [", "just text", "tasks: [no-such-task]"])
def test_a_run_with_odd_settings_has_a_page(tmp_path, content):
    run = finished_run(tmp_path / "odd")
    (run / "config.yaml").write_text(content)
    assert "Success" in titles(page([described(run)]))


def test_students_of_two_collectives_are_no_seeds_of_one_strategy(tmp_path):
    for collective, steps in (("mt10/", 6_000), ("mt50/", 30_000), ("", 50_000)):
        strategy = "finetune@8" if collective else "none"
        out = f"comparison/{collective}{strategy}/{REACH}/seed_1"
        log = [{"step": steps, "eval/success": 1.0}]
        about = {"task": REACH, "success": 1.0, "env_steps": steps}
        stage = SimpleNamespace(out=out, kind="train-student", settings={}, inputs=())
        seal(tmp_path, stage, about, metrics__jsonl=log)
    [plot] = studies.section(RunFolder(tmp_path)).blocks
    assert plot.table.rows == [
        ["plain SAC", "1.00", "50,000", "1"],
        ["finetune of mt10, 8 updates a step", "1.00", "6,000", "1"],
        ["finetune of mt50, 8 updates a step", "1.00", "30,000", "1"],
    ]


def test_names_from_outside_are_text(tmp_path):
    run = finished_run(tmp_path / "<b>bold<")
    text = page([described(run)])
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold" in text


def test_one_seed_and_toy_tasks_are_said_to_be_so(text):
    assert "One training seed" in shown(text)
    assert "Toy tasks" in shown(text)
    assert "50 goals a task: two rates near one half may differ by 20% by chance" in shown(text)


def test_several_runs_are_shown_side_by_side_with_what_differs(tmp_path):
    runs = [finished_run(tmp_path / f"demo_seed_{seed}", seed=seed) for seed in range(3)]
    text = page([described(run) for run in runs])
    assert Outline(text).open == []
    assert titles(text)[0] == "Side by side"
    assert "seed 0 1 2" in shown(text)  # the row of the setting
    assert "training seed" not in shown(text).split("What not to conclude")[-1]


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_writes_the_page_and_says_where(run, tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert main.dispatch(["report", str(run)]) == 0
    assert (run / REPORT).read_text().startswith("<!DOCTYPE html>")
    assert REPORT in capsys.readouterr().out
    assert opened == []
    out = tmp_path / "both.html"
    other = finished_run(tmp_path / "other")
    assert main.dispatch(["report", str(run), str(other), "--out", str(out), "--open"]) == 0
    assert "Side by side" in out.read_text()
    assert opened == [out.resolve().as_uri()]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["nowhere"], "there is no run 'nowhere'"),
        (["."], "holds no run"),
        (["a", "a"], "names a run twice"),
        ([], "RUN"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, monkeypatch, capsys, line, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = main.dispatch(["report", *line])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
