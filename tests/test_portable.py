"""Policies for other programs: the file acts as the original does, with its memory, without this package."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from huggingface_hub import ModelCard

from collectiverl.cli import main
from collectiverl.collective.conditioning import CONDITIONINGS
from collectiverl.collective.policy import Collective, CollectivePolicy
from collectiverl.collective.probing import ProbingConfig
from collectiverl.exchange import portable
from collectiverl.exchange.onnx_graph import to_onnx
from collectiverl.exchange.step import step_of
from collectiverl.nn.attention import AS_MATRICES
from collectiverl.policies import load_policy
from collectiverl.types import StageFailed, UserError
from toy_buffers import OWN, any_collective, any_encoder

ROOT = Path(__file__).parents[1]


@cache
def collective(name: str) -> Collective:
    """One of each conditioning, and of each kind of encoder."""
    if name in CONDITIONINGS:
        return any_collective(name)
    config = {
        "gru": replace(OWN, kind="gru", layers=2),
        "lstm": replace(OWN, kind="lstm"),
        "interleaved": replace(OWN, layout="interleaved"),
        "no rewards": replace(OWN, rewards=False),
        "deep": replace(OWN, layers=2, window=4),
        "wide heads": replace(OWN, dim=2 * AS_MATRICES),
    }[name]
    return eqx.tree_at(lambda c: c.conditioning.encoder, any_collective(), any_encoder(config))


KINDS = (*CONDITIONINGS, "gru", "lstm", "interleaved", "deep", "no rewards")


@pytest.mark.parametrize("name", KINDS)
def test_onnxruntime_acts_as_the_original_whatever_it_is_conditioned_on(name):
    policy = CollectivePolicy(collective(name))
    step, (make, open_) = step_of(policy), portable.FORMATS["onnx"]
    assert portable.largest_difference(policy, step, open_(make(step, {}))) <= portable.TOLERANCE


def test_it_is_probed_and_sees_no_goals_as_the_original():
    hidden = any_collective(goals_hidden=True)
    probing = ProbingConfig(amplitude=0.3)
    policy = CollectivePolicy(eqx.tree_at(lambda c: c.agent, replace_static(hidden, probing), hidden.agent))
    step, (make, open_) = step_of(policy), portable.FORMATS["onnx"]
    assert portable.largest_difference(policy, step, open_(make(step, {}))) <= portable.TOLERANCE


def replace_static(collective: Collective, probing: ProbingConfig) -> Collective:
    return Collective(
        agent=collective.agent,
        conditioning=collective.conditioning,
        scales=collective.scales,
        tasks=collective.tasks,
        spec=collective.spec,
        goals_hidden=collective.goals_hidden,
        probing=probing,
    )


@pytest.mark.parametrize("format", ["onnx", "jax"])
def test_a_collective_of_the_package_is_exported_by_its_command(format, tmp_path, capsys):
    out = tmp_path / "given"
    assert main.dispatch(["export", "mt10-hidden", "--format", format, "--out", str(out)]) == 0
    about = json.loads((out / "policy.json").read_text())
    assert about["checked"]["largest_difference"] <= 1e-5
    assert about["goals_hidden"]
    assert about["origin"]["files"]
    assert set(about["tasks"]) == set(load_policy("mt10-hidden").collective.tasks)
    assert "by" in capsys.readouterr().out
    card = ModelCard.load(out / "README.md")
    assert format in card.data.tags
    names: dict = {}
    block = card.content.split("```python\n")[1].split("```")[0]
    exec(block.replace(f'"policy.{format}"', repr(str(out / f"policy.{format}"))), names)
    assert np.shape(names["action"]) == (1, 4)
    assert main.dispatch(["export", "mt10", "--format", format, "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_any_number_of_environments_and_a_context_of_zeros_begins(tmp_path):
    [about] = portable.export({"": "mt10/push"}, tmp_path / "out", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "out" / about["file"])
    obs = np.random.default_rng(0).normal(size=(5, 39)).astype(np.float32)
    inputs = {"observation": obs, "reward": np.zeros(5, np.float32), "context": np.zeros((5, 1), np.float32)}
    action, context = session.run(None, inputs)
    np.testing.assert_allclose(action, load_policy("mt10/push").eval_action(obs), atol=1e-5)
    np.testing.assert_array_equal(context, 1)
    model = onnx.load(tmp_path / "out" / about["file"])
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == {"tasks": ["push-v3"]}


def test_the_example_plays_metaworld_with_onnxruntime_and_without_jax(tmp_path):
    portable.export({"": "mt10"}, tmp_path / "given", "onnx")
    script = ROOT / "examples" / "onnx_policy.py"
    assert len(script.read_text().split('"""')[2].strip().splitlines()) <= 24
    args = [str(script), str(tmp_path / "given" / "policy.onnx"), "drawer-close-v3"]
    hidden = "import sys, runpy; sys.modules.update(jax=None, collectiverl=None); sys.argv = sys.argv[1:]; "
    code = f"{hidden}runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "success" in done.stdout


@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
def test_a_file_that_acts_differently_is_not_written(tmp_path, monkeypatch, value):
    wrong = lambda data: lambda o, r, c: (np.full((3, 4), value), c)  # noqa: E731
    monkeypatch.setitem(portable.FORMATS, "onnx", portable.FORMATS["onnx"]._replace(open=wrong))
    with pytest.raises(StageFailed, match="differs from the original"):
        portable.export({"": "mt10/push"}, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_one_nan_among_many_actions_is_a_difference():
    policy = load_policy("mt10/push")
    step, (make, open_) = step_of(policy), portable.FORMATS["onnx"]
    play, number = open_(make(step, {})), iter(range(portable.CHECKED))

    def once_nan(*inputs):
        action, context = play(*inputs)
        if next(number) == portable.CHECKED // 2:
            action[0, 0] = np.nan
        return action, context

    assert np.isnan(portable.largest_difference(policy, step, once_nan))


def test_if_one_of_many_acts_differently_none_is_written(tmp_path, monkeypatch):
    found = iter([0.0, 1.0])
    monkeypatch.setattr(portable, "largest_difference", lambda *_: next(found))
    with pytest.raises(StageFailed, match=r"mt10/reach.*nothing is written"):
        portable.export({"push": "mt10/push", "reach": "mt10/reach"}, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_what_has_no_translation_is_named():
    with pytest.raises(UserError, match="cumsum"):
        to_onnx(lambda x: [jnp.cumsum(x, axis=1)], {"x": (3,)}, ("y",), {})
    with pytest.raises(UserError, match="ScriptedPolicy is not a network"):
        step_of(load_policy("scripted:push"))


@pytest.mark.parametrize(
    "flags", [("--what", "experts"), ("--format", "onnx"), ("--what", "collective", "--format", "onnx")]
)
def test_seeds_that_change_nothing_are_refused(flags, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main.dispatch(["export", *flags, "--seeds", "other", "--root", str(tmp_path), "--out", str(out)]) == 2
    )
    assert "--seeds: is for --what collective" in " ".join(capsys.readouterr().err.split())


def test_a_folder_needs_a_run(tmp_path, capsys):
    assert main.dispatch(["export", "mt10", "--out", str(tmp_path / "out")]) == 2
    assert "--format" in capsys.readouterr().err
    assert (
        main.dispatch(["export", "--format", "onnx", "--run", "none", "--root", str(tmp_path), "--out", "o"])
        == 2
    )
    assert "name a run with --run, or a policy" in capsys.readouterr().err
