"""Tasks of users: how they are read, named, given to workers, and played by one policy though their states differ."""

import contextlib
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import equinox as eqx
import gymnasium as gym
import jax
import mujoco
import numpy as np
import pytest

import collectiverl
import own_tasks
from collectiverl.cli import main
from collectiverl.collective.online import OnlineDistillation
from collectiverl.collective.policy import CollectivePolicy, check_shapes
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.envs import registry
from collectiverl.envs.layout import OwnEntries, joint_spec, lay_out, own_entries
from collectiverl.envs.make import goals, layout_of, make_envs, spec
from collectiverl.envs.own.suite import OWN, OwnScene
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.tasks import canonical, resolve
from collectiverl.evaluation.evaluate import EvaluateConfig, evaluate
from collectiverl.evaluation.video import VideoConfig, record_video
from collectiverl.pipeline import executor
from collectiverl.pipeline.executors.processes import run_in_processes
from collectiverl.policies import load_policy
from collectiverl.representation.scales import Scales
from collectiverl.sac.settings import ExpertConfig
from collectiverl.stages.base import Work
from collectiverl.stages.buffers import open_buffers, split_buffer_stage
from collectiverl.stages.experts import TrainTask, train_agents, train_task_stage
from collectiverl.stages.online import seeing
from collectiverl.stages.recording import Record, record_stage
from collectiverl.types import ABSENT, EnvSpec, UserError, Window
from toy_buffers import COLLECTIVE

POINT, RAIL = "own_tasks.point", "own_tasks.rail"
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own-tasks.md").read_text()


@pytest.fixture(autouse=True)
def _as_before():
    yield
    OWN.registered.clear()
    OWN.missing.clear()


@pytest.fixture(autouse=True, scope="module")
def _named():
    resolve(["own_tasks:point", "own_tasks:rail"])


def register(make="Reacher-v5", **options):
    collectiverl.register_task("mine", make, **options)
    return spec("mine")


# -- how they are read -------------------------------------------------------------------------------------


def test_an_observation_is_the_state_and_then_the_goal():
    assert spec(POINT) == EnvSpec(POINT, 4, 2, 25, (0, 1, 2, 3), (2, 3))
    envs = make_envs(POINT, 1, goals="fresh")
    obs, env = envs.reset(0), envs.member(0).played
    assert obs[0] == pytest.approx(np.concatenate([env.place, env.goal]), abs=1e-6)
    hidden = make_envs(POINT, 1, goals="fresh", goals_hidden=True)
    assert hidden.reset(0)[0] == pytest.approx([*env.place, 0, 0], abs=1e-6)


def test_entries_can_be_chosen_and_reordered():
    assert register(goal=(4, 5)).goal_index == (8, 9)
    assert register_other(state=[8, 9, 0], goal=[4, 5]).obs_dim == 5


def register_other(**options):
    collectiverl.register_task("other", "Reacher-v5", **options)
    return spec("other")


def test_actions_are_scaled_to_the_bounds_of_the_environment():
    envs = make_envs(POINT, 1, goals="fresh")
    before = envs.reset(0)[0, :2]
    after = envs.step(np.array([[0.5, -1.0]])).obs[0, :2]
    assert after == pytest.approx(np.clip(before + np.array([0.05, -0.1]), -1, 1), abs=1e-6)


@pytest.mark.parametrize(
    ("success", "expected"),
    [(None, 1), (lambda obs, info: obs[0] > 5, 0), (lambda obs, info: len(obs) == 4, 1)],
)
def test_success_is_said_by_info_or_by_a_function(success, expected):
    collectiverl.register_task("mine", own_tasks.make_point, success=success, horizon=25)
    envs = make_envs("mine", 1, goals=[0])
    obs = envs.reset(0)
    for _ in range(24):
        result = envs.step(own_tasks.to_goal(obs))
        obs = result.obs
    assert result.success[0] == expected


def test_an_episode_is_a_function_of_its_goal_and_the_actions_and_ends_at_the_time_limit():
    numbers = [3, 61]
    envs = make_envs(POINT, 2, goals=numbers, order="sequential")
    first = envs.reset(0)
    assert np.array_equal(first, make_envs(POINT, 2, goals=numbers, order="sequential").reset(1))
    assert envs.goals().tolist() == numbers
    assert not np.array_equal(goals(POINT, 0), goals(POINT, 1))
    ends = [envs.step(np.zeros((2, 2))).truncated.all() for _ in range(25)]
    assert ends == [False] * 24 + [True]
    assert envs.step(np.zeros((2, 2))).began.all()
    short = make_envs(POINT, 1, goals="fresh", horizon=3)
    short.reset(0)
    assert [bool(short.step(np.zeros((1, 2))).truncated[0]) for _ in range(3)] == [False, False, True]


