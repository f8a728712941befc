"""Films."""

import resource
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from collectiverl.envs.make import make_envs
from collectiverl.envs.metaworld.scene import UPSIDE_DOWN, MetaworldScene
from collectiverl.envs.rollout import episodes
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.toy import HORIZON, ToyScene
from collectiverl.evaluation.encode import encoder, read_frames
from collectiverl.evaluation.grid import GAP, HOLD, columns_for, write_grid
from collectiverl.evaluation.overlay import SUCCESS_GREEN, written
from collectiverl.evaluation.video import VideoConfig, record_video, watched
from collectiverl.policies import load_policy
from collectiverl.types import ConfigError, UserError

TOY, SAWYER = "toy-reach", "reach-v3"
SMALL = VideoConfig(width=64, height=64)


def film(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.average_rate, [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.fixture(scope="module")
def envs():
    made = make_envs(SAWYER, 1, goals=(0,), order="sequential", backend="metaworld", drawn=True)
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


def test_a_film_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = record_video(ScriptedPolicy([TOY]), TOY, Path(":smile:") / "a:b.mp4", SMALL)
    assert len(list(read_frames(path))) == HORIZON


@contextmanager
def full_disk(room):
    """No file may have more bytes than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("missing", [1, 500])
def test_a_disk_that_is_full_is_noticed(tmp_path, suffix, missing):
    path = tmp_path / "film"
    frames = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3)).astype(np.uint8)

    def record():
        with encoder(path, suffix, Fraction(20), "noise") as write:
            for frame in frames:
                write(frame)

    record()
    with full_disk(path.stat().st_size - missing), pytest.raises(OSError, match="too large"):
        record()


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


# -- what a film shows, and how fast ------------------------------------------------------------------------


def test_a_film_at_twice_the_speed_takes_half_the_time(tmp_path):
    for speed in (1.0, 2.0):
        config = VideoConfig(width=64, height=64, speed=speed)
        rate, frames = film(record_video(ScriptedPolicy([TOY]), TOY, tmp_path / "a.mp4", config))
        assert len(frames) / rate == HORIZON / 10 / speed


def test_a_film_may_end_some_time_after_success(tmp_path):
    whole, cut = (
        film(
            record_video(
                ScriptedPolicy([TOY]),
                TOY,
                tmp_path / "a.mp4",
                VideoConfig(width=64, height=64, after_success=after, overlay=False, mark_success=False),
                goals=(3,),
            )
        )[1]
        for after in (None, 0.3)
    )
    envs = make_envs(TOY, 1, goals=(3,), order="sequential")
    [episode] = episodes(envs, ScriptedPolicy([TOY]), per_env=1, phase="scripted", seed=0)
    assert len(whole) == HORIZON
    assert len(cut) == int(episode.success.argmax()) + 1 + 3  # 10 steps a second
    assert np.abs(cut[-1].astype(int) - whole[len(cut) - 1]).mean() < 1


def test_task_step_success_and_z_are_written_into_the_picture():
    plain = np.full((120, 160, 3), 90, np.uint8)
    shown = written(plain, ("reach  goal 3", "step 1"), np.array([-3.0, 0.0, 3.0]))
    assert (plain == 90).all()
    assert (shown[60:100] == plain[60:100]).all()  # between text and z
    assert (written(plain, ("reach  goal 3", "step 2"), None)[:30] != shown[:30]).any()
    below, zero, above = (shown[-1, x].astype(int) for x in (10, 80, 150))
    assert below[0] > below[2] + 50  # orange
    assert above[2] > above[0] + 50  # blue
    assert np.ptp(zero) == 0


def test_a_collective_that_is_watched_acts_as_it_did():
    obs = np.random.default_rng(0).normal(size=(3, 1, 39)).astype(np.float32)
    plain = load_policy("mt10")
    seen, embedding = watched(load_policy("mt10"))
    for policy in (plain, seen):
        policy.reset(np.ones(1, bool))
    assert embedding() is None
    for row in obs:
        assert np.array_equal(plain.eval_action(row), seen.eval_action(row))
        assert embedding().shape == (plain.collective.condition_dim,)
    script = ScriptedPolicy([TOY])
    assert watched(script)[0] is script


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_films_side_by_side_play_to_the_longest_and_keep_their_last_pictures(tmp_path, suffix):
    tiles = []
    for i, count in enumerate((3, 6, 2)):
        tiles.append(tmp_path / f"{i}.mp4")
        with encoder(tiles[-1], ".mp4", Fraction(10), "", crf=1) as write:
            for _ in range(count):
                write(np.full((32, 32, 3), 60 + 60 * i, np.uint8))
    path = tmp_path / f"whole{suffix}"
    write_grid(tiles, path, suffix, Fraction(10), "")
    with av.open(str(path)) as whole:
        frames = [frame.to_ndarray(format="rgb24") for frame in whole.decode(video=0)]
        seconds = whole.duration / av.time_base
    assert seconds == pytest.approx((6 + 10 * HOLD) / 10, abs=0.11)
    last = frames[-1].astype(int)
    assert last.shape == (32, 3 * 32 + 2 * GAP, 3)
    assert [round(last[16, 16 + i * (32 + GAP), 0], -1) for i in range(3)] == [60, 120, 180]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (6, 3), (10, 5), (50, 10)])
def test_a_grid_leaves_few_places_empty(count, columns):
    assert columns_for(count) == columns


@pytest.mark.parametrize("name", ["a.avi", "a"])
def test_a_kind_of_film_that_cannot_be_written_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"choose one of .mp4, .gif"):
        record_video(ScriptedPolicy([TOY]), TOY, tmp_path / name, SMALL)
