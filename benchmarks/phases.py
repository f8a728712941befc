"""Where the seconds go: of training an expert, of a round of online distillation, of an evaluation."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax

from benchmarks import phase_clock as of
from benchmarks.measure import Contender, Metrics, Results, available_cores, interleaved, plain
from benchmarks.phase_clock import Hook, Phases, TimedEnvs
from benchmarks.results import Outcome, Repeated, Table, command
from collectiverl.artifacts.checkpoints import Checkpoints
from collectiverl.collective import online
from collectiverl.collective.online import OnlineDistillation
from collectiverl.collective.playing import Alternating, NoisyActions, PerTaskPolicy
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.segments import Segments
from collectiverl.collective.train import CollectiveConfig, Training
from collectiverl.data.device_replay import replay_kind
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.make import layout_of, make_envs
from collectiverl.envs.rollout import EpisodeCollector
from collectiverl.envs.tasks import canonical
from collectiverl.evaluation.evaluate import EvaluateConfig, evaluate, evaluation_envs
from collectiverl.nn.keys import seeded_key
from collectiverl.pipeline.executor import use_threads
from collectiverl.policies import load_policy
from collectiverl.sac import agent as sac
from collectiverl.sac import learner
from collectiverl.sac.evaluation import Evaluator
from collectiverl.sac.settings import ExpertConfig, TrainConfig
from collectiverl.sac.train import Trainer
from collectiverl.stages.teachers import source_of, teaching

WALL, CORE = "s", "core-s"
IN_ALL = "in all"
SEED = 0


@dataclass(frozen=True, kw_only=True)
class WhereTimeGoes(Repeated):
    """Seconds by phase: an expert's training, a round of online distillation, an evaluation; each with one thread."""

    repetitions: int = 1  # of every measurement, in turn
    task: str = "reach"  # of the expert, and of the evaluation
    steps: int = 24_000  # environment steps of the expert, which goes on where its task is solved
    tasks: tuple[str, ...] = ("reach", "push", "door-open", "window-close")  # of the distillation
    teacher: str = "shipped"  # of the distillation: shipped, scripted, or a path with {task}
    policy: str = "mt10"  # that is evaluated


# -- what is measured ----------------------------------------------------------------------------------------


def expert(task: str, config: TrainConfig) -> Metrics:
    """The training of one expert, as `train-task` does it, evaluation and checkpoints included."""
    phases, replay = Phases(), replay_kind()
    hooks = (
        Hook(Trainer, "eval_action", of.ACTING),
        Hook(learner, "sample_batches", of.SAMPLING),
        Hook(learner.Learner, "update", of.UPDATES),
        Hook(learner, "update", of.UPDATES),  # here, and in the next, arrays are waited for
        Hook(learner, "update_statistics", of.UPDATES),
        Hook(replay, "add", of.STORING),
        Hook(EpisodeCollector, "add", of.STORING),
        Hook(Checkpoints, "write", of.STORING),
        Hook(Evaluator, "play", of.EVALUATION),
    )
    with phases.watching(*hooks), tempfile.TemporaryDirectory() as folder:
        envs = _made(phases, partial(make_envs, task, config.num_envs, goals="fresh", horizon=config.horizon))
        with phases.phase(of.RESETS):
            judged = make_envs(task, config.eval_at_once, goals="fresh", horizon=config.eval_horizon)
        keys = jax.random.split(seeded_key(SEED), 1)
        state = sac.init(envs.spec.obs_dim, envs.spec.action_dim, config.sac, keys)
        with contextlib.closing(envs), contextlib.closing(judged):
            trainer = Trainer(state, config, envs, judged, seed=SEED)
            trainer.measured_anew(trainer.run(Path(folder)), judged)
    updates = int(trainer.learner.state.updates[0])
    return _metrics(phases, env_steps=trainer.progress.env_steps, updates=updates)


