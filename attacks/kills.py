"""Ends small runs at random moments, or fills their disk; started again, each must end as one that nobody disturbed.

A run is prepared once. For each disturbance one of its stages, drawn by how long it takes, is removed from a copy, and
a life is a process that does it again; then the copy must be as the run was. Checkpoints, which are otherwise
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
from collectiverl.artifacts.paths import CONFIG, MANIFEST, METRICS
from collectiverl.pipeline import executor, plan
from collectiverl.pipeline.config import RunConfig, claim
from collectiverl.pipeline.presets import smoke
from collectiverl.stages.base import Stage
from collectiverl.types import UserError

KILLS, FULL_DISKS = 100, 20  # at scale 1
PER_STAGE = 3  # kills of one stage, on average
CHECKPOINT_EVERY = 0.1  # seconds
LARGEST = 20_000  # bytes that a file may have on a full disk, at most
LIFE = 1_800.0  # seconds after which a life counts as hanging
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
        self.context.set_forkserver_preload(["attacks.kills", "collectiverl.cli.main"])
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


@dataclass(frozen=True)
class Life:
    """A stage that nobody disturbed."""

    stage: str  # its folder
    seconds: float
    changes: int


@dataclass(frozen=True)
class Undisturbed:
    """The run that all others are compared with, and its stages."""

    run: Path
    content: dict[str, Any]
    lives: tuple[Life, ...]

    def without(self, run: Path, life: Life, rng: random.Random) -> None:
        """A copy in which one stage is to be done again; the settings may be missing as well."""
        shutil.copytree(self.run, run)
        shutil.rmtree(run / life.stage)
        if rng.random() < 0.2:
            (run / CONFIG).unlink()


def undisturbed(lives: Lives, run: Path) -> Undisturbed:
    """Does every stage in a life of its own."""
    found = []
    for stage in (one.out for one in in_order()):
        began = time.monotonic()
        if wrong := lives.whole(run, stage, keep=True):
            raise RuntimeError(f"{stage}, which nobody disturbed, {wrong}")
        found.append(Life(stage, time.monotonic() - began, lives.changes.value))
    return Undisturbed(run, content(run), tuple(found))


def kills(lives: Lives, root: Path, reference: Undisturbed, count: int, rng: random.Random) -> Row:
    """Kills of stages; each goes on until it has ended. Of each number of changes or seconds as many are killed."""
    failures, held, done, number = [], 0, 0, 0
    while done < count:
        run, here, at_change = root / f"killed_{number}", 0, rng.random() < 0.5
        number += 1
        weights = [life.changes if at_change else life.seconds for life in reference.lives]
        [life] = rng.choices(reference.lives, weights)
        reference.without(run, life, rng)
        while done < count and _killed(lives, run, life, at_change, rng):
            done, here = done + 1, here + 1
        wrong = lives.whole(run, life.stage) if not sealed.is_sealed(run / life.stage) else None
        wrong = wrong or difference(content(run), reference.content)
        held += 0 if wrong else here
        failures += [f"{life.stage}, killed {here} times: {wrong}"] if wrong else []
        shutil.rmtree(run, ignore_errors=True)
    return Row("kills: started again, a stage ends as one that was never killed", done, held, tuple(failures))


def _killed(lives: Lives, run: Path, life: Life, at_change: bool, rng: random.Random) -> bool:
    """Goes on with the stage and kills it, unless it ends before.

    Moments are exponentially distributed: then each moment of a stage is as likely as any other.
    """
    if at_change:
        lives_on = lives.start(run, life.stage, kill_at=1 + int(rng.expovariate(PER_STAGE / life.changes)))
        lives_on.join(LIFE)
    else:
        lives_on = lives.start(run, life.stage)
        lives_on.join(rng.expovariate(PER_STAGE / life.seconds))
        if lives_on.exitcode is None:
            lives_on.kill()
        lives_on.join()
    return lives_on.exitcode == -signal.SIGKILL


def full_disks(lives: Lives, root: Path, reference: Undisturbed, count: int, rng: random.Random) -> Row:
    """Disks that are full for a while: the stage says so, and goes on when there is room again."""
    failures = []
    for number in range(count):
        run = root / f"full_{number}"
        [life] = rng.choices(reference.lives, [life.changes for life in reference.lives])
        reference.without(run, life, rng)
        fill_at = rng.randint(1, max(1, life.changes * 9 // 10))
        process = lives.start(run, life.stage, fill_at=fill_at, size=rng.randint(0, LARGEST))
        process.join(LIFE)
        wrong = None if process.exitcode in (0, 2) else f"ends with exit code {process.exitcode}"
        wrong = wrong or lives.whole(run, life.stage) or difference(content(run), reference.content)
        failures += [f"{life.stage}, disk full from change {fill_at} on: {wrong}"] if wrong else []
        shutil.rmtree(run, ignore_errors=True)
    return Row(
        "full disks: one message, and with room again the stage ends as ever",
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
