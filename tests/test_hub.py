"""Policies go to the Hugging Face Hub and come from it: against a stand-in that speaks its protocol."""

import json
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from huggingface_hub import ModelCard

from collectiverl import load_policy
from collectiverl.artifacts.hub import address
from collectiverl.cli import main
from collectiverl.policies import SHIPPED, origin_of, tasks_of
from collectiverl.types import UserError
from hub_server import Hub, pretending, sha

OBS = np.random.default_rng(0).normal(size=(3, 39)).astype(np.float32)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    with pretending(monkeypatch, tmp_path / "cache") as server:
        yield server


def test_what_is_published_is_loaded_and_acts_as_the_original(hub, tmp_path, capsys):
    folder = SHIPPED / "mt10-hidden" / "collective"
    assert main.dispatch(["publish", str(folder), "me/hidden", "--private"]) == 0
    assert f"me/hidden/commit/{sha(1)}" in "".join(capsys.readouterr().out.split())
    assert hub.private == {"me/hidden"}
    assert set(hub.repos["me/hidden"][0]) == {path.name for path in folder.iterdir()}
    for name in ("hf:me/hidden", f"hf:me/hidden@{sha(1)}"):
        np.testing.assert_array_equal(
            load_policy(name).eval_action(OBS), load_policy("mt10-hidden").eval_action(OBS)
        )
        assert tasks_of(name) == tasks_of("mt10-hidden")
        assert origin_of(name) == origin_of("mt10-hidden")


def test_an_expert_is_loaded_by_its_folder_and_a_revision_stays_what_it_was(hub, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(SHIPPED / "mt10" / "push-v3", given / "push-v3")
    (given / "README.md").write_text("# Experts\n")
    for task in ("push-v3", "reach-v3"):
        shutil.rmtree(given / "push-v3")
        shutil.copytree(SHIPPED / "mt10" / task, given / "push-v3")  # the second commit is another policy
        assert main.dispatch(["publish", str(given), "me/experts"]) == 0
    for revision, task in (("", "reach"), (f"@{sha(1)}", "push")):
        actions = load_policy(f"hf:me/experts/push{revision}").eval_action(OBS)
        np.testing.assert_array_equal(actions, load_policy(f"mt10/{task}").eval_action(OBS))


def test_what_was_changed_on_the_way_is_refused(hub, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(SHIPPED / "mt10-hidden" / "collective", given)
    about = json.loads((given / "collective.json").read_text())
    (given / "collective.json").write_text(json.dumps(about | {"goals_hidden": False}))
    assert main.dispatch(["publish", str(given), "me/changed"]) == 0
    with pytest.raises(UserError, match="its sha256 does not fit"):
        load_policy("hf:me/changed")


def test_what_is_not_there_is_said(hub, tmp_path, capsys, monkeypatch):
    with pytest.raises(UserError, match="no model me/nothing that you can read"):
        load_policy("hf:me/nothing")
    assert main.dispatch(["publish", str(SHIPPED / "mt10-hidden" / "collective"), "me/hidden"]) == 0
    with pytest.raises(UserError, match="no model me/hidden at v9"):
        load_policy("hf:me/hidden@v9")
    assert main.dispatch(["publish", str(tmp_path), "me/hidden"]) == 2
    assert "README.md is not there" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert main.dispatch(["publish", str(SHIPPED / "mt10-hidden" / "collective"), "me/hidden"]) == 2
    assert "hf auth login" in " ".join(capsys.readouterr().err.split())
    assert main.dispatch(["publish", str(tmp_path), "hidden"]) == 2
    assert "owner/name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mt10", None),
        ("hf:me/it", ("me/it", None, "")),
        ("hf:me/it@v1", ("me/it", "v1", "")),
        ("hf:me/it/push", ("me/it", None, "push")),
        ("hf:me/it/push@v1", ("me/it", "v1", "push")),
    ],
)
def test_an_address_has_a_repository_a_revision_and_a_folder(name, expected):
    assert address(name) == expected


@pytest.mark.parametrize("name", ["hf:", "hf:me", "hf:/it", "hf:me/"])
def test_an_address_without_a_repository_is_refused(name):
    with pytest.raises(UserError, match="names no repository"):
        address(name)


@pytest.mark.parametrize("name", ["mt10", "mt10/collective", "mt10-hidden/collective", "mt50/collective"])
def test_the_hub_reads_the_figures_of_a_card(name):
    card = ModelCard.load(SHIPPED / name / "README.md")
    results = {(r.dataset_type, r.metric_type): r.metric_value for r in card.data.eval_results}
    found = json.loads((SHIPPED / name / ("experts.json" if name == "mt10" else "figures.json")).read_text())
    rows = (
        found["policies"]
        if name == "mt10"
        else [r for r in found[0]["policies"] if r["policy"] == "collective"]
    )
    assert len(results) == 2 * len(rows)
    if name == "mt10" or len(found) == 1:  # otherwise they are means over seeds
        for row in rows:
            for key in ("success_any", "success_last"):
                assert results[row["task"], key] == pytest.approx(row[key], abs=1e-3)
    assert card.data.library_name == "collectiverl"