class Wrong(own_tasks.Point):
    def __init__(self, **spaces):
        super().__init__()
        for name, space in spaces.items():
            setattr(self, name, space)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        ("CartPole-v1", {}, "actions are Discrete.*must be a box"),
        (
            partial(Wrong, observation_space=gym.spaces.Discrete(3)),
            {},
            "observations are Discrete.*must be boxes",
        ),
        (partial(Wrong, action_space=gym.spaces.Box(-np.inf, np.inf, (2,))), {}, "finite bounds"),
        (own_tasks.make_point, {}, "no time limit.*horizon="),
        (own_tasks.make_point, {"goal": "target", "horizon": 9}, "'target' is no entry.*achieved_goal"),
        ("Reacher-v5", {"goal": (4, 12)}, "12 is no entry.*0 to 9"),
    ],
)
def test_what_does_not_fit_is_said(make, options, message):
    with pytest.raises(UserError, match=f"task mine: .*{message}"):
        register(make, **options)


def test_a_success_that_info_does_not_have_is_said():
    register(success=None)
    envs = make_envs("mine", 1, goals=[0])
    envs.reset(0)
    with pytest.raises(UserError, match=r"no success 'is_success' in info, which has reward_dist.*success="):
        envs.step(np.zeros((1, 2)))


def fails(*args, **kwargs):
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        ("NoSuchEnv-v1", {}, "task mine failed when it was to make its environment: NameNotFound"),
        (fails, {}, "task mine failed when it was to make its environment.*by zero"),
        (own_tasks.make_point, {"success": fails}, "say whether a step is a success.*by zero"),
        (own_tasks.make_point, {"script": fails}, "the script of task mine failed.*by zero"),
        (
            own_tasks.make_point,
            {"script": np.zeros_like},
            r"gave actions of shape \(1, 4\).*must give \(1, 2\)",
        ),
    ],
)
def test_what_a_users_code_raises_is_a_message(make, options, message):
    with pytest.raises(UserError, match=message):
        play_one_step(make, options)


def play_one_step(make, options):
    register(make, horizon=9, **options)
    envs = make_envs("mine", 1, goals=[0])
    obs = envs.reset(0)
    envs.step(ScriptedPolicy(("mine",)).eval_action(obs) if "script" in options else np.zeros((1, 2)))


def test_an_environment_that_draws_itself_is_filmed(tmp_path):
    config = VideoConfig(width=32, height=16, mark_success=False, overlay=False)
    path = record_video(
        load_policy("scripted:own_tasks:drawn"), "own_tasks.drawn", tmp_path / "a.mp4", config
    )
    with av.open(str(path)) as film:
        picture = next(film.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (16, 32, 3)
    assert picture.mean((0, 1)) == pytest.approx([255, 0, 0], abs=8)
    with pytest.raises(UserError, match=r"cannot be filmed.*render_mode='rgb_array'"):
        record_video(load_policy("scripted:own_tasks:point"), POINT, tmp_path / "b.mp4", config)


# -- names -------------------------------------------------------------------------------------------------


def test_an_import_path_is_a_name_in_two_spellings():
    assert resolve(["own_tasks:rail", "own_tasks.rail"]) == (RAIL,)
    assert resolve(["own_tasks:make_rail"]) == (
        "own_tasks.make_rail",
    )  # a function that makes the environment


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_tasks:pont", "did you mean 'point'"),
        ("no_such_module:point", "no module 'no_such_module'"),
        ("own_tasks:HORIZON", "is 25: it must be a collectiverl.Task"),
    ],
)
def test_a_path_that_leads_nowhere_says_so(name, message):
    with pytest.raises(UserError, match=message):
        canonical(name)


def test_a_registered_name_belongs_to_one_task():
    own_tasks.registered()
    own_tasks.registered()  # the same once more, as when a script is imported by a worker
    assert canonical("own-point") == "own-point"
    for name, why in (
        ("own-point", "already"),
        ("reach", "already"),
        ("toy-reach", "already"),
        ("a/b", "letters"),
    ):
        with pytest.raises(ValueError, match=why):
            collectiverl.register_task(name, "Reacher-v5")


# -- workers -----------------------------------------------------------------------------------------------


def test_workers_find_registered_tasks_and_import_the_others(tmp_path):
    """In processes of their own, which import this folder's module."""
    own_tasks.registered()
    wanted = [record_stage(Record(task=t, episodes=2), 0) for t in ("own-point", RAIL)]
    run_in_processes(tmp_path, wanted, cores=1, watch=lambda progress: None)
    assert all((tmp_path / stage.out / "manifest.json").is_file() for stage in wanted)


