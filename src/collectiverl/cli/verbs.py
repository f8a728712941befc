"""What the commands do: read the settings, run the stages, say what happened and where it lies."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.cli.commands import STAGES, Flat, Tasks, resolve_tasks
from collectiverl.cli.options import RunOptions
from collectiverl.collective.extension import ExtensionConfig
from collectiverl.evaluation.evaluate import EvaluateConfig, evaluate
from collectiverl.evaluation.video import record_video
from collectiverl.exchange.export import CARD, FIGURES, export_collective, export_experts
from collectiverl.pipeline import executor, plan
from collectiverl.pipeline.plan import RunConfig
from collectiverl.policies import load_policy
from collectiverl.reporting import figures
from collectiverl.reporting.curves import draw_curves
from collectiverl.reporting.tables import (
    ablation_table,
    comparison_table,
    console,
    display,
    extensions_table,
    median_lines,
    places,
    policies_table,
    probe_tables,
)
from collectiverl.stages.base import SUMMARY, Stage, available_cores
from collectiverl.stages.evaluation import row
from collectiverl.stages.representation import PICTURES
from collectiverl.studies import ablation, lifelong
from collectiverl.studies import comparison as comparisons
from collectiverl.studies.ablation import AblationConfig
from collectiverl.studies.comparison import ComparisonConfig
from collectiverl.types import UserError

C = TypeVar("C")


@contextmanager
def _refusals() -> Iterator[None]:
    """What a configuration refuses is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def _parse(verb: str, args: Sequence[str], default: C) -> C:
    """Flags into a dataclass."""
    with _refusals():
        return tyro.cli(type(default), args=args, default=default, prog=f"collectiverl {verb}")


# -- run ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run:
    """The whole pipeline: experts, trajectory transformer, collective, student, evaluation.

    Resumable: a second run of a finished folder does nothing, a killed one goes on where it was. The folder
    is named after the preset unless --run says otherwise.
    """

    options: Annotated[RunOptions, Flat] = field(default_factory=RunOptions)
    cores: int = 0  # stages side by side, one core each; 0: as many as there are cores
    until: plan.Until = "end"  # experts, collective: stop when these are there and evaluated
    settings: Annotated[RunConfig, Flat] = field(default_factory=RunConfig)


def run(args: Sequence[str]) -> int:
    """`collectiverl run`."""
    options = RunOptions.read(args)
    command = _parse("run", args, Run(options=options, settings=options.base()))
    folder, config = command.options.folder, command.settings.resolved()
    if command.cores < 0:
        raise UserError(f"--cores={command.cores} must not be negative")
    cores = command.cores or available_cores()
    with sealed.lock(folder):
        plan.claim(folder, config, overwrite=options.overwrite)
        with _refusals():
            every = plan.stages(config, command.until)
        todo = plan.unfinished(folder, every, overwrite=options.overwrite)
        if todo:
            done = len(every) - len(todo)
            console.print(
                f"{done} of {len(every)} stages are done, {len(todo)} to do; logs in {folder / 'logs'}"
            )
            with display(todo) as watch:
                executor.run_in_processes(folder, todo, cores=cores, watch=watch, overwrite=options.overwrite)
        else:
            console.print(f"all {len(every)} stages are done: nothing to do")
        if command.until == "experts":
            show_experts(folder, figures.summarize_experts(folder, config))
        else:
            show(folder, figures.summarize(folder, config, command.until))
    return 0


def show_experts(folder: Path, summary: dict[str, Any]) -> None:
    """What the experts can do, and where they lie."""
    console.print(policies_table(summary["policies"]))
    console.print(
        f"together {summary['env_steps']:,} environment steps, {summary['core_seconds']:,.0f} core-seconds"
    )
    names = {"these figures": figures.EXPERTS, "settings": plan.CONFIG, "experts": "model"}
    console.print(places(folder, names))


def show(folder: Path, summary: dict[str, Any]) -> None:
    """What happened, and where it lies."""
    console.print(policies_table(summary["policies"]))
    means = ", ".join(f"{kind} {mean['success_any']:.3f}" for kind, mean in summary["mean"].items())
    console.print(f"success on average over tasks: {means}")
    console.print(*probe_tables(summary["probe"]), sep="")
    for label, steps in summary["solved_at"].items():
        solved = f"solved after {steps:,} environment steps" if steps else "not solved in training"
        console.print(f"{label}: {solved}")
    names = {
        "these figures": SUMMARY,
        "settings": plan.CONFIG,
        "experts": "model",
        "transformer": "trajectory_transformer",
        "collective": "model_col",
        "students": "student",
        "pictures": summary["probe"]["folder"],
    }
    console.print(places(folder, names))


