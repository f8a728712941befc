"""Model cards of exported policies: how they were trained and what was measured."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collectiverl.artifacts.paths import CONFIG, MANIFEST, PORTABLE
from collectiverl.envs.make import spec
from collectiverl.envs.tasks import label
from collectiverl.evaluation.statistics import interval_over, seeds_interval
from collectiverl.policies import BETTER_SHIPPED
from collectiverl.reporting.model_index import front_matter

Found = Mapping[str, Any]  # a summary, as it stands in its JSON file
HALF = "The files hold these weights in half precision; what is measured below is of single precision."


def experts_card(
    name: str, settings: Found, figures: Found, trained: Sequence[Found], *, demos: int, half: bool = False
) -> str:
    """The card of a folder of experts.

    Args:
        name: how `load_policy` finds the folder.
        settings: of the run.
        figures: the summary of the run's experts.
        trained: the summary of each expert.
        demos: scripted episodes that the hard tasks began with.
        half: the files hold weights in half precision.
    """
    rows = {row["task"]: row for row in figures["policies"]}
    first = settings["tasks"][0]
    shapes, episodes = spec(first), rows[first]["episodes"]
    demo_steps = demos * min(settings["expert"]["horizon"] or shapes.horizon, shapes.horizon)
    shown = any(one["trained_from"] != "scratch" for one in trained)
    goal_seeds = settings["evaluate"]["goal_seeds"]
    measured = [(task, row["success_any"], row["success_last"]) for task, row in rows.items()]
    lines = [
        front_matter(name, ("sac",), measured),
        "# SAC experts",
        "",
        f"One soft actor-critic agent a task, trained by collectiverl {figures['versions']['collectiverl']}, "
        f"seed {settings['seed']}.",
        f"`{CONFIG}` holds the settings, each agent's `{MANIFEST}` its own. A folder holds actor, twin critics",
        "and observation statistics as safetensors.",
        "",
        "```python",
        f'policy = collectiverl.load_policy("{name}/{first}")',
        "```",
        "",
        f"Observations are the environment's {shapes.obs_dim} entries with the goal visible, actions its "
        f"{shapes.action_dim} in [-1, 1].",
        f"Success was counted over {episodes} episodes of {shapes.horizon} steps, deterministic actions; the goals "
        f"are fixed, of {goal_seeds} seed{'s' * (goal_seeds > 1)} of goals, while training drew its own.",
        "One training seed: the intervals say how well these",
        "very agents do, not how well training does. `from` says what an agent learned from besides its own",
        "experience."
        + f" The environment steps count the {demo_steps:,} of scripted demonstrations." * shown,
        *([HALF] if half else []),
        "",
        "| task | from | any step | 95 % interval | last step | environment steps | to 0.9 twice | seconds, one core |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(rows[e["task"]], e, figures["steps_to_0.9"][e["task"]]) for e in trained),
        "",
        f"Together {figures['env_steps']:,} environment steps and {seconds_of(figures):,.0f} seconds, one core each.",
        "",
        "Meant as teachers and baselines in simulation. They know one task each, read the state of the simulator,",
        "and were never near a robot.",
        "",
    ]
    return "\n".join(lines)


def seconds_of(figures: Found) -> float:
    """Of the clock, of all experts together; version 0.3 called them core-seconds."""
    return figures["seconds"] if "seconds" in figures else figures["core_seconds"]


def computed(figures: Found) -> tuple[float, float, float] | None:
    """Core-seconds of all stages together, and the machine's least and most load; None where a stage has none."""
    spent = list(figures.get("stage_core_seconds", {}).values())
    if not spent or None in spent:
        return None
    loads = [load for pair in figures["stage_load"].values() for load in pair]
    return sum(spent), min(loads), max(loads)


def _row(row: Found, expert: Found, reached: int | None) -> str:
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


def collective_card(name: str, settings: Found, figures: Sequence[Found], *, half: bool = False) -> str:
    """The card of a collective.

    Args:
        name: how `load_policy` finds it.
        settings: of its run.
        figures: summaries of runs that differ in their seeds alone, this collective's first.
        half: the file holds weights in half precision.
    """
    tasks, shapes = settings["tasks"], spec(settings["tasks"][0])
    by_task = {task: [_collective_row(one, task) for one in figures] for task in tasks}
    episodes = by_task[tasks[0]][0]["episodes"]
    means = [one["mean"]["collective"] for one in figures]
    seeds = [one["seed"] for one in figures]
    spread = interval_over(len(figures))
    hidden = settings["goals_hidden"]
    rewards = (
        "It needs the rewards: they alone tell where to go."
        if hidden
        else "It does without `observe` too: rewards were left out of a part of its training."
    )
    measured = [
        (task, of[0]["success_any"], of[0]["success_last"]) for task, of in by_task.items()
    ]  # its own
    lines = [
        front_matter(name, ("collective-learning", "multi-task"), measured),
        f"# A collective of {len(tasks)} tasks",
        "",
        "One policy, told neither the task's id nor its name"
        f"{', nor its goal' if hidden else ''}: {_reads(settings['collective'])}",
        f"Distilled by collectiverl {figures[0]['versions']['collectiverl']}",
        f"from {_teachers(settings)}; seed {seeds[0]} of {len(seeds)}.",
        f"`{CONFIG}` holds the settings, `{MANIFEST}` the inputs and checksums; encoder, actor, critics and",
        "statistics are one safetensors file.",
        "",
        "```python",
        f'policy = collectiverl.load_policy("{name}")',
        "policy.reset(numpy.ones(num_envs, bool))",
        f"action = policy.eval_action(observations)  # [N, {shapes.obs_dim}] to [N, {shapes.action_dim}]",
        "policy.observe(rewards)  # of the step just taken",
        "```",
        "",
        rewards,
        f"Success over {episodes} goals a task and seed, {shapes.horizon} steps, deterministic; training drew its own "
        f"goals. {len(seeds)} training",
        f"seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))}); the interval is over {spread}.",
        *([HALF] if half else []),
        "",
        "| task | any step | 95 % interval | each seed | last step |",
        "|---|---|---|---|---|",
        *(_task_line(task, rows) for task, rows in by_task.items()),
        f"| mean | {_mean(m['success_any'] for m in means):.3f} | | "
        f"{', '.join(format(m['success_any'], '.3f') for m in means)} | "
        f"{_mean(m['success_last'] for m in means):.3f} |",
        "",
        "Meant as a baseline and a starting point in simulation. It reads the state of the simulator and its rewards,",
        "and was never near a robot.",
        "",
    ]
    return "\n".join(lines)