def test_what_workers_cannot_import_is_refused_before_they_start(tmp_path):
    collectiverl.register_task("mine", lambda: own_tasks.Point(), horizon=9)
    evaluate(load_policy("random:mine"), "mine", EvaluateConfig(goals=(0,)))  # in this process it plays
    stage = record_stage(Record(task="mine", policy="random"), 0)
    with pytest.raises(
        UserError, match=r"task mine cannot be given to worker processes.*top level of a module"
    ):
        run_in_processes(tmp_path, [stage], cores=1, watch=lambda progress: None)


def test_what_a_worker_cannot_import_is_said_where_it_is_used(monkeypatch):
    own_tasks.registered()
    given = registry.for_workers()
    OWN.registered.clear()
    monkeypatch.delattr(own_tasks, "make_point")  # as in a notebook, whose functions no other process has
    registry.restore(given)
    assert canonical(POINT) == POINT
    with pytest.raises(UserError, match=r"task own-point cannot be imported.*interactive session"):
        canonical("own-point")


# -- states of different length ----------------------------------------------------------------------------


def test_a_joint_layout_has_a_place_for_every_entry():
    layout = layout_of([RAIL, POINT])
    assert (layout.obs_dim, layout.goal_index) == (4, (2, 3))
    assert lay_out(np.array([7.0, 8, 9]), layout).tolist() == [7, ABSENT, 8, 9]
    assert own_entries(spec(RAIL), layout).tolist() == [0, 2, 3]
    assert joint_spec([spec("toy-reach"), spec("toy-swap")]) == spec("toy-reach")


def test_tasks_that_no_policy_can_play_together_are_refused():
    one = EnvSpec("one", 4, 2, 9, (0, 1, 2, 3), (2, 3))
    for other, why in (
        (EnvSpec("two", 4, 3, 9, (0, 1, 2, 3), (2, 3)), "actions"),
        (EnvSpec("two", 3, 2, 9, (0, 1, 2), (2,)), "goals have"),
        (EnvSpec("two", 6, 2, 9, (0, 1, 4, 5), (4, 5)), "not a state and then a goal"),
    ):
        with pytest.raises(UserError, match=why):
            joint_spec([one, other])


def test_a_teacher_reads_its_own_entries():
    rail, layout = ScriptedPolicy((RAIL,)), layout_of([RAIL, POINT])
    shown, obs = OwnEntries(rail, spec(RAIL), layout), np.random.default_rng(0).uniform(-1, 1, (5, 3))
    assert np.array_equal(shown.eval_action(lay_out(obs, layout)), rail.eval_action(obs))
    action = np.zeros((5, spec(RAIL).action_dim))
    assert np.array_equal(shown.label(lay_out(obs, layout), action).mean, rail.label(obs, action).mean)


def test_absent_entries_read_as_zero_and_count_in_no_statistics():
    states = np.array([[1.0, 4.0], [3.0, np.nan]], np.float32)
    changes = np.array([[2.0, np.nan]], np.float32)
    scales = Scales.fit(states, np.zeros(2, np.float32), changes, np.zeros(1, np.float32))
    assert scales.state.mean.tolist() == [2, 4]
    window = Window(
        np.array([[1.0, 4.0], [1.0, ABSENT], [1.0, 4.0]]), np.zeros((3, 1)), np.zeros(3), np.ones(3, bool)
    )
    seen, states = eqx.filter_jit(lambda scales, w: (scales(w), scales.states(w.state)))(scales, window)
    assert np.isfinite(jax.tree.leaves(seen)[0]).all()
    assert seen.state[1, 1] == seen.change[1, 1] == seen.change[2, 1] == 0
    assert np.array_equal(states, seen.state)


def test_one_program_learns_no_tasks_whose_observations_differ_in_length(tmp_path):
    work = Work(run=tmp_path, folder=tmp_path, config=None)
    with pytest.raises(UserError, match="leave out --vectorize"):
        train_agents(work, [(RAIL,), (POINT,)], ExpertConfig(), "auto")
    both = train_task_stage(TrainTask(task=RAIL, also=(POINT,), demos="scripted:3"), 0)
    with pytest.raises(UserError, match="or --also"):
        executor.run_here(tmp_path, both, watch=lambda progress: None)


