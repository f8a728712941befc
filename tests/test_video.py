"""Films."""

import av
import numpy as np
import pytest

from collectiverl.envs.make import make_envs
from collectiverl.envs.metaworld.scene import UPSIDE_DOWN, MetaworldScene
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.toy import HORIZON, ToyScene
from collectiverl.evaluation.video import SUCCESS_GREEN, VideoConfig, record_video
from collectiverl.types import ConfigError, UserError

TOY, SAWYER = "toy-reach", "reach-v3"
SMALL = VideoConfig(width=64, height=64)


def film(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.average_rate, [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.fixture(scope="module")
def envs():
    made = make_envs(SAWYER, 1, goals=(0,), order="sequential", backend="metaworld")
    try:
        MetaworldScene(made, "corner2", 16, 16).close()
    except UserError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def test_a_film_shows_every_step_of_its_episodes(tmp_path):
    config = VideoConfig(width=64, height=48, episodes=2)
    rate, frames = film(record_video(ScriptedPolicy([TOY]), TOY, tmp_path / "new" / "a.mp4", config))
    assert len(frames) == 2 * HORIZON + 1  # and the second episode's first observation
    assert frames[0].shape == (48, 64, 3)
    assert rate == 10


def test_fewer_frames_play_in_the_same_time_and_keep_the_last(tmp_path):
    config = VideoConfig(width=64, height=64, fps=4)
    rate, frames = film(record_video(ScriptedPolicy([TOY]), TOY, tmp_path / "a.mp4", config))
    assert rate * 3 == 10
    assert len(frames) == 9  # steps 0, 3, ..., 24


def test_success_is_framed_in_green(tmp_path):
    for mark in (True, False):
        config = VideoConfig(width=64, height=64, mark_success=mark)
        _, frames = film(record_video(ScriptedPolicy([TOY]), TOY, tmp_path / "a.mp4", config))
        assert (np.abs(frames[-1][0].mean(0) - SUCCESS_GREEN).max() < 30) == mark


def test_a_film_is_whole_or_absent(tmp_path):
    class Fails(ScriptedPolicy):
        def observe(self, rewards):
            raise RuntimeError("policy failed")

    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(RuntimeError, match="policy failed"):
        record_video(Fails([TOY]), TOY, path, SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"earlier"


def test_the_toy_is_drawn_where_it_is():
    frame = ToyScene(110, 110).draw(np.array([-0.5, 0.5, 0, 0, 0.5, -0.5], np.float32))
    assert tuple(frame[30, 30]) == (40, 60, 120)  # the point: left, above
    assert tuple(frame[80, 80]) == (120, 200, 120)  # the goal: right, below


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"width": 65}, "65 must be even and at least 16, for H.264"),
        ({"height": 0}, "0 must be even and at least 16, for H.264"),
        ({"episodes": 0}, "0 must be at least 1"),
        ({"fps": 0}, "0 must be at least 1"),
    ],
)
def test_nonsense_is_refused_by_name(settings, why):
    with pytest.raises(ConfigError) as refused:
        VideoConfig(**settings)
    assert (refused.value.field, refused.value.why) == (*settings, why)


@pytest.mark.parametrize(("task", "has"), [(TOY, "above"), (SAWYER, "corner2, corner, corner3")])
def test_a_camera_that_the_suite_does_not_have_is_refused(task, has, tmp_path):
    with pytest.raises(ConfigError, match=f"camera: below is none of {has}"):
        record_video(ScriptedPolicy([task]), task, tmp_path / "a.mp4", VideoConfig(camera="below"))


def arm(scene):
    """Where the red arm is in the picture: row and column of its middle."""
    red, green, blue = np.moveaxis(scene.draw(np.zeros(39)).astype(int), -1, 0)
    return np.argwhere((red > 2 * green) & (red > 2 * blue)).mean(axis=0)


@pytest.mark.parametrize("camera", UPSIDE_DOWN)
def test_up_is_up_and_right_is_right(envs, camera):
    envs.reset(0)
    scene = MetaworldScene(envs, camera, 160, 160)
    _, data = envs.mujoco_state(0)
    right = -data.camera(camera).xmat.reshape(3, 3)[0, 0]  # of the world's x, once the camera is turned over
    start = arm(scene)
    for _ in range(40):
        envs.step(np.array([[np.sign(right), 0, 0, 0]], np.float32))
    sideways = arm(scene)
    for _ in range(40):
        envs.step(np.array([[0, 0, 1, 0]], np.float32))
    raised = arm(scene)
    scene.close()
    assert sideways[1] > start[1]
    assert raised[0] < sideways[0]


def test_metaworld_is_filmed_in_real_time(envs, tmp_path):
    config = VideoConfig(width=64, height=64, fps=4)
    rate, frames = film(record_video(ScriptedPolicy([SAWYER]), SAWYER, tmp_path / "a.mp4", config))
    assert (rate, len(frames)) == (4, 26)  # 500 steps, 80 a second: steps 0, 20, ..., 480 and the last
    assert np.abs(frames[-1].astype(int) - frames[0]).mean() > 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # MuJoCo's half-made Renderer
def test_without_egl_the_user_is_told_what_to_install(envs, monkeypatch):
    from mujoco import egl, gl_context

    def fails(*_):
        raise ImportError("Cannot initialize a EGL device display")

    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl_context, "GLContext", None)
    monkeypatch.setattr(egl, "GLContext", fails)
    with pytest.raises(UserError, match=r"EGL device display.*libegl1"):
        MetaworldScene(envs, "corner2", 64, 64)
