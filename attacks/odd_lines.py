"""The odd command lines themselves, by kind."""

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

REFUSED = (2,)
LONG, HUGE = "x" * 300, "999999999999"


@dataclass(frozen=True)
class Line:
    """A command line, and how it must end.

    Args:
        args: what is typed after `collectiverl`.
        codes: exit codes that are right.
        names: what the message must contain.
        only_planned: whether it stops before it computes.
        env: of a process of its own.
        shell: a shell's command in which `$RUN` stands for the command line; "": it is run in this process.
    """

    args: tuple[str, ...]
    codes: tuple[int, ...] = REFUSED
    names: str = ""
    only_planned: bool = False
    env: Mapping[str, str | None] = field(default_factory=dict)
    shell: str = ""

    def __str__(self) -> str:
        shown = " ".join(
            arg if len(arg) < 60 else f"{arg[:20]}...({len(arg)})" for arg in map(ascii, self.args)
        )
        return " ".join([*(f"{k}={v}" for k, v in self.env.items()), f"collectiverl {shown}", self.shell])


ODD_NAMES = (
    *("", " ", "raech", "[bold]", "[/]", "réach", "目標", LONG, "../reach", "/etc/passwd", "0", "nan"),
    *("reach;ls", "%s%n{}", ":smile:", "scripted:", "a b", "reach\ttoy", "\x1b[31mred", "-reach", "~"),
)
# a verb and what stands before and after the name of a task
WITH_TASK = {
    "train-task": ("500",),
    "split-buffer": (),
    "cross-play": (),
    "online-distill": (),
    "split-online-buffer": (),
    "extend-collective": (),
    "train-student": ("500",),
    "record": (),
}
GIVEN = {  # what else has to be named before a flag is looked at
    "evaluate": ("mt10-hidden",),
    "evaluate-meta": ("mt10-hidden",),
    "transfer": ("mt10",),
    "import-buffer": ("toy-reach", "minari:my/push-v0"),
}
WITH_TASKS = ("run", "train-transformer", "distill-collective", "probe", "compare-students")
TOY = ("scripted:toy-reach", "toy-reach")


def _shown(name: str) -> str:
    """What of an odd name a message must contain; names that the parser takes for flags are its matter."""
    last = name.rpartition("/")[2]
    return last if name.isprintable() and last.strip() and not name.startswith("-") else ""


def names_of_tasks() -> Iterator[Line]:
    for verb, more in WITH_TASK.items():
        yield from (Line((verb, name, *more), names=_shown(name)) for name in ODD_NAMES)
    for verb in WITH_TASKS:
        yield from (Line((verb, "--tasks", name), names=_shown(name)) for name in ODD_NAMES)
    yield from (Line(("evaluate", TOY[0], name), names=_shown(name)) for name in ODD_NAMES)


def names_of_policies() -> Iterator[Line]:
    odd = (
        *ODD_NAMES,
        *("scripted:psh", "random:", "mt10/nothing", "mt10/push/x", "mt10:push", "runs", "none"),
        *(".", "..", "/", "/etc", "/dev/null", "./", "mt10/toy-reach", "Scripted:reach"),
    )
    for name in odd:
        yield Line(("evaluate", name, "toy-reach"), names=_shown(name) if ":" not in name else "")
        yield Line(("evaluate", name), names=_shown(name) if ":" not in name else "")
        yield Line(("take-collective", name), names=_shown(name) if ":" not in name else "")
        yield Line(("evaluate-meta", name), names=_shown(name) if ":" not in name else "")


def verbs() -> Iterator[Line]:
    for name in (*ODD_NAMES, "evaluat", "RUN", "--verbose", "-x", "run --help"):
        yield Line((name,), names=_shown(name))
    for verb in (*WITH_TASK, "evaluate", "evaluate-meta", "export"):
        yield Line((verb,))  # without what it must be given
    for verb in (*WITH_TASK, *WITH_TASKS, "ablate", "export", "evaluate", "evaluate-meta", "take-collective"):
        yield Line((verb, "--nonsense", "1"))  # some say first that a task is missing
        yield Line((verb, "--root"))
        yield Line((verb, "--run="))


