"""`export`: the experts of a run without their episodes and logs, with a model card, to be given away."""

import json
import shutil
from pathlib import Path
from typing import Any

from collectiverl import configs, store
from collectiverl.checkpoints import write_json
from collectiverl.envs.make import spec
from collectiverl.pipeline import CONFIG, EXPERTS, RunConfig
from collectiverl.sac.policy import ABOUT, WEIGHTS
from collectiverl.stages.base import SUMMARY, summary
from collectiverl.stages.experts import demo_count, model_path
from collectiverl.types import UserError

CARD = "README.md"
SHIPPED = (ABOUT, WEIGHTS, SUMMARY)


def export_experts(run: Path, out: Path) -> None:
    """Writes `out/<task>/` for every task of the run, sealed, and `out/README.md`.

    Raises:
        UserError: the run's experts are not all trained and evaluated, or `out` is not empty.
    """
    if not (run / EXPERTS).is_file():
        raise UserError(f"{run / EXPERTS} is not there: 'collectiverl run --until experts' makes it")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder with --out")
    config = configs.load(run / CONFIG, RunConfig())
    sources = {task: run / model_path(task, config.seed) for task in config.tasks}
    records = {task: store.verify(source) for task, source in sources.items()}
    for task, source in sources.items():
        _copy(source, records[task], out / task)
    shutil.copy(run / CONFIG, out / CONFIG)
    figures = store.read_json(run / EXPERTS)
    write_json(out / EXPERTS, figures)
    (out / CARD).write_text(_card(out.name, config, figures, [summary(out / task) for task in sources]))


def _copy(source: Path, record: dict[str, Any], target: Path) -> None:
    """The files that make the agent, under the manifest that they had."""
    store.make_writable(target)
    for name in SHIPPED:
        shutil.copy(source / name, target / name)
    kept = record | {"files": {name: record["files"][name] for name in SHIPPED}}
    store.write_atomically(target / store.MANIFEST, json.dumps(kept, indent=1).encode())


def _card(name: str, config: RunConfig, figures: dict[str, Any], trained: list[dict[str, Any]]) -> str:
    """The model card."""
    rows = {row["task"]: row for row in figures["policies"]}
    shapes, episodes = spec(config.tasks[0]), rows[config.tasks[0]]["episodes"]
    demos = demo_count(config.demos) * min(config.expert.horizon or shapes.horizon, shapes.horizon)
    lines = [
        "# SAC experts",
        "",
        f"One soft actor-critic agent a task, trained by collectiverl {figures['versions']['collectiverl']}, "
        f"seed {config.seed}.",
        f"`{CONFIG}` holds the settings, each agent's `{store.MANIFEST}` its own. A folder holds actor, twin critics",
        "and observation statistics as safetensors.",
        "",
        "```python",
        f'policy = collectiverl.load_policy("{name}/{config.tasks[0]}")',
        "```",
        "",
        f"Observations are the environment's {shapes.obs_dim} entries with the goal visible, actions its "
        f"{shapes.action_dim} in [-1, 1].",
        f"Success was counted over {episodes} episodes of {shapes.horizon} steps, deterministic actions; the goals "
        f"are Meta-World's, of",
        f"{config.evaluate.goal_seeds} seeds of goals, while training drew its own. One training seed: the intervals "
        "say how well these",
        "very agents do, not how well training does. `from` says what an agent learned from besides its own",
        f"experience: the {demos:,} steps of scripted demonstrations are not among the environment steps.",
        "",
        "| task | from | any step | 95 % interval | last step | environment steps | to 0.9 twice | seconds, one core |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(rows[e["task"]], e, figures["steps_to_0.9"][e["task"]]) for e in trained),
        "",
        f"Together {figures['env_steps']:,} environment steps and {figures['core_seconds']:,.0f} core-seconds.",
        "",
        "Meant as teachers and baselines in simulation. They know one task each, read the state of the simulator,",
        "and were never near a robot.",
        "",
    ]
    return "\n".join(lines)


def _row(row: dict[str, Any], expert: dict[str, Any], reached: int | None) -> str:
    low, high = row["interval"]
    cells = (
        f"`{row['task']}`",
        expert["trained_from"],
        f"{row['success_any']:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{row['success_last']:.3f}",
        f"{expert['env_steps']:,}",
        f"{reached:,}" if reached else "not",
        f"{expert['seconds']:,.0f}",
    )
    return f"| {' | '.join(cells)} |"
