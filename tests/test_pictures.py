"""Pictures are PNGs of the size they say, and show every task, however many there are."""

import struct
from functools import partial

import numpy as np
import pytest

from collectiverl.representation import pictures
from collectiverl.representation.goals import Course
from collectiverl.representation.probe import Points


def size(path) -> tuple[int, int]:
    """Width and height in pixels, from a PNG's own header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


def some_points(tasks: int, dim: int = 6, count: int = 120) -> Points:
    rng = np.random.default_rng(0)
    kind = np.arange(count) % tasks
    z = rng.normal(size=(tasks, dim))[kind] + 0.1 * rng.normal(size=(count, dim))
    names = np.array([f"task-{i:02d}" for i in range(tasks)])
    return Points(z.astype(np.float32), names[kind], rng.normal(size=count), np.arange(count), kind)


def some_numbers(tasks: int) -> dict:
    accuracy = {"linear_probe": {"1": 0.5, "20": 1.0, "anywhere": 0.9}}
    return {
        **accuracy,
        "raw": accuracy,
        "raw_window": accuracy,
        "chance": 1 / tasks,
        "task_names": [f"task-{i:02d}" for i in range(tasks)],
        "confusion": dict.fromkeys(accuracy["linear_probe"], np.eye(tasks).tolist()),
    }


@pytest.mark.parametrize(("tasks", "place"), [(1, partial(pictures.tsne, seed=0)), (50, pictures.pca)])
def test_points_are_drawn_in_four_panels(tmp_path, tasks, place):
    points, path = some_points(tasks), tmp_path / "points.png"
    pictures.draw_points(path, points, place(points.z))
    assert size(path) == tuple(round(pictures.DPI * inches) for inches in pictures.POINTS_SIZE)


@pytest.mark.parametrize("tasks", [1, 2, 50])
def test_accuracy_is_drawn_beside_the_confusions(tmp_path, tasks):
    pictures.draw_accuracy(tmp_path / "accuracy.png", some_numbers(tasks))
    expected = tuple(int(pictures.DPI * inches) for inches in pictures.accuracy_size(tasks))
    assert size(tmp_path / "accuracy.png") == expected


@pytest.mark.parametrize("dim", [1, 3])
def test_goals_are_drawn_beside_an_episode(tmp_path, dim):
    rng = np.random.default_rng(0)
    course = Course("task-00", rng.normal(size=(9, dim)), np.ones(dim), rng.normal(size=(9, dim)))
    numbers = {f"task-{i:02d}": {"chance": 0.2, "error": {"1": 0.2, "5": 0.1}} for i in range(12)}
    pictures.draw_goals(tmp_path / "goals.png", numbers, course)
    assert size(tmp_path / "goals.png") == tuple(
        round(pictures.DPI * inches) for inches in pictures.GOALS_SIZE
    )


def test_fifty_tasks_are_fifty_styles():
    assert len({pictures.style(i) for i in range(100)}) == 100


def test_planes_are_the_same_for_the_same_seed_and_keep_what_there_is():
    z = some_points(3).z
    assert np.array_equal(pictures.tsne(z, 0).xy, pictures.tsne(z, 0).xy)
    line = pictures.pca(z[:, :1]).xy  # an embedding of one number
    np.testing.assert_allclose(np.abs(line[:, 0]), np.abs(z[:, 0] - z[:, 0].mean()), rtol=1e-4, atol=1e-6)
    assert (line[:, 1] == 0).all()
    x = z - z.mean(axis=0)
    directions = np.linalg.svd(x, full_matrices=False)[2][:2]
    np.testing.assert_allclose(np.abs(pictures.pca(z).xy), np.abs(x @ directions.T), rtol=1e-3, atol=1e-4)