def suites() -> Iterator[Line]:
    """Tasks of different suites together, and policies of one suite in tasks of another."""
    for verb in (*WITH_TASKS, "cross-play", "online-distill", "extend-collective"):
        flag = ("--tasks",) if verb in WITH_TASKS else ()
        yield Line((verb, *flag, "toy-reach", "reach"), names="reach")
    yield Line(("run", "--tasks", "toy-reach", "--student-tasks", "push"), names="push")
    yield Line(("run", "--tasks", "push", "--student-tasks", "toy-reach"), names="toy-reach")
    for policy in ("mt10", "mt10-hidden", "mt10/push", "scripted:push", "random:push"):
        yield Line(("evaluate", policy, "toy-reach"), names="toy-reach")
    for policy in ("scripted:toy-reach", "random:toy-swap"):
        yield Line(("evaluate", policy, "push"), names="push")
        yield Line(("evaluate", policy, "toy-reach", "push"), names="push")
        yield Line(("evaluate-meta", policy), names=policy)
    yield Line(("evaluate", "scripted:reach", "toy-reach", "--goals-hidden"), names="toy-reach")


def goals() -> Iterator[Line]:
    for chosen in ("5000", "-1", HUGE, "0 0", "all train", "none", "", "1.5", "fresh", "0 5000"):
        yield Line(("evaluate", *TOY, "--goals", *chosen.split()))
    for chosen in ("0", "-1", "101", HUGE, "x"):
        yield Line(("evaluate", *TOY, "--goal-seeds", chosen), names=chosen)
    yield Line(("evaluate", *TOY, "--goals", "99"), codes=(0,))
    yield Line(("evaluate", *TOY, "--goals", "49", "99", "--goal-seeds", "2"))
    for count in ("0", "-1", HUGE, "1e3", "nan"):
        yield Line(("evaluate", *TOY, "--num-envs", count), names=count)


def files() -> Iterator[Line]:
    """Results and settings where there can be none."""
    nowhere = ("", "/proc/none", "/proc/none/file", "/dev/null/file", LONG, "/etc")
    for path in nowhere:
        yield Line(("evaluate", *TOY, "--json", path), names=path or "--json")
        yield Line(("evaluate-meta", "mt10-hidden", "--json", path), names=path or "--json")
    for path in ("", "/proc/none", "/dev/null", "/dev/null/folder", LONG, "/etc/passwd"):
        yield Line(("evaluate", *TOY, "--video", path), names=path or "--video")
        yield Line(("record", "toy-reach", "--root", path), names=path or "--root")
        yield Line(("run", "--preset", "smoke", "--root", path), names=path or "--root")
    for path in ("", "/proc/none", "/etc", "/dev/null/x", LONG, "no.yaml", "/bin/sh"):
        for verb in ("run", "ablate", "train-transformer"):
            yield Line((verb, "--config", path), names=path or "--config")
    for preset in (*ODD_NAMES, "smok"):
        yield Line(("run", "--preset", preset), names=_shown(preset))
    for out in ("/etc", "", "/dev/null"):
        yield Line(("export", "--run", "none", "--out", out))
    for name in (LONG, "/proc/none"):
        yield Line(("record", "toy-reach", "--run", name), names=name)


def accepted() -> Iterator[Line]:
    """Lines that are only unusual."""
    for name in ("[bold]x[/bold]", "[/]", "目標", ":smile:", "a b", "100%s", "{run}", "x" * 200):
        yield Line(("record", "toy-reach", "--episodes", "2", "--run", name), codes=(0,))
        yield Line(("evaluate", *TOY, "--goals", "0", "--json", f"{name}.json"), codes=(0,))
        yield Line(("evaluate", *TOY, "--goals", "0", "--video", name), codes=(0,))
    for seed in ("0", "1", "4294967295"):
        yield Line(("record", "toy-reach", "--episodes", "2", "--seed", seed), codes=(0,))
    for count in ("1", "7", "50", "10000"):
        yield Line(("evaluate", *TOY, "--num-envs", count), codes=(0,))
    yield Line(("record", "toy-reach", "--episodes", "2", "--num-envs", "5000"), codes=(0,))
    yield Line(("record", "toy-reach", "--episodes", "1", "--horizon", "1"), codes=(0,))
    yield Line(("--version",), codes=(0,))
    yield Line(("help",), codes=(0,))
    yield Line((), codes=(0,))


def memory() -> Iterator[Line]:
    """Sizes that no machine has."""
    smoke = ("--preset", "smoke")
    for flag in ("--capacity", "--sac.width", "--sac.depth", "--sac.batch-size", "--num-envs", "--eval-envs"):
        for size in (HUGE, "9" * 30):
            yield Line(("train-task", "toy-reach", "500", *smoke, flag, size), names=flag)
    for verb in ("record", "online-distill"):
        yield Line((verb, "toy-reach", "--num-envs", HUGE), names="--num-envs")
    yield Line(("record", "toy-reach", "--episodes", HUGE), names="--episodes")
    for study in ("ablate", "compare-students"):
        yield Line((study, "--seeds", HUGE), names="--seeds")


