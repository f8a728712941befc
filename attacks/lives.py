"""A process that does a stage of a small run, and may be killed, or lose its disk, at a given change of a file."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from dataclasses import replace
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from collectiverl.artifacts import checkpoints, locks
from collectiverl.pipeline import executor, plan
from collectiverl.pipeline.config import RunConfig, claim
from collectiverl.pipeline.presets import smoke
from collectiverl.stages.base import Stage
from collectiverl.types import UserError

CHECKPOINT_EVERY = 0.1  # seconds
LIFE = 1_800.0  # seconds after which a life counts as hanging
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")  # audit events


def settings() -> RunConfig:
    """Every stage in seconds; of sizes for which the suite of tests has compiled the programs already."""
    base = smoke()
    small = {"warmup": 200, "stop_evaluations": 0, "checkpoint_every": 200}
    expert = replace(base.expert, steps=800, eval_every=400, sac=replace(base.expert.sac, depth=1), **small)
    student = replace(
        base.student, steps=600, eval_every=300, sac=replace(base.student.sac, depth=1), **small
    )
    collective = replace(
        base.collective,
        updates=100,
        critic=replace(base.collective.critic, updates=100),
        sac=replace(base.collective.sac, depth=1),
    )
    online = replace(
        base.online,
        expert_episodes=6,
        learner_rounds=1,
        learner_episodes=6,
        first_updates=50,
        round_updates=50,
    )
    parts = {"expert": expert, "student": student, "collective": collective, "online": online}
    return replace(base, **parts).resolved()


# -- a life ------------------------------------------------------------------------------------------------


def live(
    run: str,
    stage: str,
    changes: Any,
    kill_at: int | None = None,
    fill_at: int | None = None,
    size: int = 0,
    keep: bool = False,
) -> None:
    """Does a stage; all that are left, if it is "".

    Args:
        stage: its folder.
        changes: counts the changes of the run's folder.
        kill_at: number of the change right before which the process is killed.
        fill_at: number of the change from which on no file may grow beyond `size` bytes.
        keep: compiled programs.
    """
    folder = os.path.realpath(run)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if not _changes(folder, event, args):
            return
        changes.value += 1
        if changes.value == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if changes.value == fill_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    executor.use_threads(1)
    _keep_programs(keep)
    checkpoints.SECONDS = CHECKPOINT_EVERY
    sys.addaudithook(watch)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        try:
            _do(Path(folder), stage)
        except UserError:
            sys.exit(2)


def _changes(folder: str, event: str, args: tuple[Any, ...]) -> bool:
    """Whether an audit event is a change of the folder."""
    if event == "open":
        writes = isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR))
    else:
        writes = event in CHANGES
    if not (writes and isinstance(args[0], str | os.PathLike)):
        return False
    path = os.fspath(args[0])
    inside_a_tree = event != "open" and not os.path.isabs(path)  # that is being removed, entry by entry
    return isinstance(path, str) and (inside_a_tree or path.startswith(folder))


def _keep_programs(keep: bool) -> None:
    """Compiling is most of a short stage: the lives that prepare the run keep all programs, the others only read them.

    Of one that is killed while it writes a program, half would stay in the cache.
    """
    import jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0 if keep else 1e9)


def _do(run: Path, stage: str) -> None:
    with locks.lock(run):
        claim(run, settings())
        for one in in_order():
            if stage not in ("", one.out):
                continue
            executor.run_here(run, one, watch=lambda progress: None)


def in_order() -> list[Stage]:
    """All stages of the run, each behind those that it reads."""
    left, found = list(plan.stages(settings())), list[Stage]()
    while left:
        done = {one.out for one in found}
        found.append(next(one for one in left if done.issuperset(one.inputs)))
        left.remove(found[-1])
    return found


class Lives:
    """Starts lives from a process in which all is imported, and JAX has computed nothing yet."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["attacks.lives", "collectiverl.cli.main"])
        self.changes = self.context.Value("q", 0, lock=False)

    def start(self, run: Path, stage: str = "", **disturbed: int | None) -> ForkServerProcess:
        self.changes.value = 0
        process = self.context.Process(target=partial(live, str(run), stage, self.changes, **disturbed))
        process.start()
        return process

    def whole(self, run: Path, stage: str = "", keep: bool = False) -> str | None:
        """A life to its end, undisturbed; what went wrong."""
        process = self.start(run, stage, keep=keep)
        process.join(LIFE)
        if process.exitcode is None:
            process.kill()
            process.join()
            return f"hangs, for {LIFE:.0f} seconds"
        return f"ends with exit code {process.exitcode}" if process.exitcode else None
