"""`evaluate --video`: films of the episodes that are evaluated; one file a task, or all tasks side by side in one."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collectiverl.artifacts import outputs
from collectiverl.artifacts.metrics import Report
from collectiverl.cli.settings import Evaluate
from collectiverl.envs.registry import suite_of
from collectiverl.evaluation.encode import SUFFIXES
from collectiverl.evaluation.evaluate import evaluate, evaluation_envs
from collectiverl.evaluation.grid import write_grid
from collectiverl.evaluation.video import filming, watched
from collectiverl.policies import load_policy
from collectiverl.stages.evaluation import detailed_row

TILES = 12  # quality of H.264 of films that are to be put together, which are encoded again


@dataclass
class Films:
    """Where the films of an evaluation go.

    Args:
        settings: of the evaluation; with `--video`.
        folder: of the films of single tasks.
        together: the file of all of them; None: they are not put together.
    """

    settings: Evaluate
    folder: Path
    together: Path | None

    def evaluated(self, task: str, report: Report) -> Iterator[dict[str, Any]]:
        """The row of one task, whose first goals are filmed while they are played."""
        settings, config, look = self.settings, self.settings.settings, self.settings.film
        goals = config.goal_indices[:: config.envs_used][: look.episodes]
        policy, embedding = watched(load_policy(settings.policy, task=task))
        path = self.folder / name_of(task, goals)
        title = f"{settings.policy} plays {task}, goal{'s' * (len(goals) > 1)} {', '.join(map(str, goals))}"
        crf: dict[str, Any] = {"crf": TILES} if self.together else {}
        filmed = replace(look, episodes=len(goals))
        with (
            contextlib.closing(evaluation_envs(task, config)) as envs,
            filming(envs, path, filmed, title=title, embedding=embedding, **crf) as camera,
        ):

            def told(done: int, total: int, note: str = "") -> None:
                report(done, total, note if camera.done else f"{note} filming".strip())

            result = evaluate(policy, task, config, envs=envs, report=told, watch=camera)
            success = [result.success_any[result.goals.index(goal)] for goal in goals]
            file = self.together.name if self.together else path.name
            film = {"file": file, "goals": list(goals), "success": success}
            yield detailed_row(settings.policy, result) | {
                "film": film
            }  # before the film is written, which may fail

    def put_together(self, report: Callable[[str], None]) -> None:
        """All films side by side, as one file; nothing, where each has its own."""
        if self.together is None:
            return
        report("putting films together")
        suite, look = suite_of(self.settings.tasks[0]), self.settings.film
        tiles = [next(self.folder.glob(f"{task}_goal*.mp4")) for task in self.settings.tasks]
        suffix = self.together.suffix.lower()
        written = self.folder / f"whole{suffix}"
        rate = look.rate(suite.steps_per_second)
        write_grid(
            tiles, written, suffix, rate, f"{self.settings.policy} plays {' '.join(self.settings.tasks)}"
        )
        outputs.write_file("--video", str(self.together), written.read_bytes())


def name_of(task: str, goals: tuple[int, ...]) -> str:
    """The file of a film."""
    return f"{task}_goal{'s' * (len(goals) > 1)}_{'_'.join(map(str, goals))}.mp4"


@contextlib.contextmanager
def films_of(settings: Evaluate) -> Iterator[Films | None]:
    """Where the films go, which is tried before there is work to lose; None without --video.

    Raises:
        UserError: it cannot be written.
    """
    place = settings.video
    if place is None:
        yield None
    elif Path(place).suffix.lower() not in SUFFIXES:
        outputs.check_folder("--video", place)
        yield Films(settings, Path(place), None)
    else:
        outputs.check_file("--video", place)
        folder = tempfile.mkdtemp(prefix="collectiverl-films-", dir=os.environ.get("TMPDIR"))
        try:
            yield Films(settings, Path(folder), Path(place))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
