"""Ends small runs at random moments, or fills their disk; started again, each must end as one that nobody disturbed.

A run is prepared once. For each disturbance one of its stages, drawn by how long it takes, is removed from a copy, and
a life is a process that does it again; then the copy must be as the run was. Checkpoints, which are otherwise
written every 30 seconds, come several times a second, so that there is one in most lives. Half of the kills come at a
random moment, the other half right before a random change of the run's folder: a file that is opened for writing, a
rename, a removal. A disk is filled up the same way: from a random change on, no file may grow beyond a random size.
"""

import atexit
import json
import random
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attacks import Row
from attacks.lives import LIFE, Lives, in_order
from collectiverl.artifacts import manifests, sealed
from collectiverl.artifacts.paths import CONFIG, MANIFEST, METRICS

KILLS, FULL_DISKS = 100, 20  # at scale 1
PER_STAGE = 3  # kills of one stage, on average
LARGEST = 20_000  # bytes that a file may have on a full disk, at most
LOGGED = ("tensorboard", "logs", ".lock")  # names of files and folders that may differ


# -- what a run has become -----------------------------------------------------------------------------------


def content(run: Path) -> dict[str, Any]:
    """All that a run is, without times: a hash or what is logged, by the name of the folder or file."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not set(name.split("/")) & set(LOGGED):
            found[name] = ""
            if path.name == MANIFEST:
                found[name] = manifests.identity(path.parent)
            if path.name == METRICS:
                lines = map(json.loads, path.read_text().splitlines())
                found[name] = [
                    {key: value for key, value in line.items() if key not in manifests.TIMES}
                    for line in lines
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


@cache
def prepared() -> tuple[Lives, Undisturbed]:
    """What a disturbance needs, made once for all attacks of this process; the run is removed when that ends."""
    root = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    lives = Lives()
    return lives, undisturbed(lives, Path(root) / "undisturbed")


def attack(scale: float) -> list[Row]:
    """Kills and full disks, at moments that a seed determines."""
    lives, reference = prepared()
    with tempfile.TemporaryDirectory() as root:
        return [
            kills(lives, Path(root), reference, round(KILLS * scale), random.Random(0)),
            full_disks(lives, Path(root), reference, round(FULL_DISKS * scale), random.Random(1)),
        ]
