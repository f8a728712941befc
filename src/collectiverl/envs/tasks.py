"""Task names: the three ways to spell one, the benchmarks that stand for many, and what to say of a typo."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache

from collectiverl.types import UserError

TOY_TASKS = ("toy-reach", "toy-mirror", "toy-swap", "toy-turn")
BENCHMARKS = ("MT10", "MT25", "MT50")
VERSION = "-v3"
OLD_VERSIONS = ("-v1", "-v2", VERSION)
# Meta-World's older names of tasks it renamed in its third version.
RENAMED = {"peg-insertion-side": "peg-insert-side"}


def is_toy(task: str) -> bool:
    return task in TOY_TASKS


@cache
def benchmark(name: str) -> tuple[str, ...]:
    """Tasks of `MT10`, `MT25` or `MT50`, as Meta-World lists them."""
    import metaworld.env_dict  # here, because it takes most of a second and the toy tasks do without

    return tuple(getattr(metaworld.env_dict, f"{name}_V3"))


def canonical(name: str) -> str:
    """The one name of a task: `reach`, `reach-v2` and `reach-v3` are all `reach-v3`.

    Raises:
        UserError: there is no such task.
    """
    if is_toy(name):
        return name
    bare = name.lower()
    for version in OLD_VERSIONS:
        bare = bare.removesuffix(version)
    task = RENAMED.get(bare, bare) + VERSION
    if task not in benchmark("MT50"):
        raise UserError(_unknown(name))
    return task


def resolve(names: Sequence[str]) -> tuple[str, ...]:
    """Tasks that `names` stand for, benchmarks expanded, each task once, in the order first named.

    Raises:
        UserError: a name is neither a task nor a benchmark.
    """
    return tuple(dict.fromkeys(_expand(names)))


def _expand(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name.upper() in BENCHMARKS:
            yield from benchmark(name.upper())
        else:
            yield canonical(name)


def _unknown(name: str) -> str:
    spellings = {
        spelling: task for task in benchmark("MT50") for spelling in (task, task.removesuffix(VERSION))
    }
    spellings |= {known: known for known in (*TOY_TASKS, *BENCHMARKS)}
    near = dict.fromkeys(spellings[match] for match in get_close_matches(name, spellings, n=4))
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return (
        f"no task {name!r}: {hint}Name a Meta-World task such as 'reach-v3', "
        f"a benchmark ({', '.join(BENCHMARKS)}) or a toy task ({', '.join(TOY_TASKS)})"
    )