# -- one stage ---------------------------------------------------------------------------------------------


def stage(verb: str) -> Callable[[Sequence[str]], int]:
    """The function of a command that does one stage."""
    kind = STAGES[verb]

    def command(args: Sequence[str]) -> int:
        options = RunOptions.read(args)
        base = options.base().resolved()
        required = {name: tyro.MISSING for name in ("task", "tasks") if _is_required(kind, name)}
        parsed = _parse(verb, args, kind(options=options, **kind.defaults(base), **required))
        with _refusals():
            made, folder = parsed.stage(base), parsed.options.folder
        executor.use_threads(available_cores())
        with display([made]) as watch:
            result = executor.run_here(folder, made, watch=watch, overwrite=parsed.options.overwrite)
            watch(executor.Progress(made.out, 1, 0, ""))
        SHOWN.get(verb, show_result)(folder, made, result)
        return 0

    return command


def show_result(folder: Path, made: Stage, result: dict[str, Any]) -> None:
    """A stage's summary as it is, and where it lies."""
    console.print_json(data=result)
    console.print(places(folder, {"result": made.out}))


def show_probe(folder: Path, made: Stage, result: dict[str, Any]) -> None:
    """The judge's tables: matrices of fifty tasks would fill the terminal."""
    console.print(*probe_tables(result), sep="")
    names = {"these figures": SUMMARY, **PICTURES}
    console.print(places(folder / made.out, names))


SHOWN = {"probe": show_probe}  # verbs whose result deserves more than its JSON


def _is_required(kind: type, name: str) -> bool:
    found = {f.name: f for f in fields(kind)}
    return name in found and found[name].default is MISSING


# -- evaluate ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Play a policy on Meta-World's protocol: deterministic, each goal once, the whole time limit.

    POLICY is a folder (runs/demo for its collective, runs/demo/model/reach-v3/seed_0 for an expert) or a
    name (scripted:push, random:push).
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    tasks: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    json: str | None = None  # file for the figures
    video: str | None = None  # folder for one video of each task
    settings: Annotated[EvaluateConfig, Flat] = field(default_factory=EvaluateConfig)


def evaluate_verb(args: Sequence[str]) -> int:
    """`collectiverl evaluate`."""
    command = _parse("evaluate", args, Evaluate(policy=tyro.MISSING, tasks=tyro.MISSING))
    tasks = resolve_tasks(command.tasks)
    executor.use_threads(available_cores())
    rows = []
    with display([]) as watch:
        for task in tasks:
            policy = load_policy(command.policy, task=task)

            def report(done: int, total: int, note: str = "", task: str = task) -> None:
                watch(executor.Progress(task, done, total, note))

            rows.append(row(command.policy, evaluate(policy, task, command.settings, report=report)))
            if command.video:
                record_video(policy, task, Path(command.video) / f"{task}.mp4")
    if command.json:
        sealed.make_writable(Path(command.json).parent)
        checkpoints.write_json(Path(command.json), {"policies": rows})
    console.print(policies_table(rows))
    return 0


# -- many stages -------------------------------------------------------------------------------------------


def _do(folder: Path, every: Sequence[Stage], cores: int, *, overwrite: bool) -> None:
    """What is not done yet of these stages; with `cores` 0 on all cores."""
    todo = plan.unfinished(folder, list(every), overwrite=overwrite)
    console.print(f"{len(every) - len(todo)} of {len(every)} stages are done, {len(todo)} to do")
    with display(todo) as watch:
        executor.run_in_processes(
            folder, todo, cores=cores or available_cores(), watch=watch, overwrite=overwrite
        )


# -- ablate ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """What each choice of encoder and collective is worth, on the data of a finished run. Resumable."""

    options: Annotated[RunOptions, Flat] = field(default_factory=RunOptions)
    cores: int = 0  # rows side by side, one core each; 0: as many as there are cores
    ablation: Annotated[AblationConfig, Flat] = field(default_factory=AblationConfig)


