"""Ends small runs at random moments, or fills their disk; started again, each must end as one that nobody disturbed.

A life is a process that does all stages of a run that are left, one after another. Checkpoints, which are otherwise
written every 30 seconds, come several times a second, so that there is one in most lives. Half of the kills come at a
random moment, the other half right before a random change of the run's folder: a file that is opened for writing, a
rename, a removal. A disk is filled up the same way: from a random change on, no file may grow beyond a random size.
"""

import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from attacks import Row
from collectiverl.artifacts import checkpoints, locks, sealed
from collectiverl.artifacts.paths import MANIFEST, METRICS
from collectiverl.pipeline import executor, plan
from collectiverl.pipeline.config import RunConfig, claim
from collectiverl.pipeline.presets import smoke
from collectiverl.types import UserError

KILLS, FULL_DISKS = 100, 20  # at scale 1
PER_RUN = 12  # kills of one run, on average
CHECKPOINT_EVERY = 0.1  # seconds
LARGEST = 20_000  # bytes that a file may have on a full disk, at most
LIFE = 600.0  # seconds after which a life counts as hanging
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")  # audit events
LOGGED = ("tensorboard", "logs", ".lock")  # names of files and folders that may differ


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
    run: str, changes: Any, kill_at: int | None = None, fill_at: int | None = None, size: int = 0
) -> None:
    """Does all stages that are left.

    Args:
        changes: counts the changes of the run's folder.
        kill_at: number of the change right before which the process is killed.
        fill_at: number of the change from which on no file may grow beyond `size` bytes.
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
    _write_no_programs()
    checkpoints.SECONDS = CHECKPOINT_EVERY
    sys.addaudithook(watch)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        try:
            _all_stages(Path(folder))
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


def _write_no_programs() -> None:
    """Compiled programs are read from the cache, not written: half of one would stay there."""
    import jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)


def _all_stages(run: Path) -> None:
    config = settings()
    with locks.lock(run):
        claim(run, config)
        left = plan.unfinished(run, plan.stages(config))
        while left:
            ready = next(
                stage for stage in left if all(sealed.is_sealed(run / name) for name in stage.inputs)
            )
            left.remove(ready)
            executor.run_here(run, ready, watch=lambda progress: None)


class Lives:
    """Starts lives from a process in which all is imported, and JAX has computed nothing yet."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["attacks.kills", "collectiverl.cli.main"])
        self.changes = self.context.Value("q", 0, lock=False)

    def start(self, run: Path, **disturbed: int | None) -> ForkServerProcess:
        self.changes.value = 0
        process = self.context.Process(target=partial(live, str(run), self.changes, **disturbed))
        process.start()
        return process

    def whole(self, run: Path) -> str | None:
        """A life to its end, undisturbed; what went wrong."""
        process = self.start(run)
        process.join(LIFE)
        if process.exitcode is None:
            process.kill()
            process.join()
            return f"hangs, for {LIFE:.0f} seconds"
        return f"ends with exit code {process.exitcode}" if process.exitcode else None


# -- what a run has become -----------------------------------------------------------------------------------


def content(run: Path) -> dict[str, Any]:
    """All that a run is, without times: a hash or what is logged, by the name of the folder or file."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not set(name.split("/")) & set(LOGGED):
            found[name] = ""
            if path.name == MANIFEST:
                found[name] = sealed.identity(path.parent)
            if path.name == METRICS:
                lines = map(json.loads, path.read_text().splitlines())
                found[name] = [
                    {key: value for key, value in line.items() if key not in sealed.TIMES} for line in lines
                ]
    return found


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """The first difference; None: there is none."""
    names = [n for n in sorted(found.keys() | expected.keys()) if found.get(n) != expected.get(n)]
    if not names:
        return None
    kinds = {(True, False): "is there", (False, True): "is missing", (True, True): "differs"}
    return f"{names[0]} {kinds[names[0] in found, names[0] in expected]}"


# -- disturbances --------------------------------------------------------------------------------------------


@dataclass
class Undisturbed:
    """The run that all others are compared with."""

    content: dict[str, Any]
    seconds: float
    changes: int


def undisturbed(lives: Lives, run: Path) -> Undisturbed:
    began = time.monotonic()
    if wrong := lives.whole(run):
        raise RuntimeError(f"the run that nobody disturbed {wrong}")
    return Undisturbed(content(run), time.monotonic() - began, lives.changes.value)


def kills(lives: Lives, root: Path, reference: Undisturbed, count: int, rng: random.Random) -> Row:
    """Kills of several runs, one after another; each run goes on until it has ended."""
    failures, held, done, number = [], 0, 0, 0
    while done < count:
        run, here = root / f"killed_{number}", 0
        number += 1
        while done < count and _killed(lives, run, reference, rng):
            done, here = done + 1, here + 1
        wrong = lives.whole(run) or difference(content(run), reference.content)
        held += 0 if wrong else here
        failures += [f"{run.name}, killed {here} times: {wrong}"] if wrong else []
        shutil.rmtree(run, ignore_errors=True)
    return Row(
        "kills: started again, the run ends as one that was never killed",
        done,
        done - len(failures),
        tuple(failures),
    )


def _killed(lives: Lives, run: Path, reference: Undisturbed, rng: random.Random) -> bool:
    """Goes on with the run and kills it, unless it ends before.

    Both kinds of moments are exponentially distributed: then each moment of a run is as likely as any other.
    """
    if rng.random() < 0.5:
        lives_on = lives.start(run, kill_at=1 + int(rng.expovariate(PER_RUN / reference.changes)))
        lives_on.join(LIFE)
    else:
        lives_on = lives.start(run)
        lives_on.join(rng.expovariate(PER_RUN / reference.seconds))
        if lives_on.exitcode is None:
            lives_on.kill()
        lives_on.join()
    return lives_on.exitcode == -signal.SIGKILL


def full_disks(lives: Lives, root: Path, reference: Undisturbed, count: int, rng: random.Random) -> Row:
    """Disks that are full for a while: the stage says so, and goes on when there is room again."""
    failures = []
    for number in range(count):
        run = root / f"full_{number}"
        fill_at = rng.randint(1, max(1, reference.changes * 9 // 10))
        process = lives.start(run, fill_at=fill_at, size=rng.randint(0, LARGEST))
        process.join(LIFE)
        wrong = None if process.exitcode in (0, 2) else f"ends with exit code {process.exitcode}"
        wrong = wrong or lives.whole(run) or difference(content(run), reference.content)
        failures += [f"disk full from change {fill_at} on: {wrong}"] if wrong else []
        shutil.rmtree(run, ignore_errors=True)
    return Row(
        "full disks: one message, and with room again the run ends as ever",
        count,
        count - len(failures),
        tuple(failures),
    )


@contextlib.contextmanager
def prepared() -> Iterator[tuple[Lives, Path, Undisturbed]]:
    """What a disturbance needs; the folder of all runs is removed afterwards."""
    with tempfile.TemporaryDirectory() as root:
        lives = Lives()
        yield lives, Path(root), undisturbed(lives, Path(root) / "undisturbed")


def attack(scale: float) -> list[Row]:
    """Kills and full disks, at moments that a seed determines."""
    with prepared() as (lives, root, reference):
        return [
            kills(lives, root, reference, round(KILLS * scale), random.Random(0)),
            full_disks(lives, root, reference, round(FULL_DISKS * scale), random.Random(1)),
        ]
