"""The names of all files and folders of a run, once. Paths of stages are relative to the run's folder."""

import os
from pathlib import Path
from typing import Literal

from collectiverl.types import ConfigError

# -- files ---------------------------------------------------------------------------------------------------

CONFIG = "config.yaml"  # the settings of a run
MANIFEST = "manifest.json"  # of a sealed folder
SUMMARY = "summary.json"  # what a stage found: numbers for people and tables
METRICS = "metrics.jsonl"
REPORT = "report.html"  # the page of a run, made from its sealed folders
LOGS = "logs"  # folder, of the processes of a run
EPISODES = "episodes"  # folder, inside a stage's folder
DISTILLATION = "distillation"  # folder, inside a stage's folder: of the last distillation after others
CARD, EXPERTS_FIGURES, COLLECTIVE_FIGURES = "README.md", "experts.json", "figures.json"  # of an export
PORTABLE = "policy.json"  # of an export for other programs

# -- folders of a run ----------------------------------------------------------------------------------------

EXPERTS = "model"
STUDENTS = "student"
COLLECTIVE = "model_col"
TRANSFORMER = "trajectory_transformer"
CROSS_PLAY = "cross_play"
ONLINE = "online_distill"
DISTILL_BUFFER: Literal["buffer_distill"] = "buffer_distill"  # sampled from experts while they learned
ONLINE_BUFFER: Literal["online_buffer"] = "online_buffer"  # collected by online distillation
COMPARISON, ABLATION, EXTENDED, TRANSFER = "comparison", "ablation", "extended", "transfer"

BufferKind = Literal["buffer_distill", "online_buffer"]
StudentKind = Literal["student", "sac"]


def _of(folder: str, task: str, seed: int) -> str:
    return f"{folder}/{task}/seed_{seed}"


def expert(task: str, seed: int) -> str:
    return _of(EXPERTS, task, seed)


def trained_together(start: str, seed: int) -> str:
    """Experts of several tasks trained in one program; `start` is `scratch` or the demonstrations."""
    return _of("together", start.replace(":", "_"), seed)


def recorded(policy: str, task: str, seed: int) -> str:
    return _of(f"recorded/{policy}", task, seed)


def buffer(kind: BufferKind, task: str, seed: int) -> str:
    return _of(kind, task, seed)


def online_distill(tasks: str, seed: int) -> str:
    """`tasks` is one name for all tasks that were distilled together."""
    return _of(ONLINE, tasks, seed)


def student(kind: StudentKind, task: str, seed: int) -> str:
    """A student with the collective's help, or plain SAC beside it."""
    return _of(kind, task, seed)


def evaluation(kind: str, task: str, seed: int) -> str:
    """`kind` is what tables call the policy."""
    return _of(f"evaluation/{kind}", task, seed)


def films(kind: str, task: str, seed: int) -> str:
    """Films of one kind of policy that plays one task, for the report."""
    return _of(f"films/{kind}", task, seed)


def probe(encoder: str, buffer: BufferKind) -> str:
    """`encoder` is the folder of the run that holds it."""
    return f"evaluation/probe/{encoder}/{buffer}"


def summary(until: str) -> str:
    """The summary of a run up to this point."""
    return f"summary/{until}"


def extension(task: str, count: int, seed: int) -> str:
    """The collective that learned `task` last and knows `count` tasks."""
    return _of(EXTENDED, f"{count}_{task}", seed)


def told_nothing(seed: int) -> str:
    """The policy beside the collective that is told nothing."""
    return f"told_nothing/seed_{seed}"


def ablation(group: str, variant: str, seed: int) -> str:
    return f"{ABLATION}/{group}/{variant}/seed_{seed}"


def named_after(collective: str) -> str:
    """What the folder of a study of this collective is called: like the folder of the collective's run.

    Raises:
        ConfigError: the folder of the run has no name that a folder within another one could have.
    """
    path = Path(os.path.abspath(collective))  # `.` and `..` have names, too; links keep theirs
    name = (path.parent if path.name == COLLECTIVE else path).name
    name = name.replace("{", "").replace("}", "")
    if name in ("", ".", ".."):
        raise ConfigError("collective", f"{collective!r} has no name for the folder of its results")
    return name


def compared_collective(name: str) -> str:
    """The collective that helps the students of a comparison."""
    return f"collective/{name}"


def compared_student(strategy: str, task: str, seed: int, collective: str = "") -> str:
    """Plain SAC depends on no collective and is shared by all comparisons; `strategy` says an unusual replay ratio."""
    folder = f"{COMPARISON}/{collective}" if collective else COMPARISON
    return _of(f"{folder}/{strategy}", task, seed)


def mapped_collective(name: str) -> str:
    """The collective whose transfer to other tasks is mapped."""
    return f"{TRANSFER}/{name}/{COLLECTIVE}"


def mapped_task(name: str, task: str) -> str:
    """What it did in one task."""
    return f"{TRANSFER}/{name}/{task}"


def log(stage: str) -> str:
    """The log file of the stage with this folder."""
    return f"{LOGS}/{stage.replace('/', '_')}.log"