def values() -> Iterator[Line]:
    """Every flag of every command with values of the wrong kind; those of a run are many."""
    from collectiverl.cli.commands import COMMANDS

    for verb, command in COMMANDS.items():
        given = GIVEN.get(verb, ("toy-reach",) if verb in WITH_TASK else ())
        decided = getattr(command.settings, "decided", ())
        for flag, hint in _flags(command.settings):
            if any(flag == d or (d.endswith(".") and flag.startswith(d)) for d in decided):
                continue
            for value in _wrong(hint):
                yield Line(
                    (verb, *given, flag, value), only_planned=True, names=flag.rpartition(".")[2].strip("-")
                )


def _wrong(hint: Any) -> tuple[str, ...]:
    """Values that a flag of this type never takes."""
    kinds = set(_leaves(hint))
    if str in kinds or bool in kinds:
        return ()
    if float in kinds:
        return ("nan", "inf", "-inf", "abc", "")
    if int in kinds:
        return (HUGE, "-1", "1.5", "nan", "abc", "")
    return ("nonsense", "[bold]", "")


def _leaves(hint: Any) -> Iterator[Any]:
    """The types and options that a type is made of."""
    inner = typing.get_args(hint)
    yield from (leaf for one in inner for leaf in _leaves(one)) if inner else (hint,)


def _flags(kind: type) -> Iterator[tuple[str, Any]]:
    """The flags of a command, with their types, without those that take no value."""
    from collectiverl.cli.parser import flags

    for path, flag in flags(kind):
        owner, hint = kind, None
        for part in path.split("."):
            hint = typing.get_type_hints(owner, include_extras=False)[part]
            owner = next(
                (t for t in _leaves(hint) if isinstance(t, type) and hasattr(t, "__dataclass_fields__")),
                owner,
            )
        if path.rpartition(".")[2] not in ("task", "tasks", "policy", "source", "steps") and hint is not bool:
            yield flag, hint


def surroundings() -> Iterator[Line]:
    """Terminals, streams and environments, each in a process of its own."""
    plain, toy = ("evaluate", *TOY, "--goals", "0", "1"), ("evaluate", *TOY)
    ok = (0,)
    yield Line(plain, ok, env={"PYTHONIOENCODING": "ascii"})
    yield Line(toy, (0, 141), shell="set -o pipefail; $RUN | head -1")
    yield Line(plain, ok, env={"PYTHONIOENCODING": "latin-1"})
    yield Line(plain, ok, env={"LC_ALL": "xx_XX.nonsense", "LANG": "", "PYTHONUTF8": "0"})
    yield Line(plain, ok, env={"COLUMNS": "40"}, shell="$RUN | tee log; ! grep -q … log")
    yield Line(plain, ok, env={"COLUMNS": "1"})
    yield Line(plain, ok, env={"COLUMNS": "nonsense", "TERM": "dumb", "LINES": "-1"})
    yield Line(plain, ok, shell="$RUN < /dev/null > log 2>&1")
    yield Line(plain, ok, shell="$RUN <&- 2>&-")
    yield Line(plain, ok, shell="$RUN >&-")
    yield Line(plain, REFUSED, names="cannot be written", shell="$RUN > /dev/full")
    yield Line(plain, ok, env={"HOME": None, "XDG_CACHE_HOME": None})
    yield Line(plain, ok, env={"HOME": "/proc/none", "XDG_CACHE_HOME": None})
    yield Line(plain, ok, env={"XDG_CACHE_HOME": "/dev/null"})
    smoke = ("train-task", "toy-reach", "500", "--preset", "smoke")
    yield Line(smoke, names="JAX_PLATFORMS", env={"JAX_PLATFORMS": "nonsense"})
    yield Line(smoke, names="JAX_PLATFORMS", env={"JAX_PLATFORMS": "tpu"})
    yield Line(("run", "--preset", "smoke"), names="JAX_PLATFORMS", env={"JAX_PLATFORMS": "nonsense"})
    for seconds in ("0.2", "1", "3"):
        yield Line(smoke, (130, 124, 137), shell=f"timeout -s INT -k 60 {seconds} $RUN")
        yield Line(
            ("run", "--preset", "smoke"), (130, 124, 137), shell=f"timeout -s INT -k 60 {seconds} $RUN"
        )


KINDS: dict[str, Callable[[], Iterator[Line]]] = {
    "verbs": verbs,
    "names of tasks": names_of_tasks,
    "names of policies": names_of_policies,
    "suites": suites,
    "goals": goals,
    "files": files,
    "sizes": memory,
    "unusual": accepted,
    "values of flags": values,
    "surroundings": surroundings,
}
