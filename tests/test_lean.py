"""Models without what is only seen play as the originals do, bit for bit."""

import subprocess
import sys

import numpy as np
import pytest

from collectiverl.envs.metaworld import assets
from collectiverl.envs.metaworld.assets import COMPILER, SEEN, lean_options, without_visuals
from collectiverl.envs.metaworld.suite import METAWORLD
from collectiverl.envs.metaworld.vector import MetaworldVectorEnv

envpool = pytest.importorskip("envpool", reason="pip install 'collectiverl[envpool]'")
SCRIPT = """
import sys
from collectiverl.envs.metaworld import envpool
if sys.argv[1] == "whole":
    envpool.lean_options = lambda task: {}
envs = envpool.EnvpoolVectorEnv("push-v3", 8)
envs.reset(0)
memory = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")][0]
print(memory)
"""


def played(task: str, monkeypatch, *, lean: bool, steps: int) -> list[np.ndarray]:
    """What two simulators say of random actions, in two episodes."""
    from collectiverl.envs.metaworld import envpool as ours

    monkeypatch.setattr(ours, "lean_options", lean_options if lean else lambda task: {})
    return episodes(ours.EnvpoolVectorEnv(task, 2, horizon=steps), steps)


def episodes(envs, steps: int) -> list[np.ndarray]:
    rng, found = np.random.default_rng(0), [envs.reset(3)]
    for _ in range(2 * steps):
        result = envs.step(rng.uniform(-1, 1, (2, 4)).astype(np.float32))
        found += [result.obs, result.reward, result.success]
    envs.close()
    return found


def same(task: str, monkeypatch, steps: int) -> bool:
    return equal(*(played(task, monkeypatch, lean=lean, steps=steps) for lean in (False, True)))


def equal(whole: list[np.ndarray], lean: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(whole, lean, strict=True))


def same_on_metaworld(task: str, steps: int) -> bool:
    """One that is drawn has the whole model."""
    return equal(
        *(episodes(MetaworldVectorEnv(task, 2, horizon=steps, drawn=drawn), steps) for drawn in (True, False))
    )


@pytest.mark.parametrize("task", ["push-v3", "drawer-open-v3"])
def test_a_task_is_the_same_without_what_is_only_seen(task, monkeypatch):
    assert lean_options(task)
    assert same(task, monkeypatch, 30)


@pytest.mark.parametrize("task", ["push-v3", "hammer-v3", "door-open-v3"])
def test_metaworlds_own_simulator_is_the_same_where_it_is_not_drawn(task):
    assert same_on_metaworld(task, 30)


@pytest.mark.parametrize(("task", "lean"), [("hammer-v3", True), ("door-open-v3", False)])
def test_only_what_is_drawn_has_textures(task, lean):
    models = []
    for drawn in (False, True):
        envs = MetaworldVectorEnv(task, 1, drawn=drawn)
        models.append(envs.mujoco_state(0)[0])
        envs.close()
    assert [model.ntex > 0 for model in models] == [not lean, True]
    assert (models[1].nbuffer > 5 * models[0].nbuffer) == lean


@pytest.mark.slow  # fifty tasks
def test_all_tasks_are_the_same(monkeypatch):
    assert [task for task in METAWORLD.tasks if not same(task, monkeypatch, 100)] == []
    assert [task for task in METAWORLD.tasks if not same_on_metaworld(task, 100)] == []


def test_models_that_differ_stay_as_they_are():
    assert all(lean_options(task) == {} for task in SEEN)


@pytest.mark.slow  # processes that import everything
def test_simulators_take_less_memory():
    """Eight of them, in a process of their own."""
    whole, lean = (
        int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, kind], capture_output=True, text=True, check=True
            ).stdout
        )
        for kind in ("whole", "lean")
    )
    assert whole - lean > 8 * 10_000  # KB


def test_where_nothing_can_be_written_the_models_stay_as_they_are(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assets._lean_assets.cache_clear()
    assert lean_options("push-v3") == {}
    assets._lean_assets.cache_clear()


def test_the_setting_comes_first_in_the_model():
    assert without_visuals('<mujoco model="a">\n<body/>') == f'<mujoco model="a">{COMPILER}\n<body/>'
