"""Damages files of a small finished run, and puts hostile ones in their place: what reads them must find it.

A try harms one file, asks what a user would (`run` on the finished run, `verify`, or the command that uses the file)
and puts the file back. Found is what ends in a `UserError` within a second of work: one message and exit code 2.
"""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attacks import Row, kills, lives
from attacks.hostile import EPISODES, HOSTILE, harmed_episodes
from collectiverl.artifacts import attempts, checkpoints, configs, sealed
from collectiverl.artifacts.paths import CONFIG, MANIFEST, SUMMARY
from collectiverl.data.episodes import EpisodeTable
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig, claim
from collectiverl.policies import load_policy
from collectiverl.stages.base import Stage, summary
from collectiverl.stages.verification import verify_all
from collectiverl.types import Notice, UserError

DAMAGES, COMMANDS = 1_000, 20  # at scale 1
SECONDS = 1.0  # of this process's work, that an answer may take
HANGS = 60  # seconds after which it counts as hanging
CUT = 0.25  # share of the damages that cut a file short
INTERRUPTED = "interrupted.partial"  # a stage of ours, in the run
MODELS = {"agent.json", "encoder.json", "collective.json"}


@dataclass(frozen=True)
class Run:
    """A finished run, and what it was made from."""

    folder: Path
    config: RunConfig
    stages: Sequence[Stage]

    def look(self) -> None:
        """As `run` does on a finished run."""
        claim(self.folder, self.config)
        if plan.unfinished(self.folder, self.stages):
            raise AssertionError("a stage would be done again")


# -- one try -------------------------------------------------------------------------------------------------


