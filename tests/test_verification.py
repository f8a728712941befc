"""`verify` reads every file; `run` on a finished run notices what was touched; unlisted episodes are not there."""

import json
import os
import shutil

import numpy as np
import pytest

from collectiverl.artifacts import checkpoints, manifests, sealed, tensors
from collectiverl.artifacts.files import sha256
from collectiverl.cli import main
from collectiverl.data.episodes import EpisodeTable, write
from collectiverl.stages.base import Stage, execute, is_done, summary
from collectiverl.stages.verification import verify_all
from collectiverl.types import Notice, UserError
from test_episodes import some_episodes


def work(work):
    write(work.folder / "episodes", some_episodes(3))
    tensors.save_arrays(work.folder / "agent.safetensors", {"w": np.arange(4.0)})
    return {"found": 1}


def stage(out="model"):
    return Stage(kind="test", subject="", out=out, function=work, config={})


@pytest.fixture
def run(tmp_path):
    """A run with one finished stage, and one that was interrupted behind its second checkpoint."""
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    execute(tmp_path, stage())
    later = tmp_path / "student.partial"
    later.mkdir()
    for content in ("first", "second"):
        with checkpoints.checkpoint(later) as folder:
            (folder / "state").write_text(content)
    return tmp_path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def verified(run, capsys):
    code = main.dispatch(["verify", str(run)])
    shown = capsys.readouterr()
    return code, " ".join((shown.out + shown.err).split())


def test_a_whole_run_is_whole(run, capsys):
    code, shown = verified(run, capsys)
    assert code == 0
    assert "damaged" in shown
    assert not any(one.wrong for one in verify_all(run))
    assert [one.kind for one in verify_all(run)] == ["settings", "test", "interrupted"]
    assert len(list(verify_all(run / "model"))) == 1


FILES = ("config.yaml", "model/manifest.json", "model/summary.json", "model/agent.safetensors")
EPISODES = "model/episodes/episodes-00000.h5"
CHECKPOINTS = ("student.partial/checkpoint/state", "student.partial/checkpoint.old/files.json")


@pytest.mark.parametrize("name", [*FILES[1:], EPISODES, *CHECKPOINTS])
def test_verify_finds_damage_of_any_file_that_keeps_its_size_and_time(run, capsys, name):
    before = (run / name).stat()
    flip(run / name)
    os.utime(run / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, shown = verified(run, capsys)
    assert code == 2
    assert "1 of 3 are damaged" in shown


def test_verify_finds_what_is_missing_unlisted_or_not_finite(run, capsys):
    (run / "config.yaml").write_text("a: &a [*a]")
    shutil.copy(run / EPISODES, run / "model/episodes/episodes-00009.h5")
    (run / "student.partial/checkpoint/state").unlink()
    weights = run / "model/agent.safetensors"
    tensors.save_arrays(weights, {"w": np.array([np.nan])})
    record = sealed.manifest(run / "model")
    manifests.write_manifest(run / "model", record, record["files"] | {"agent.safetensors": sha256(weights)})
    code, shown = verified(run, capsys)
    assert code == 2
    for said in (
        "an anchor or an alias",
        "episodes-00009.h5 is not listed",
        "state is missing",
        "not finite (w)",
    ):
        assert said in shown
    assert "3 of 3 are damaged" in shown


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no result: name the folder of a run"):
        list(verify_all(tmp_path))


@pytest.mark.parametrize("name", [*FILES[1:], EPISODES])
def test_a_finished_stage_that_was_touched_is_not_relied_on(run, name):
    assert is_done(run, stage())
    flip(run / name)
    with pytest.raises(UserError, match=r"delete .*model and run its stage again"):
        is_done(run, stage())


def test_unlisted_episodes_are_reported_and_not_read(run):
    shutil.copy(run / EPISODES, run / "model/episodes/episodes-00009.h5")
    with pytest.warns(Notice, match=r"episodes-00009\.h5 is no part of this result"):
        assert is_done(run, stage())
    assert len(EpisodeTable.open(run / "model" / "episodes")) == 3


def test_an_unlisted_summary_is_no_summary(run):
    record = json.loads((run / "model/manifest.json").read_text())
    files = {name: hashed for name, hashed in record["files"].items() if name != "summary.json"}
    manifests.write_manifest(run / "model", record, files)
    with (
        pytest.warns(Notice),
        pytest.raises(UserError, match=r"has no summary\.json that its manifest lists"),
    ):
        summary(run / "model")
