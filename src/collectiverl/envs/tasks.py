"""Names of tasks: from what users type to canonical names, and back to short labels."""

from collections.abc import Iterable, Sequence

from collectiverl.envs.registry import SUITES, suite_of, unknown
from collectiverl.types import UserError


def canonical(name: str) -> str:
    """The canonical name of a task: `reach`, `reach-v2` and `reach-v3` are all `reach-v3`.

    Raises:
        UserError: there is no such task.
    """
    for suite in SUITES:
        task = suite.canonical(name)
        if task is not None:
            return task
    raise UserError(unknown(name))


def label(task: str) -> str:
    """The short name of a task, for tables and templates: `reach` for `reach-v3`."""
    return suite_of(task).label(task)


def resolve(names: Sequence[str]) -> tuple[str, ...]:
    """The tasks that `names` stand for, each once, in the order first named. Benchmarks are expanded.

    Raises:
        UserError: a name is neither a task nor a benchmark, or the tasks are of different suites.
    """
    tasks = tuple(dict.fromkeys(_expand(names)))
    first_of = {suite_of(task).name: task for task in reversed(tasks)}
    if len(first_of) > 1:
        found = " and ".join(f"{task} (suite {name})" for name, task in first_of.items())
        raise UserError(f"{found} cannot be named together: a collective learns tasks of one suite")
    return tasks


def benchmark_of(tasks: Sequence[str]) -> str | None:
    """The benchmark that consists of exactly these tasks, in this order; None if there is none."""
    suite = suite_of(tasks[0])
    return next((name for name in suite.benchmarks if suite.benchmark(name) == tuple(tasks)), None)


def _expand(names: Iterable[str]) -> Iterable[str]:
    sets = {name.lower(): (suite, name) for suite in SUITES for name in suite.benchmarks}
    for name in names:
        if name.lower() in sets:
            suite, benchmark = sets[name.lower()]
            yield from suite.benchmark(benchmark)
        else:
            yield canonical(name)
