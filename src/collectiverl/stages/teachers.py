"""Who teaches: what `--teacher` may say, and the policies that it stands for.

| `--teacher` | the expert of each task |
|---|---|
| `sac` | trained in the run by SAC |
| `scripted` | the scripted policy of the suite |
| `shipped` | comes with the package |
| `shipped-or-scripted` | comes with the package; where none does, the scripted policy |
| `experts/{task}.zip` | saved by Stable-Baselines3 or SBX; read as data |
| `runs/other/model/{task}/seed_0` | of another run, or anything else that `load_policy` finds by this name |
| `my_package.experts:load` | an object of the user's, or what it makes for a task, see `adapters.objects` |

Experts from elsewhere are copied into the run, where they lie as if they had been trained there. Objects are not
copied: each stage asks for them anew, and nobody can tell whether they have changed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from collectiverl.adapters.sb3 import UNPICKLE
from collectiverl.artifacts import manifests, paths, sealed
from collectiverl.artifacts.files import read_object
from collectiverl.artifacts.paths import CROSS_PLAY, SUMMARY
from collectiverl.envs.layout import OwnEntries
from collectiverl.envs.make import spec
from collectiverl.envs.registry import suite_of
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.policies import (
    BETTER_SHIPPED,
    GROWING,
    TASK,
    collection_of,
    is_object,
    is_shipped,
    load_policy,
    of_task,
    shipped,
)
from collectiverl.sac.policy import load_expert
from collectiverl.types import ConfigError, EnvSpec, TeachingPolicy, UserError

EITHER = "shipped-or-scripted"
NAMED = ("sac", "scripted", "shipped", EITHER)


def check_teacher(config: Any, field: str = "teacher") -> None:
    """Raises ConfigError if the field names no teacher."""
    name = getattr(config, field)
    if name in NAMED or is_called(name) or is_taken(name):
        return
    raise ConfigError(
        field,
        f"{name!r} is none of {', '.join(NAMED)}; experts of your own are named as package.module:function, or by "
        f"their files, such as experts/{TASK}.zip",
    )


def is_called(teacher: str) -> bool:
    """Whether it is an object that each stage asks for anew, and not files that are copied into the run."""
    return is_object(teacher) or teacher.startswith(UNPICKLE)


def is_taken(teacher: str) -> bool:
    """Whether its experts are copied into the run."""
    named_files = TASK in teacher or "/" in teacher or teacher.endswith(".zip")
    return teacher in ("shipped", EITHER) or (named_files and not is_called(teacher))


def in_run(teacher: str, task: str = "") -> bool:
    """Whether its experts lie in the run, trained or copied; with a task, whether that task's does."""
    if teacher == EITHER and task:
        return is_shipped(task)
    return teacher == "sac" or is_taken(teacher)


def _is_by_script(teacher: str, task: str) -> bool:
    return teacher == "scripted" or (teacher == EITHER and not is_shipped(task))


def source_of(teacher: str, task: str) -> str:
    """What `load_policy` finds the expert of `task` by, if it does not lie in the run."""
    if _is_by_script(teacher, task):
        return f"scripted:{task}"
    if teacher == "shipped":
        return f"{collection_of(task)}/{task}"
    if teacher == EITHER:
        return f"{GROWING[-1]}/{task}"  # which may have a later expert of a task than the smaller collections
    return of_task(teacher, task)


def teacher_inputs(teacher: str, tasks: Sequence[str], seed: int, *, agreed: bool = False) -> dict[str, str]:
    """The folders of the run that hold the experts, each with the command that makes it; and who labels, if agreed."""
    who = {CROSS_PLAY: f"cross-play {' '.join(tasks)} --teacher {teacher}"} if agreed else {}
    if not in_run(teacher):
        return who
    taken = f"run --teacher {teacher} --until experts"
    return who | {
        paths.expert(t, seed): taken if is_taken(teacher) else f"train-task {t} (or pass --teacher scripted)"
        for t in tasks
        if in_run(teacher, t)
    }


