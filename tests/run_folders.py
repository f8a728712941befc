"""A run that nobody trained: sealed folders with the files that its page reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

from collectiverl.artifacts import sealed
from collectiverl.artifacts.paths import CONFIG, METRICS, SUMMARY
from collectiverl.pipeline import plan
from collectiverl.pipeline.presets import smoke

REACH, MIRROR = "toy-reach", "toy-mirror"
Z = 4


def seal(run: Path, stage: Any, summary: Mapping[str, Any], **files: Any) -> None:
    """A sealed folder as this stage would leave it; `files` are lists of log lines, JSON, or bytes."""
    with sealed.stage(
        run / stage.out, name=stage.kind, config=stage.settings, inputs=dict.fromkeys(stage.inputs, "hash")
    ) as folder:
        (folder / SUMMARY).write_text(json.dumps(summary))
        for name, content in files.items():
            path = folder / name.replace("__", ".")
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif path.name == METRICS:
                path.write_text("".join(json.dumps(line) + "\n" for line in content))
            else:
                path.write_text(json.dumps(content))


def finished_run(run: Path, *, seed: int = 0, without: tuple[str, ...] = ()) -> Path:
    """A run of the preset `smoke`; `without` names kinds of stages that are not done."""
    config = smoke().resolved()
    run.mkdir(parents=True)
    (run / CONFIG).write_text(yaml.safe_dump(sealed.to_jsonable(config) | {"seed": seed}, sort_keys=False))
    for stage in plan.stages(config, "end"):
        if stage.kind not in without:
            summary, files = made(stage)
            seal(run, stage, summary, **files)
    return run


def made(stage: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a stage would have found, and its files."""
    kinds = {
        "evaluate": lambda: (evaluation(stage.config.kind, stage.config.task), {}),
        "train-task": lambda: (training(stage.config.task), {"metrics__jsonl": log()}),
        "train-student": lambda: (training(stage.config.task), {"metrics__jsonl": log()}),
        "online-distill": lambda: (
            {"tasks": [REACH, MIRROR], "env_steps": 100},
            {"metrics__jsonl": rounds()},
        ),
        "probe": lambda: (probe(), {"points__json": points()}),
        "film": lambda: films(stage.config.evaluated.task),
        "distill-collective": lambda: ({"tasks": [REACH, MIRROR], "errors": errors()}, {}),
    }
    return kinds.get(stage.kind, lambda: ({"tasks": [REACH, MIRROR]}, {}))()


def evaluation(kind: str, task: str) -> dict[str, Any]:
    return {
        **{"policy": kind, "task": task, "success_any": 0.9, "success_last": 0.7, "interval": [0.8, 0.95]},
        **{
            "return": 200.0,
            "episodes": 50,
            "goals": "visible",
            "trained_from": "",
            "env_steps": 0,
            "seconds": 0.0,
        },
    }


def training(task: str) -> dict[str, Any]:
    return {
        **{"task": task, "trained_from": "scratch", "env_steps": 3000, "played_before": 100, "seconds": 12.0},
        **{"success": 0.95, "solved_at": 2500},
    }


def log() -> list[dict[str, float]]:
    return [
        {"step": step, "eval/success": step / 3000, "train/return": 10.0 * step, "seconds": 1.0}
        for step in (1000, 2000, 3000)
    ]


def errors() -> dict[str, Any]:
    return {"from_step": [0, 20, 50], "by_task": {REACH: [0.3, 0.02, None], MIRROR: [0.11, 0.04, 0.05]}}


def rounds() -> list[dict[str, float]]:
    return [
        {
            **{"step": r + 1, "learner/success": 0.4 * r},
            **{f"success/{REACH}": 0.3 * r, f"success/{MIRROR}": 0.5 * r},
            **{f"last/{REACH}": 0.1 * r, f"last/{MIRROR}": 0.2 * r},
        }
        for r in (1, 2)
    ]


def probe() -> dict[str, Any]:
    accuracy = {"1": 0.6, "2": 0.8, "5": 0.9, "anywhere": 0.95}
    pair = {"task": MIRROR, "taken_for": REACH, "share": {"1": 0.4, "5": 0.1}}
    return {
        **{
            "encoder": "model_col",
            "buffer": "online_buffer",
            "tasks": 2,
            "chance": 0.5,
            "linear_probe": accuracy,
        },
        **{"raw": {"linear_probe": accuracy}, "raw_window": {"linear_probe": accuracy}},
        **{"task_names": [REACH, MIRROR], "most_confused": [pair], "clustering": {"ari": 0.5}},
        "confusion": {length: [[right, 1 - right], [1 - right, right]] for length, right in accuracy.items()},
        "goals": {task: {"chance": 0.7, "error": {"1": 0.5, "5": 0.2}} for task in (REACH, MIRROR)},
    }


def points(count: int = 24) -> dict[str, Any]:
    xy = np.random.default_rng(0).normal(size=(count, 2)).round(3).tolist()
    return {
        "planes": {
            "PCA": {"xy": xy, "axes": ["component 1", "component 2"]},
            "t-SNE": {"xy": xy, "axes": ["", ""]},
        },
        **{"tasks": [MIRROR, REACH], "task": [i % 2 for i in range(count)], "step": list(range(count))},
        **{"reward": [float("nan"), *map(float, range(count - 1))], "cluster": [i % 3 for i in range(count)]},
    }


def films(task: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """One film of a goal that is reached and one of a goal that is not."""
    z = np.sin(np.arange(20)[:, None] / 5 + np.arange(Z)).round(3).tolist()
    found = [
        {
            **{"file": f"goal_{goal}.mp4", "task": task, "goal": goal, "success": first is not None},
            **{"first_success": first, "steps": 20, "reward": 5.0, "z": z},
        }
        for goal, first in ((0, 12), (1, None))
    ]
    about = {"task": task, "policy": "collective", "films": found, "why": ""}
    return about, {f"goal_{goal}__mp4": film() for goal in (0, 1)}


def film(frames: int = 8) -> bytes:
    """A square that gets brighter."""
    import io

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as video:
        stream = video.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(frames):
            frame = np.full((32, 32, 3), 30 * i, np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())
    return file.getvalue()