def distillation(
    tasks: Sequence[str], teacher: str, config: OnlineConfig, learning: CollectiveConfig
) -> Metrics:
    """The teachers' round and the learner's, as `online-distill` does them, but playing, tasks and learning in turn."""
    phases = Phases()
    teachers = {task: teaching(source_of(teacher, task), task) for task in tasks}
    layout = layout_of(tasks)

    def make(task: str, count: int) -> VectorEnv:
        envs = partial(make_envs, task, count, goals="fresh", horizon=config.horizon, layout=layout)
        return _made(phases, envs)

    hooks = (
        *(Hook(Alternating, name, of.ACTING) for name in ("eval_action", "observe", "reset")),
        *(Hook(kind, "eval_action", of.TEACHERS) for kind in (NoisyActions, PerTaskPolicy)),
        *(Hook(kind, "label", of.SAMPLING) for kind in {type(policy) for policy in teachers.values()}),
        *(Hook(OnlineDistillation, name, of.SAMPLING) for name in ("sides", "_segments")),
        Hook(Segments, "sample", of.SAMPLING),
        Hook(Training, "advance", of.UPDATES),
        Hook(EpisodeCollector, "add", of.STORING),
        Hook(OnlineDistillation, "_save", of.STORING),
    )
    in_turn = mock.patch.object(online, "ThreadPoolExecutor", InTurn)
    with phases.watching(*hooks), in_turn, tempfile.TemporaryDirectory() as folder:
        whole = OnlineDistillation(make, teachers, config, learning, layout, seed=SEED)
        played = whole.run(Path(folder))
    assert whole.training is not None
    env_steps = sum(map(len, played))
    return _metrics(phases, env_steps=env_steps, updates=whole.training.progress.updates)


class InTurn(ThreadPoolExecutor):
    """Does each task at once, in the thread that submits it: a phase is all that the process does meanwhile."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def evaluation(policy: str, task: str, config: EvaluateConfig) -> Metrics:
    """One evaluation of a policy on a task, as `evaluate` does it, from loading the policy on."""
    phases = Phases()
    with phases.watching():
        loaded = load_policy(policy, task=task)
    hooks = (
        *(Hook(type(loaded), name, of.ACTING) for name in ("eval_action", "observe", "reset")),
        Hook(EpisodeCollector, "add", of.STORING),
    )
    with phases.watching(*hooks):
        envs = _made(phases, partial(evaluation_envs, task, config))
        with contextlib.closing(envs):
            found = evaluate(loaded, task, config, envs=envs)
    return _metrics(phases, env_steps=found.episodes * envs.spec.horizon, updates=0)


def _made(phases: Phases, make: Callable[[], VectorEnv]) -> TimedEnvs:
    with phases.phase(of.RESETS):
        return TimedEnvs(make(), phases)


def _metrics(phases: Phases, **counts: float) -> Metrics:
    found: Metrics = dict(counts)
    for phase, spent in {**phases.spent, IN_ALL: phases.total}.items():
        found |= {f"{phase}: {WALL}": spent.wall, f"{phase}: {CORE}": spent.core}
    return found


# -- the command ---------------------------------------------------------------------------------------------

Part = tuple[Callable[..., Metrics], tuple[Any, ...]]


def parts(config: WhereTimeGoes) -> dict[str, Part]:
    task, tasks = canonical(config.task), tuple(map(canonical, config.tasks))
    training = ExpertConfig(steps=config.steps, stop_evaluations=0)
    learning = OnlineConfig(learner_rounds=1), CollectiveConfig()
    return {
        "expert": (expert, (task, training)),
        "distillation": (distillation, (tasks, config.teacher, *learning)),
        "evaluation": (evaluation, (config.policy, task, EvaluateConfig())),
    }


def as_in_a_run(part: Callable[..., Metrics], *args: Any) -> Metrics:
    """With the allocator and the one thread of a run's processes; compiled anew, which a run does once on a machine."""
    use_threads(1)
    jax.config.update("jax_enable_compilation_cache", False)
    return part(*args)


def benchmark(config: WhereTimeGoes) -> Outcome:
    places = (available_cores(),)
    contenders = [
        Contender(name, as_in_a_run, (part, *args), places) for name, (part, args) in parts(config).items()
    ]
    results = interleaved(contenders, config.repetitions)
    title = "Where the seconds go, in processes with one thread of linear algebra"
    return Outcome(plain(results), Table(title, columns(results), rows(results)))


def columns(results: Results) -> list[str]:
    return ["phase", *(f"{part}, {unit}" for part in results for unit in (WALL, CORE))]


def rows(results: Results) -> list[list[str]]:
    """A phase each, with its shares; no figure where a part has no such phase."""
    table = []
    for phase in (*of.PHASES, IN_ALL):
        cells = [_cell(found, phase, unit) for found in results.values() for unit in (WALL, CORE)]
        if any(cells):
            table.append([phase, *cells])
    return table


def _cell(found: dict[str, Any], phase: str, unit: str) -> str:
    seconds, whole = (found[f"{name}: {unit}"].median for name in (phase, IN_ALL))
    if phase == IN_ALL:
        return f"**{seconds:.1f}**"
    return f"{seconds:.1f} ({seconds / whole:.0%})" if seconds else ""


def main(argv: Sequence[str] | None = None) -> int:
    return command("phases", WhereTimeGoes, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
