"""A suite that the library has never seen needs one file, which this one stands for, and one line: `register`."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from collectiverl.cli import main
from collectiverl.data.episodes import EpisodeTable
from collectiverl.envs.core import StepResult, limited
from collectiverl.envs.goals import FRESH, NUM_GOALS, GoalSequence, env_seeds, fixed_goals
from collectiverl.envs.make import goals, make_envs, spec
from collectiverl.envs.registry import SUITES, register, suite_of
from collectiverl.envs.suite import Suite
from collectiverl.envs.tasks import benchmark_of, canonical, label, resolve
from collectiverl.envs.toy import TOY
from collectiverl.evaluation.evaluate import EvaluateConfig, evaluate
from collectiverl.evaluation.video import VideoConfig, record_video
from collectiverl.pipeline.plan import RunConfig, stages
from collectiverl.policies import load_policy
from collectiverl.types import EnvSpec, UserError

FORWARD, BACKWARD = "line-forward-v0", "line-backward-v0"
SIGN = {FORWARD: 1.0, BACKWARD: -1.0}


@fixed_goals
def line_goals(task, seed):
    return np.random.default_rng([seed, len(task)]).uniform(-1, 1, (NUM_GOALS, 1))


class LineEnv:
    """A cart on a line, which moves as it is told, or the other way round. Observed: its place, and the goal."""

    def __init__(self, task, num_envs, options):
        self.spec, self.num_envs = limited(LINE.spec(task), options.horizon), num_envs
        self.tasks = (task,) * num_envs
        fixed = partial(line_goals, task)
        self._sequences = [
            GoalSequence(fixed, options.goals, options.order, i, num_envs) for i in range(num_envs)
        ]

    def goals(self):
        return self._numbers.copy()

    def reset(self, seed):
        for sequence, env_seed in zip(
            self._sequences, env_seeds(seed, self.num_envs, self.spec.task), strict=True
        ):
            sequence.restart(env_seed)
        return self._begin()

    def step(self, action):
        began = np.full(self.num_envs, self._elapsed == self.spec.horizon)
        if began.all():
            self._begin()
        else:
            self._place = self._place + 0.2 * SIGN[self.tasks[0]] * np.clip(action[:, 0], -1, 1)
            self._elapsed += 1
        distance, never = abs(self._place - self._goal), np.zeros(self.num_envs, bool)
        over = np.full(self.num_envs, self._elapsed == self.spec.horizon)
        reward = np.where(began, 0, -distance).astype(np.float32)
        return StepResult(self._observe(), reward, never, over, (distance < 0.05) & ~began, began)

    def close(self):
        pass

    def _begin(self):
        drawn = [(sequence.next(), sequence.generator) for sequence in self._sequences]
        self._numbers = np.array([goal.number for goal, _ in drawn])
        self._goal = np.array([rng.uniform(-1, 1) if g.row is None else g.row[0] for g, rng in drawn])
        self._place, self._elapsed = np.zeros(self.num_envs), 0
        return self._observe()

    def _observe(self):
        return np.stack([self._place, self._goal], axis=1).astype(np.float32)


class LineSuite(Suite):
    name = "line"
    tasks = (FORWARD, BACKWARD)
    benchmarks = ("LINE2",)

    def canonical(self, name):
        return super().canonical(name.removesuffix("-v0") + "-v0")

    def label(self, task):
        return task.removesuffix("-v0")

    def benchmark(self, name):
        return self.tasks

    def spec(self, task):
        return EnvSpec(task=task, obs_dim=2, action_dim=1, horizon=20, state_index=(0, 1), goal_index=(1,))

    def make(self, task, num_envs, options):
        return LineEnv(task, num_envs, options)

    def goals(self, task, seed):
        return line_goals(task, seed)

    def script(self, task):
        """None for the backward task: nobody has written one."""
        return (lambda obs: (obs[:, 1:] - obs[:, :1]) / 0.2) if task == FORWARD else None


LINE = LineSuite()


@pytest.fixture(autouse=True)
def _registered():
    register(LINE)
    yield
    SUITES.remove(LINE)


def test_its_names_are_understood():
    assert canonical("line-forward") == canonical(FORWARD) == FORWARD
    assert resolve(["line2"]) == LINE.tasks
    assert benchmark_of(LINE.tasks) == "LINE2"
    assert label(BACKWARD) == "line-backward"
    assert suite_of(FORWARD) is LINE


def test_its_names_are_suggested():
    with pytest.raises(UserError, match=r"did you mean 'line-forward-v0'.*LINE2, line-forward, .*suite line"):
        canonical("line-forwrad")


def test_its_tasks_do_not_mix_with_others():
    with pytest.raises(UserError, match="one suite"):
        resolve([FORWARD, "reach"])


def test_its_shapes_and_goals_are_known():
    assert spec(FORWARD).goal_index == (1,)
    envs = make_envs(FORWARD, 3, goals=[1, 2, 60], order="sequential")
    shown = envs.reset(0)[:, 1]
    assert shown == pytest.approx([goals(FORWARD)[1, 0], goals(FORWARD)[2, 0], goals(FORWARD, 1)[10, 0]])


def test_it_is_evaluated():
    assert evaluate(load_policy("scripted:line-forward"), FORWARD).rate_last == 1
    result = evaluate(load_policy("random:line-backward"), BACKWARD, EvaluateConfig(goals="held-out"))
    assert result.episodes == 10


def test_it_is_recorded(tmp_path):
    flags = ["--root", str(tmp_path), "--run", "r", "--episodes", "4"]
    assert main.dispatch(["record", "line-forward", *flags]) == 0
    folder = tmp_path / "r" / "recorded" / "scripted" / FORWARD / "seed_0" / "episodes"
    played = list(EpisodeTable.open(folder))
    assert [len(episode) for episode in played] == [20] * 4
    assert all(episode.success[-1] and episode.goal == FRESH for episode in played)


def test_a_task_without_a_script_says_so(tmp_path, capsys):
    assert main.dispatch(["record", "line-backward", "--root", str(tmp_path), "--run", "r"]) == 2
    assert "line-backward-v0 has no scripted policy" in " ".join(capsys.readouterr().err.split())


def test_a_run_evaluates_the_scripts_that_there_are():
    config = replace(RunConfig(), tasks=("LINE2",), student_tasks=()).resolved()
    scripted = [s.config.task for s in stages(config) if s.kind == "evaluate" and s.config.kind == "scripted"]
    assert scripted == [FORWARD]


def test_a_suite_that_draws_nothing_is_not_filmed(tmp_path):
    with pytest.raises(UserError, match="suite line cannot be filmed"):
        record_video(load_policy("scripted:line-forward"), FORWARD, tmp_path / "a.mp4", VideoConfig())


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="already a suite or task named line"):
        register(LineSuite())
    assert SUITES.count(TOY) == 1
