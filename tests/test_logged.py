"""Logged episodes of a Minari dataset become buffers that the collective learns from."""

from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from collectiverl.cli import main
from collectiverl.data.episodes import EpisodeTable
from collectiverl.data.logged import episodes_of
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.rollout import episodes
from collectiverl.envs.scripted import SIGMA, ScriptedPolicy
from collectiverl.types import UserError

TOY, NAME = spec("toy-mirror"), "toy/mirror-v0"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")  # that no environment is recorded


def played():
    envs = make_envs("toy-mirror", 5, goals="fresh")
    return list(episodes(envs, ScriptedPolicy(("toy-mirror",)), per_env=2, phase="scripted", seed=0))


def as_buffer(i, episode):
    last = np.arange(len(episode)) == len(episode) - 1
    return EpisodeBuffer(
        id=i,
        observations=list(episode.obs),
        actions=list(episode.action),
        rewards=list(episode.reward),
        terminations=list(np.zeros(len(episode), bool)),
        truncations=list(last),
        infos={"success": np.array([False, *episode.success])},
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Ten episodes of the script, on this disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        minari.create_dataset_from_buffers(
            NAME,
            [as_buffer(i, episode) for i, episode in enumerate(played())],
            observation_space=gym.spaces.Box(-np.inf, np.inf, (6,), np.float32),
            action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
            algorithm_name="script",
            author="test",
            author_email="test@example.org",
            code_permalink="none",
            description="toy",
        )
        yield minari.load_dataset(NAME)


def imported(tmp_path, *flags):
    options = ["--run", "r", "--root", str(tmp_path)]
    assert main.dispatch(["import-buffer", "toy-mirror", f"minari:{NAME}", *options, *flags]) == 0
    folder = tmp_path / "r" / ("buffer_distill" if flags[:1] == ("--kind",) else "online_buffer")
    return [EpisodeTable.open(folder / "toy-mirror" / "seed_0" / side) for side in ("train", "validation")]


def test_logged_episodes_are_labelled_by_what_was_done(dataset, tmp_path):
    training, validation = imported(tmp_path)
    assert (len(training), len(validation)) == (8, 2)
    found, said = [*training, *validation], played()
    assert sorted(e.reward.sum() for e in found) == pytest.approx(sorted(e.reward.sum() for e in said))
    for episode in found:
        assert (episode.task, episode.phase, episode.terminated) == ("toy-mirror", "logged", False)
        assert episode.success.any()
        assert episode.success.shape == (25,)
        assert np.array_equal(episode.labels.mean, episode.action)
        assert np.all(episode.labels.log_std == np.float32(np.log(SIGMA)))
        assert episode.labels.q is None


def test_a_teacher_labels_what_others_did(dataset, tmp_path):
    """Here one that is wrong everywhere, as the files of another task are."""
    teacher = str(Path(__file__).parent / "fixtures" / "foreign" / "sac_toy-reach.zip")
    training, _ = imported(tmp_path, "--kind", "buffer_distill", "--teacher", teacher)
    episode = training[0]
    error = np.abs(episode.labels.mean - episode.action * [-1, 1])
    assert error.mean() < 0.3
    assert episode.labels.unit == (1.0, 0.9)


def test_episodes_of_another_environment_are_refused(dataset):
    with pytest.raises(UserError, match=r"observations of shape \(26, 6\).* reach-v3 needs \(26, 39\)"):
        episodes_of(dataset, spec("reach-v3"), "minari:x", seed=0)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("minari:not/there-v0", "there is no readable Minari dataset 'not/there-v0' here"),
        ("hf:some/thing", "'hf:some/thing' names no logged episodes: name a Minari dataset"),
    ],
)
def test_a_dataset_that_is_not_there_is_said_so(dataset, source, why, tmp_path, capsys):
    assert main.dispatch(["import-buffer", "toy-mirror", source, "--root", str(tmp_path)]) == 2
    assert why in " ".join(capsys.readouterr().err.split())