def test_buffers_of_another_layout_are_refused_and_narrower_ones_laid_out(tmp_path):
    for task in (RAIL, POINT):
        stage = record_stage(Record(task=task, episodes=4), 0)
        split = split_buffer_stage(task, stage.out, "record", 0.5, 0)
        for each in (stage, split):
            executor.run_here(tmp_path, each, watch=lambda progress: None)
    tables, _ = open_buffers(tmp_path, "buffer_distill", (RAIL, POINT), 0, layout_of([RAIL, POINT]))
    assert [table[0].obs.shape[1] for table in tables] == [4, 4]
    assert (tables[0][0].obs[:, 1] == ABSENT).all()
    with pytest.raises(UserError, match=r"4 entries and not 3.*name all these tasks"):
        open_buffers(tmp_path, "buffer_distill", (POINT,), 0, spec(RAIL))


def test_one_policy_learns_tasks_whose_states_differ_in_length():
    tasks = (RAIL, POINT)
    layout = layout_of(tasks)
    config = OnlineConfig(
        expert_episodes=4,
        learner_rounds=1,
        learner_episodes=2,
        horizon=None,
        first_updates=20,
        round_updates=10,
    )
    online = OnlineDistillation(
        partial(make_envs, goals="fresh", layout=layout),
        seeing({task: ScriptedPolicy((task,)) for task in tasks}, layout),
        config,
        COLLECTIVE,
        layout,
        seed=0,
    )
    played = online.run()
    rail = next(e for e in played if e.task == RAIL)
    assert (rail.obs[:, 1] == ABSENT).all()
    collective = online.collective
    for task in tasks:  # in their own environments, it is shown their own observations
        check_shapes(collective, spec(task))
        result = evaluate(CollectivePolicy(collective, (task,)), task, EvaluateConfig(goals=(0, 1)))
        assert np.isfinite(result.returns).all()
    with pytest.raises(UserError, match="was trained on states of 4"):
        check_shapes(collective, EnvSpec("wide", 5, 2, 9, tuple(range(5)), (3, 4)))


# -- the page ----------------------------------------------------------------------------------------------


@pytest.fixture
def of_the_page(tmp_path, monkeypatch):
    """A folder with the module that the page shows, and its two commands."""
    (code,) = re.findall(r"```python\n# my_tasks.py\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_tasks.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_tasks_of_the_page_are_solved_by_their_script(of_the_page, capsys):
    flags = ["--goals", "0", "1", "2", "3", "4", "5", "--json", "found.json"]
    for task in ("my_tasks:reacher", "my_tasks:mirrored"):
        assert main.dispatch(["evaluate", f"scripted:{task}", *flags]) == 0
        assert (
            evaluate(
                load_policy(f"scripted:{task}"), canonical(task), EvaluateConfig(goals=(0, 1, 2))
            ).rate_any
            == 1
        )


@pytest.mark.slow
def test_every_stage_does_the_tasks_of_the_page(of_the_page):
    """Experts, collective, student and evaluation, in worker processes; once more, nothing is left to do."""
    small = (ROOT / "tests" / "test_pipeline.py").read_text().split('CONFIG = """')[1].split('"""')[0]
    lines = [line for line in small.splitlines() if not line.startswith(("tasks", "student_tasks"))]
    (of_the_page / "small.yaml").write_text("\n".join(lines))
    args = [
        sys.executable,
        "-m",
        "collectiverl",
        "run",
        "--preset",
        "smoke",
        "--run",
        "own",
        "--config",
        "small.yaml",
    ]
    args += ["--tasks", "my_tasks:reacher", "my_tasks:mirrored", "--student-tasks", "my_tasks:mirrored"]
    args += ["--collective.conditioning", "cls"]  # so that the trajectory transformer is trained, too
    for _ in range(2):
        done = subprocess.run(args, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout
    with contextlib.chdir(of_the_page):
        assert load_policy("runs/own", task="my_tasks:mirrored")


def test_an_environment_that_cannot_draw_here_says_so(monkeypatch):
    """And MuJoCo's choice of a library is back as it was, since Meta-World's films make their own."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    chosen = []

    def render():
        chosen.append(os.environ.get("MUJOCO_GL"))
        raise mujoco.FatalError("an OpenGL platform library has not been loaded into this process")

    scene = OwnScene("mine", SimpleNamespace(render_mode="rgb_array", render=render), 4, 4)
    with pytest.raises(
        UserError, match=r"task mine failed when it was to be drawn: FatalError.*EGL or OSMesa"
    ):
        scene.draw(np.zeros(1, np.float32))
    assert chosen == ["egl"]
    assert "MUJOCO_GL" not in os.environ


def test_an_environment_that_draws_nothing_is_not_told_of_mujoco():
    def render():
        raise NotImplementedError

    scene = OwnScene("mine", SimpleNamespace(render_mode="rgb_array", render=render), 4, 4)
    with pytest.raises(
        UserError, match=r"task mine failed when it was to be drawn: NotImplementedError"
    ) as found:
        scene.draw(np.zeros(1, np.float32))
    assert "MuJoCo" not in str(found.value)
