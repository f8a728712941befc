"""Seconds by phase: each is counted once, in the innermost phase, and all together are the whole."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from benchmarks import phases
from benchmarks.measure import Contender, Spread
from benchmarks.phase_clock import (
    ACTING,
    COMPILING,
    EVALUATION,
    PHASES,
    RESETS,
    REST,
    SAMPLING,
    SIMULATION,
    STORING,
    TEACHERS,
    UPDATES,
    Hook,
    Phases,
    Seconds,
    TimedEnvs,
)

from collectiverl.collective import online
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.make import make_envs
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.sac import learner, updates
from toy_buffers import COLLECTIVE
from training import TRAIN

TASKS = ("toy-reach", "toy-swap")
QUICK = OnlineConfig(
    expert_episodes=4, learner_rounds=1, learner_episodes=4, horizon=None, first_updates=20, round_updates=10
)


# -- the clock -----------------------------------------------------------------------------------------------


def by_hand(*walls: float) -> Phases:
    """Phases whose clock reads these times, one after another; a quarter of each was computed."""
    read = iter(walls)
    return Phases(lambda: Seconds(wall := next(read), wall / 4))


def test_a_phase_within_another_counts_once():
    clock = by_hand(0, 1, 3, 7, 8, 10)
    with clock.phase(UPDATES), clock.phase(SAMPLING):
        pass
    clock.charge()
    walls = {phase: spent.wall for phase, spent in clock.spent.items() if spent.wall}
    assert walls == {REST: 1 + 2, UPDATES: 2 + 1, SAMPLING: 4}
    assert clock.spent[SAMPLING].core == 1
    assert clock.total == (10, 2.5)


def test_a_phase_ends_where_it_raises():
    clock = by_hand(0, 1, 3, 10)
    with pytest.raises(ZeroDivisionError), clock.phase(UPDATES):
        _ = 1 / 0
    clock.charge()
    assert clock.spent[UPDATES].wall == 2
    assert clock.spent[REST].wall == 8


def test_phases_end_in_turn():
    clock = Phases()
    clock.begin(UPDATES)
    with pytest.raises(RuntimeError, match=f"{SAMPLING} ends, but {UPDATES} is running"):
        clock.end(SAMPLING)


def test_phases_sum_to_the_time_that_passes():
    began, clock = time.perf_counter(), Phases()
    with clock.phase(UPDATES), clock.phase(SAMPLING):
        time.sleep(0.01)
    clock.charge()
    assert 0.01 <= clock.spent[SAMPLING].wall <= clock.total.wall <= time.perf_counter() - began
    assert clock.total.wall == pytest.approx(sum(spent.wall for spent in clock.spent.values()))


def test_compiling_is_no_part_of_the_phase_in_which_it_occurs():
    def slow_to_trace(x):
        time.sleep(0.1)
        return jax.jit(lambda y: y + 1)(x)  # a program within a program is traced once

    clock = Phases()
    with clock.watching(), clock.phase(UPDATES):
        jax.jit(slow_to_trace)(np.float32(1))
    assert clock.spent[COMPILING].wall >= 0.1
    assert clock.spent[UPDATES].wall <= clock.total.wall - 0.1
    compiled = clock.spent[COMPILING]
    jax.jit(lambda x: x * 2)(np.float32(1))  # nobody listens any more
    assert clock.spent[COMPILING] == compiled


def test_a_phase_lasts_until_its_arrays_are_computed():
    def slow(x):
        time.sleep(0.1)
        return x

    program = jax.jit(lambda x: jax.pure_callback(slow, x, x))
    program(np.float32(0)).block_until_ready()
    owner, clock = SimpleNamespace(update=program), Phases()
    with clock.watching(Hook(owner, "update", UPDATES)):
        owner.update(np.float32(1))
    assert clock.spent[UPDATES].wall >= 0.1
    assert owner.update is program


def test_a_step_in_which_episodes_begin_is_a_reset():
    ticks = itertools.count()
    clock = Phases(lambda: Seconds(float(next(ticks)), 0.0))
    envs = TimedEnvs(make_envs("toy-reach", 2, goals="fresh"), clock)
    assert isinstance(envs, VectorEnv)
    envs.reset(0)
    began = [envs.step(np.zeros((2, 2), np.float32)).began.any() for _ in range(2 * envs.spec.horizon)]
    assert clock.spent[SIMULATION].wall == len(began) - sum(began)
    assert clock.spent[RESETS].wall == 1 + sum(began)
    assert sum(began) == 1


# -- what is measured ----------------------------------------------------------------------------------------

SMALL = {
    "expert": (phases.expert, ("toy-reach", TRAIN)),
    "distillation": (phases.distillation, (TASKS, "scripted", QUICK, COLLECTIVE)),
    "evaluation": (phases.evaluation, ("scripted:toy-reach", "toy-reach", EvaluateConfig(goals=(0, 1)))),
}


@pytest.fixture(scope="module")
def found():
    return {name: part(*args) for name, (part, args) in SMALL.items()}


def test_each_part_has_its_phases(found):
    """And compiling, if no test of this process has compiled the same before."""
    everywhere = {ACTING, SIMULATION, RESETS, STORING, REST}
    learns = everywhere | {UPDATES, SAMPLING}
    wanted = {
        "expert": learns | {EVALUATION},
        "distillation": learns | {TEACHERS},
        "evaluation": everywhere,
    }
    for name, metrics in found.items():
        seen = {phase for phase in PHASES if metrics[f"{phase}: {phases.WALL}"]}
        assert seen - {COMPILING} == wanted[name]


def test_the_phases_of_each_part_sum_to_its_whole(found):
    for metrics in found.values():
        for unit in (phases.WALL, phases.CORE):
            whole = metrics[f"{phases.IN_ALL}: {unit}"]
            assert sum(metrics[f"{phase}: {unit}"] for phase in PHASES) == pytest.approx(whole)
            assert min(metrics.values()) >= 0


def test_what_was_done_is_kept(found):
    assert found["expert"]["env_steps"] == TRAIN.steps
    assert found["expert"]["updates"] > TRAIN.steps / TRAIN.num_envs
    assert found["distillation"]["updates"] == 20 + 10
    assert found["evaluation"]["env_steps"] == 2 * 25


def test_nothing_stays_patched(found):
    assert learner.update is updates.update
    assert online.ThreadPoolExecutor is ThreadPoolExecutor


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_runs_each_part_and_shows_shares(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(phases, "parts", lambda config: {"evaluation": SMALL["evaluation"]})
    monkeypatch.setattr(Contender, "run", lambda self: self.args[0](*self.args[1:]))
    assert phases.main(["--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| phase | evaluation, s | evaluation, core-s |" in shown
    assert (tmp_path / "phases.json").exists()


def test_a_row_has_seconds_and_their_share():
    found = {f"{phase}: {unit}": 0.0 for phase in PHASES for unit in (phases.WALL, phases.CORE)}
    found |= {f"{UPDATES}: s": 3.0, f"{UPDATES}: core-s": 5.0, f"{REST}: s": 1.0}
    found |= {f"{phases.IN_ALL}: s": 4.0, f"{phases.IN_ALL}: core-s": 5.0}
    results = {"expert": {name: Spread((value,)) for name, value in found.items()}}
    assert phases.columns(results) == ["phase", "expert, s", "expert, core-s"]
    assert phases.rows(results) == [
        [UPDATES, "3.0 (75%)", "5.0 (100%)"],
        [REST, "1.0 (25%)", ""],
        [phases.IN_ALL, "**4.0**", "**5.0**"],
    ]


def test_the_parts_are_of_default_settings():
    config = phases.WhereTimeGoes()
    (_, (task, training)), (_, (tasks, *_)), _ = phases.parts(config).values()
    assert task == "reach-v3"
    assert tasks == ("reach-v3", "push-v3", "door-open-v3", "window-close-v3")
    assert (training.steps, training.stop_evaluations) == (config.steps, 0)