def ablate(args: Sequence[str]) -> int:
    """`collectiverl ablate`."""
    options = RunOptions.read(args)
    command = _parse("ablate", args, Ablate(options=options))
    folder, config = command.options.folder, options.base().resolved()
    with _refusals():
        every = ablation.stages(folder, config, command.ablation)
    with sealed.lock(folder):
        _do(folder, every, command.cores, overwrite=options.overwrite)
        console.print(ablation_table(ablation.summarize(folder, config, command.ablation)))
    console.print(places(folder, {"these figures": ablation.RESULT, "rows": "ablation"}))
    return 0


# -- compare-students --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CompareStudents:
    """What the collective's help is worth against plain SAC: strategies, tasks and seeds. Resumable.

    Strategies are none (plain SAC), likelihood, potential, jump-start, prior-data and imitation, several joined by +;
    finetune (SAC on the collective's own networks); and, not trained, zero-shot and cloning.
    """

    options: Annotated[RunOptions, Flat] = field(default_factory=RunOptions)
    cores: int = 0  # students side by side, one core each; 0: as many as there are cores
    comparison: Annotated[ComparisonConfig, Flat] = field(default_factory=ComparisonConfig)


def compare_students(args: Sequence[str]) -> int:
    """`collectiverl compare-students`."""
    options = RunOptions.read(args)
    command = _parse("compare-students", args, CompareStudents(options=options))
    folder, config, comparison = command.options.folder, options.base(), command.comparison
    with _refusals():
        config = config.resolved()
        every = comparisons.stages(config, comparison)
    sealed.make_writable(folder)
    with sealed.lock(folder):
        _do(folder, every, command.cores, overwrite=options.overwrite)
        found = comparisons.summarize(folder, config, comparison)
    place = comparisons.folder(folder, comparison)
    draw_curves(found["rows"], comparison, place / comparisons.PICTURE)
    console.print(comparison_table(found["rows"], comparison), *median_lines(found), sep="\n")
    console.print(places(place, {"these figures": comparisons.RESULT, "curves": comparisons.PICTURE}))
    return 0


# -- extend-collective -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExtendCollective:
    """Teach the run's collective one task after another, each from one more expert, rehearsing the old ones.

    Each task's expert comes from where the run's experts come from. Name the whole sequence: what was added
    before is not done again. Resumable.
    """

    tasks: Tasks  # in this order, on top of the run's own collective
    options: Annotated[RunOptions, Flat] = field(default_factory=RunOptions)
    cores: int = 0  # stages side by side, one core each; 0: as many as there are cores
    extension: Annotated[ExtensionConfig, Flat] = field(default_factory=ExtensionConfig)


def extend_collective(args: Sequence[str]) -> int:
    """`collectiverl extend-collective`."""
    options = RunOptions.read(args)
    command = _parse("extend-collective", args, ExtendCollective(tasks=tyro.MISSING, options=options))
    folder, config = command.options.folder, options.base().resolved()
    with _refusals():
        every = lifelong.stages(folder, config, command.extension, resolve_tasks(command.tasks))
    with sealed.lock(folder):
        _do(folder, every, command.cores, overwrite=options.overwrite)
        console.print(*extensions_table(lifelong.summarize(folder, every, command.extension)), sep="")
    console.print(places(folder, {"these figures": lifelong.RESULT, "collectives": "extended"}))
    return 0


# -- export ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Export:
    """Copy a run's experts, or its collective, without episodes and logs, sealed, with a model card."""

    out: str  # folder
    what: Literal["experts", "collective"] = "experts"
    seeds: tuple[str, ...] = ()  # other runs of these settings, for a collective's card
    options: Annotated[RunOptions, Flat] = field(default_factory=RunOptions)


def export(args: Sequence[str]) -> int:
    """`collectiverl export`."""
    options = RunOptions.read(args)
    command = _parse("export", args, Export(out=tyro.MISSING, options=options))
    out, folder = Path(command.out), command.options.folder
    if command.what == "experts":
        export_experts(folder, out)
    else:
        export_collective([folder, *(Path(command.options.root) / name for name in command.seeds)], out)
    numbers = figures.EXPERTS if command.what == "experts" else FIGURES
    console.print(places(out, {"model card": CARD, "figures": numbers}))
    return 0