def teachers(run: Path, tasks: Sequence[str], teacher: str, seed: int) -> dict[str, TeachingPolicy]:
    """The policy that labels each task; with scripts, one may label several tasks, see `labeller`."""
    by_script = [task for task in tasks if _is_by_script(teacher, task)]
    found = {}
    for task in tasks:
        if task in by_script:
            found[task] = _script_for(task, by_script)
        else:
            source = run / paths.expert(task, seed) if in_run(teacher, task) else source_of(teacher, task)
            found[task] = teaching(source, task)
    return found


class Labelled(Protocol):
    """Settings that say which tasks are labelled by whom."""

    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def teacher(self) -> str: ...
    @property
    def agreed(self) -> bool: ...


def labelling(run: Path, config: Labelled, seed: int) -> dict[str, TeachingPolicy]:
    """The policy that labels each task: its own teacher, or the one on which cross-play agreed.

    Raises:
        UserError: cross-play was about other tasks.
    """
    if not config.agreed:
        return teachers(run, config.tasks, config.teacher, seed)
    labeller = _agreement(run, config, seed)
    own = each_teacher(run, sorted(set(labeller.values())), config.teacher, seed)
    return {task: own[labeller[task]] for task in config.tasks}


def _agreement(run: Path, config: Labelled, seed: int) -> dict[str, str]:
    """The task whose expert labels each task, as cross-play of these very experts has it.

    Raises:
        UserError: it was played by others, or in other tasks.
    """
    record = sealed.manifest(run / CROSS_PLAY)
    experts = teacher_inputs(config.teacher, config.tasks, seed)
    present = {folder: manifests.identity(run / folder) for folder in experts}
    played = {folder: hashed for folder, hashed in record["inputs"].items() if folder in experts}
    labeller = read_object(run / CROSS_PLAY / SUMMARY)["labeller"]
    among = all(labeller.get(task) in config.tasks for task in config.tasks)
    if (record["config"]["teacher"], played, among) != (config.teacher, present, True):
        raise UserError(
            f"{run / CROSS_PLAY} does not say which of these experts labels which of these tasks, since others played "
            f"or other tasks were played: make it anew with 'cross-play {' '.join(config.tasks)} "
            f"--teacher {config.teacher} --overwrite', and pass --overwrite here too if this stage had begun"
        )
    return labeller


def seeing(teachers: Mapping[str, TeachingPolicy], layout: EnvSpec) -> dict[str, TeachingPolicy]:
    """The teachers, shown observations in this layout, of which each reads what is its task's own."""
    own = {task: spec(task) for task in teachers}
    return {
        task: teacher if own[task].obs_dim == layout.obs_dim else OwnEntries(teacher, own[task], layout)
        for task, teacher in teachers.items()
    }


def each_teacher(run: Path, tasks: Sequence[str], teacher: str, seed: int) -> dict[str, TeachingPolicy]:
    """Each task's own, whatever the tasks beside it are."""
    return {task: teachers(run, (task,), teacher, seed)[task] for task in tasks}


def teaching(source: str | Path, task: str) -> TeachingPolicy:
    """The policy of this name, which also labels.

    Raises:
        UserError: there is none, or it does not label.
    """
    policy = load_policy(source, task=task)
    if not isinstance(policy, TeachingPolicy):
        raise UserError(f"{source} cannot teach {task}: it acts, but labels no steps that others played")
    return policy


def _script_for(task: str, tasks: Sequence[str]) -> TeachingPolicy:
    """The scripted policy, or the shipped expert where it succeeds more often."""
    name = suite_of(task).label(task)
    if name in BETTER_SHIPPED and (folder := shipped(source_of("shipped", task))):
        return load_expert(folder)
    return ScriptedPolicy((suite_of(task).labeller(task, tasks),))
