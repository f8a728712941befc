"""The table of suites: the only place that lists them."""

from difflib import get_close_matches

from collectiverl.envs.metaworld.suite import METAWORLD
from collectiverl.envs.suite import Suite
from collectiverl.envs.toy import TOY
from collectiverl.types import UserError

SUITES: list[Suite] = [  # names are looked up in this order
    TOY,
    METAWORLD,
]


def register(suite: Suite) -> None:
    """Adds a suite to the table, for as long as this process runs.

    Raises:
        ValueError: a suite or a task of the same name is there already.
    """
    taken = {name for other in SUITES for name in (other.name, *other.tasks)}
    clash = taken & {suite.name, *suite.tasks}
    if clash:
        raise ValueError(f"there is already a suite or task named {', '.join(sorted(clash))}")
    SUITES.append(suite)


def suite_of(task: str) -> Suite:
    """The suite of a task, which is given by its canonical name.

    Raises:
        UserError: no suite has this task.
    """
    for suite in SUITES:
        if task in suite.tasks:
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
    known = "; ".join(f"{_examples(suite)} (suite {suite.name})" for suite in SUITES)
    return f"no task {name!r}: {hint}Known names: {known}"


def _examples(suite: Suite, most: int = 4) -> str:
    shown = [*suite.benchmarks, *map(suite.label, suite.tasks[:most])]
    return ", ".join(shown) + (", …" if len(suite.tasks) > most else "")