def _teachers(settings: Found) -> str:
    scripted, shipped = "scripted policies", "the SAC experts that come with the package"
    if better := [f"`{task}`" for task in map(label, settings["tasks"]) if task in BETTER_SHIPPED]:
        scripted += f", and for {' and '.join(better)} the expert that comes with the package"
    return {
        "sac": "SAC experts, trained in the same run",
        "shipped": shipped,
        "shipped-or-scripted": f"{shipped} and, where none does, scripted policies",
        "scripted": scripted,
    }.get(settings["teacher"], f"the experts `{settings['teacher']}`")


def _reads(collective: Found) -> str:
    """How it knows what to do."""
    name, encoder = collective["conditioning"], collective["encoder"]
    if name != "own":
        return f"its conditioning is `{name}`."
    kind = "a transformer reads the last" if encoder["kind"] == "transformer" else "a GRU reads the"
    steps = f" {encoder['window']} steps of the" if encoder["kind"] == "transformer" else ""
    return f"{kind}{steps} trajectory and gives `z`, on which actor and critics are conditioned."


def portable_card(about: Found) -> str:
    """The card of a policy in one file for other programs.

    Args:
        about: its description, as it stands beside it.
    """
    tasks, checked, entries = about["tasks"], about["checked"], about["task_entries"]
    file = about["file"]
    opened = {
        "onnx": (
            "import numpy, onnxruntime",
            f'session = onnxruntime.InferenceSession("{file}")',
            "play = lambda **inputs: session.run(None, inputs)",
        ),
        "jax": (
            "import jax, numpy, pathlib",
            "from jax import export",
            f'policy = jax.jit(export.deserialize(bytearray(pathlib.Path("{file}").read_bytes())).call)',
            "play = lambda **inputs: policy(*inputs.values())",
        ),
    }[about["format"]]
    size, context = (about["inputs"][name][1] for name in ("observation", "context"))
    lines = [
        front_matter(about["origin"]["policy"], (about["format"],), ()),
        f"# {about['origin']['policy']}, as {about['format']}",
        "",
        "A policy as one pure function. It plays without collectiverl, in any number of environments:",
        "",
        "```python",
        *opened,
        f"observation = numpy.zeros((1, {size}), numpy.float32)",
        "reward = numpy.zeros(1, numpy.float32)  # of the step before; nan: unknown",
        f"context = numpy.zeros((1, {context}), numpy.float32)  # zeros begin an episode",
        "action, context = play(observation=observation, reward=reward, context=context)",
        "```",
        "",
        f"Actions are those of the original to {checked['largest_difference']:.0e}, over {checked['steps']} steps in "
        f"{checked['environments']} environments.",
        f"Tasks: {', '.join(f'`{task}`' for task in tasks) or 'not told'}.",
        *(["It sees no goals: its rewards tell where to go."] if about["goals_hidden"] else []),
        *(
            [f"It is told its task: set this entry of the first context to 1: {dict(entries)}."]
            if entries
            else []
        ),
        f"`{PORTABLE}` beside it holds shapes, origin and versions.",
        "",
    ]
    return "\n".join(lines)


def _collective_row(figures: Found, task: str) -> Found:
    return next(r for r in figures["policies"] if (r["policy"], r["task"]) == ("collective", task))


def _task_line(task: str, rows: Sequence[Found]) -> str:
    low, high = seeds_interval(
        [round(r["success_any"] * r["episodes"]) for r in rows], [r["episodes"] for r in rows]
    )
    cells = (
        f"`{task}`",
        f"{_mean(r['success_any'] for r in rows):.3f}",
        f"{low:.3f} to {high:.3f}",
        ", ".join(f"{r['success_any']:.2f}" for r in rows),
        f"{_mean(r['success_last'] for r in rows):.3f}",
    )
    return f"| {' | '.join(cells)} |"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