def answer(action: Callable[[], object]) -> str:
    """What is wrong with how an action ends that must be refused; "" if nothing is."""
    began = time.process_time()
    try:
        with _alarm(), warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            action()
    except UserError as error:
        took = time.process_time() - began
        return "" if str(error) and took < SECONDS else f"took {took:.1f} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was found"


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def harmed(path: Path, content: bytes, *, keeps_time: bool = False) -> Iterator[None]:
    """The file has this content, and later its own again, with its time."""
    before, found = path.read_bytes(), path.stat()
    path.write_bytes(content)
    if keeps_time:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)  # a damaged checkpoint is removed
        path.write_bytes(before)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def damaged(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A content with one flipped bit, or cut short; and what was done."""
    if rng.random() < CUT:
        size = rng.randrange(len(content))
        return content[:size], f"cut to {size} of {len(content)} bytes"
    bit = rng.randrange(8 * len(content))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped), f"bit {bit} flipped"


# -- who finds it --------------------------------------------------------------------------------------------


def by_verify(run: Run, path: Path) -> None:
    """As `verify`, of the folder that the file is in."""
    folder = next(one for one in (path, *path.parents) if one == run.folder or one.parent == run.folder)
    if wrong := [said for one in verify_all(run.folder if folder == path else folder) for said in one.wrong]:
        raise UserError(wrong[0])


def by_user(run: Run, path: Path) -> None:
    """As the command that uses the file."""
    out = next((folder for folder in path.parents if sealed.is_sealed(folder)), run.folder)
    if path.name in MODELS or path.suffix == ".safetensors":
        load_policy(out) if path.name != "encoder.json" and "transformer" not in str(out) else sealed.verify(
            out
        )
    elif path.suffix == ".h5":
        sealed.verify(out)
        EpisodeTable.open(path.parent)
    elif path.name == SUMMARY:
        summary(out)
    else:
        run.look()


def by_stage(path: Path) -> None:
    """As the stage that goes on: a damaged checkpoint is said, and the one before is taken; both are damaged here."""
    work = next(folder for folder in path.parents if folder.name.endswith(".partial"))
    if path.name == attempts.INTENT:
        attempts.spent(work)
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", Notice)
        found = checkpoints.latest_checkpoint(work)
    if found is not None and not any(issubclass(one.category, Notice) for one in said):
        return  # nothing was found
    raise UserError("the checkpoint before is taken")


# -- rows ----------------------------------------------------------------------------------------------------


def kinds(run: Run) -> dict[str, list[Path]]:
    """The files of the run by their kind, without those that nobody reads."""
    found: dict[str, list[Path]] = {}
    for path in sorted(run.folder.rglob("*")):
        if path.is_file() and path.stat().st_size and "logs" not in path.parts and path.name != ".lock":
            kind = "tensorboard" if "tensorboard" in path.parts else path.suffix
            kind = f"of checkpoints: {kind}" if INTERRUPTED in path.parts else kind
            kind = path.name if path.suffix in (".json", ".yaml") and INTERRUPTED not in path.parts else kind
            found.setdefault(kind, []).append(path)
    return found


def damages(run: Run, count: int) -> list[Row]:
    """Flips and cuts, as many of each kind of file."""
    rows = []
    by_kind = kinds(run)
    each = max(1, -(-count // len(by_kind)))
    for number, (kind, paths) in enumerate(by_kind.items()):
        rng = random.Random(number)
        failures = [why for _ in range(each) if (why := _damage(run, rng.choice(paths), rng))]
        rows.append(Row(f"damaged files: {kind}", each, each - len(failures), tuple(failures)))
    return rows


def _damage(run: Run, path: Path, rng: random.Random) -> str:
    before = path.read_bytes()
    content, done = damaged(before, rng)
    while path.name == CONFIG and _same_settings(path, content):  # a space, say, has no meaning
        content, done = damaged(before, rng)
    way = rng.choice(("run", "verify", "use"))
    if "checkpoint.old" in path.parts:  # which nobody reads while the last one is whole
        way = "verify"
    elif INTERRUPTED in path.parts:
        way = "stage"
    if way == "stage":
        action: Callable[[], object] = lambda: by_stage(path)  # noqa: E731
    elif path.name == CONFIG or way == "run":
        action = run.look
    elif way == "verify":
        action = lambda: by_verify(run, path)  # noqa: E731
    else:
        action = lambda: by_user(run, path)  # noqa: E731
    with kept(run), harmed(path, content, keeps_time=way == "verify"):
        found = answer(action)
    return f"{path.relative_to(run.folder)}, {done}, asked by {way}: {found}" if found else ""


def _same_settings(path: Path, content: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UserError):
        (other := Path(folder) / CONFIG).write_bytes(content)
        return configs.load(other, RunConfig()) == configs.load(path, RunConfig())
    return False


@contextlib.contextmanager
def kept(run: Run) -> Iterator[None]:
    """A checkpoint that is found to be damaged is removed: this one comes back."""
    work, saved = run.folder / INTERRUPTED, run.folder.parent / "saved"
    shutil.copytree(work, saved)
    try:
        yield
    finally:
        shutil.rmtree(work)
        saved.rename(work)


def hostile(run: Run) -> Row:
    """Files that somebody made, in folders whose manifests fit them."""
    failures = []
    for name, harm in HOSTILE.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Run(Path(shutil.copytree(run.folder, Path(folder) / "run")), run.config, run.stages)
            action = harm(copy.folder)
            if found := answer(action):
                failures.append(f"{name}: {found}")
    return Row("hostile files", len(HOSTILE), len(HOSTILE) - len(failures), tuple(failures))


def hostile_episodes(run: Run) -> Row:
    """Shards of other forms of HDF5, with manifests that fit them."""
    [shard, *_] = sorted(run.folder.rglob("buffer*/**/episodes-*.h5")) or sorted(
        run.folder.rglob("episodes-*.h5")
    )
    failures = []
    for name in EPISODES:
        with tempfile.TemporaryDirectory() as folder:
            harmed_episodes(name, shard, Path(folder))
            if found := answer(lambda folder=folder: EpisodeTable.open(Path(folder))):
                failures.append(f"{name}: {found}")
    return Row("hostile episodes", len(EPISODES), len(EPISODES) - len(failures), tuple(failures))


def commands(run: Run, count: int) -> Row:
    """The command line itself, on damaged files: exit code 2, one message, no traceback."""
    rng, failures = random.Random(99), []
    models = sorted(
        path for path in run.folder.rglob("*") if path.name in (*MODELS, MANIFEST) and "model" in str(path)
    )
    for _ in range(count):
        path = rng.choice([path for path in models if path.parent.parent.parent.name == "model"])
        out = path.parent
        args = rng.choice(
            (["evaluate", str(out), out.parent.name, "--goals", "0"], ["verify", str(run.folder)])
        )
        content, done = damaged(path.read_bytes(), rng)
        with harmed(path, content):
            ended = subprocess.run(
                [sys.executable, "-m", "collectiverl", *args], capture_output=True, text=True, timeout=300
            )
        if ended.returncode != 2 or "Traceback" in ended.stderr or not ended.stderr.strip():
            said = (ended.stderr.strip() or "no message").splitlines()[-1]
            failures.append(f"{' '.join(args)}, {path.name} {done}: exit code {ended.returncode}, {said}")
    return Row("damaged files: the command line", count, count - len(failures), tuple(failures))


@contextlib.contextmanager
def prepared() -> Iterator[Run]:
    """A small finished run, with an interrupted stage in it."""
    with tempfile.TemporaryDirectory() as root:
        folder, config = Path(root) / "run", lives.settings()
        shutil.copytree(kills.prepared()[1].run, folder)
        [out, *_] = sorted(path.parent for path in (folder / "model").rglob(MANIFEST))
        with (
            contextlib.suppress(KeyboardInterrupt),
            sealed.stage(folder / "interrupted", name="test", config={}, inputs={}) as work,
        ):
            for _ in range(2):
                with checkpoints.checkpoint(work) as checkpoint:
                    shutil.copytree(
                        out, checkpoint, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST)
                    )
            raise KeyboardInterrupt
        yield Run(folder, config, plan.stages(config))


def attack(scale: float) -> list[Row]:
    """Damages that a seed determines, and all hostile files."""
    with prepared() as run, contextlib.redirect_stdout(io.StringIO()):
        run.look()
        rows = damages(run, round(DAMAGES * scale))
        rows += [hostile(run), hostile_episodes(run), commands(run, round(COMMANDS * scale))]
        run.look()
        return rows
