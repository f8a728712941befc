"""The head of a model card: what the Hugging Face Hub reads of it, `model-index` among it."""

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

LIBRARY, TASK = "collectiverl", "reinforcement-learning"
METRICS = {"success_any": "success at any step", "success_last": "success at the last step"}


def front_matter(name: str, tags: Sequence[str], figures: Iterable[tuple[str, float, float]]) -> str:
    """The YAML between `---` with which a card begins.

    The Hub's page of a model shows `model-index` as a table, and `huggingface_hub.ModelCardData` reads it as
    `eval_results`.

    Args:
        name: of the model.
        tags: beside those that all models of this package have.
        figures: task, success at any step and at the last step, each from 0 to 1.
    """
    results = [_result(*row) for row in figures]
    head: dict[str, Any] = {
        "library_name": LIBRARY,
        "pipeline_tag": TASK,
        "tags": [TASK, "robotics", "deep-reinforcement-learning", *tags],
    }
    if results:
        head["model-index"] = [{"name": name, "results": results}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n"


def _result(task: str, *values: float) -> dict[str, Any]:
    metrics = zip(METRICS.items(), values, strict=True)
    return {
        "task": {"type": TASK, "name": TASK},
        "dataset": {"type": task, "name": task},
        "metrics": [
            {"type": kind, "value": round(float(value), 4), "name": shown} for (kind, shown), value in metrics
        ],
    }
