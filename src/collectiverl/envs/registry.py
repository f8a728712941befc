"""The table of suites: the only place that lists them."""

import pickle
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import gymnasium as gym

from collectiverl.envs.fetch.suite import FETCH
from collectiverl.envs.metaworld.suite import METAWORLD
from collectiverl.envs.own.suite import NAME, OWN
from collectiverl.envs.own.task import Task
from collectiverl.envs.suite import Suite
from collectiverl.envs.toy import TOY
from collectiverl.types import UserError

SUITES: list[Suite] = [  # names are looked up in this order
    TOY,
    METAWORLD,
    FETCH,
    OWN,
]
BUILT_IN = len(SUITES)


def register(suite: Suite) -> None:
    """Adds a suite to the table, for this process and for the worker processes that it starts.

    Raises:
        ValueError: a suite or a task of the same name is there already.
    """
    taken = {name for other in SUITES for name in (other.name, *other.tasks)}
    clash = taken & {suite.name, *suite.tasks}
    if clash:
        raise ValueError(f"there is already a suite or task named {', '.join(sorted(clash))}")
    SUITES.append(suite)


def register_task(name: str, make: Callable[..., gym.Env] | str, **options: Any) -> Task:
    """Registers a Gymnasium environment as a task, for this process and for the worker processes that it starts.

    A command line is a process of its own. It finds the task that this returns by its import path, as in
    `--tasks my_package.tasks:push_left`.

    Args:
        name: letters, digits, `-` and `_`.
        make: a function that makes the environment, or a name that `gymnasium.make` knows.
        options: the other arguments of `Task`.

    Raises:
        ValueError: the name cannot be used, or another task has it.
    """
    task = Task(make, **options)
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a task: use letters, digits, - and _")
    if OWN.registered.get(name, task) != task or any(
        suite.canonical(name) for suite in SUITES if suite is not OWN
    ):
        raise ValueError(f"there is already a task named {name}")
    OWN.add(name, task)
    return task


# -- in worker processes -----------------------------------------------------------------------------------


def for_workers() -> bytes:
    """All that was registered in this process, for `restore` in another.

    Raises:
        UserError: another process could not import it.
    """
    parts = {f"task {name}": (name, task) for name, task in OWN.registered.items()}
    parts |= {f"suite {suite.name}": suite for suite in SUITES[BUILT_IN:]}
    return pickle.dumps({what: _pickled(what, part) for what, part in parts.items()})


def _pickled(what: str, part: Any) -> bytes:
    try:
        return pickle.dumps(part)
    except Exception as error:  # of many types, such as PicklingError and AttributeError
        raise UserError(
            f"{what} cannot be given to worker processes ({error}): they import its functions by name, so define them "
            "at the top level of a module, without lambda, or pass a name that gymnasium.make knows"
        ) from error


def restore(registered: bytes) -> None:
    """Registers what `for_workers` gave; what cannot be imported is reported where it is used."""
    for what, part in pickle.loads(registered).items():
        try:
            found = pickle.loads(part)
        except Exception as error:
            OWN.missing[what.removeprefix("task ")] = (
                f"{what} cannot be imported in a worker process ({error}): define its functions in a module, since "
                "those of an interactive session or a notebook cannot be imported"
            )
            continue
        if isinstance(found, Suite):
            SUITES[:] = [*(suite for suite in SUITES if suite.name != found.name), found]
        else:
            OWN.add(*found)


# -- by name -----------------------------------------------------------------------------------------------


def suite_of(task: str) -> Suite:
    """The suite of a task, which is given by its canonical name.

    Raises:
        UserError: no suite has this task.
    """
    for suite in SUITES:
        if suite.canonical(task) == task:
            return suite
    raise UserError(unknown(task))


def unknown(name: str) -> str:
    """What to tell a user who named a task that no suite has."""
    spellings = {
        spelling: task for suite in SUITES for task in suite.tasks for spelling in (task, suite.label(task))
    }
    spellings |= {benchmark: benchmark for suite in SUITES for benchmark in suite.benchmarks}
    near = dict.fromkeys(spellings[match] for match in get_close_matches(name, spellings, n=4))
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    known = "; ".join(f"{_examples(suite)} (suite {suite.name})" for suite in SUITES if suite.tasks)
    return f"no task {name!r}: {hint}Known names: {known}; your own are named as my_package.tasks:push_left"


def _examples(suite: Suite, most: int = 4) -> str:
    shown = [*suite.benchmarks, *map(suite.label, suite.tasks[:most])]
    return ", ".join(shown) + (", …" if len(suite.tasks) > most else "")
