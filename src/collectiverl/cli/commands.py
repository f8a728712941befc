"""The table of commands: `collectiverl --help`, docs/commands.md and what runs all come from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from collectiverl.cli import (
    actions,
    collective_settings,
    exchange_actions,
    exchange_settings,
    finished_settings,
    policy_settings,
    reports,
    settings,
    show,
)
from collectiverl.cli.settings import Settings
from collectiverl.cli.stage_settings import StageSettings, seeded
from collectiverl.stages import importing
from collectiverl.studies import ablation, comparison, lifelong


@dataclass(frozen=True)
class Command:
    """A command of `collectiverl`.

    Args:
        name: as it is typed.
        help: one line; the docstring of `settings` says more.
        settings: class of the flags, and of their defaults.
        run: does it; returns what there is to show.
        show: prints that.
        example: arguments of a typical call.
        essential: the flags that `--help` shows, if not all; `--help-all` shows all.
        aliases: what the code of the thesis calls it, see docs/from-the-original.md.
    """

    name: str
    help: str
    settings: type[Settings]
    run: Callable[[Any], Mapping[str, Any]]
    show: Callable[[Any, Mapping[str, Any]], None]
    example: str
    essential: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def _stage(
    name: str,
    help: str,
    settings: type[StageSettings],
    example: str,
    shown: Callable[[Any, Mapping[str, Any]], None] = show.show_stage,
    aliases: tuple[str, ...] = (),
) -> Command:
    """A command that does one stage of a run."""
    return Command(name, help, settings, actions.run_stage, shown, example, aliases=aliases)


ESSENTIAL = (
    *("--run", "--root", "--preset", "--config", "--overwrite", "--cores", "--until", "--open", "--dry-run"),
    *("--tasks", "--seed", "--seeds", "--teacher", "--student-tasks", "--demo-tasks", "--vectorize"),
    *("--expert.steps", "--goals-hidden", "--online.learner-rounds"),
    *("--collective.conditioning", "--collective.updates", "--student.steps", "--strategy.use"),
)

_TABLE = (
    Command(
        "run",
        "the whole pipeline, from experts to students",
        settings.Run,
        actions.run_pipeline,
        show.show_run,
        "--preset quickstart",
        ESSENTIAL,
    ),
    _stage(
        "train-task",
        "one SAC expert, from scratch or with demonstrations",
        policy_settings.TrainTask,
        "push 500000 --run demo",
        aliases=("train_task", "train_worker"),
    ),
    _stage(
        "split-buffer",
        "an expert's sampled episodes, split into training and validation",
        collective_settings.SplitBuffer,
        "push --run demo",
        aliases=("split_buffer",),
    ),
    _stage(
        "train-transformer",
        "the encoder that infers from a trajectory which task is played",
        collective_settings.TrainTransformer,
        "--tasks push reach --run demo",
    ),
    _stage(
        "cross-play",
        "which tasks begin alike, and whose expert labels them",
        collective_settings.CrossPlay,
        "push reach --run demo",
        show.show_cross_play,
    ),
    _stage(
        "online-distill",
        "episodes of a learner of all tasks, labelled by the experts",
        collective_settings.OnlineDistill,
        "push reach --run demo",
        aliases=("online_distill", "online_distill_collective_transformer"),
    ),
    _stage(
        "split-online-buffer",
        "these episodes, split into training and validation",
        collective_settings.SplitOnlineBuffer,
        "push --run demo",
        aliases=("split_online_buffer",),
    ),
    _stage(
        "distill-collective",
        "the collective: one policy, distilled from all experts",
        collective_settings.DistillCollective,
        "--tasks push reach --run demo",
        aliases=("distill_collective_transformer",),
    ),
    _stage(
        "probe",
        "how well the encoder tells tasks apart",
        collective_settings.Probe,
        "--tasks push reach --run demo",
        show.show_probe,
    ),
    Command(
        "extend-collective",
        "the run's collective, with more tasks added one after another",
        settings.ExtendCollective,
        actions.run_study(lifelong),
        show.show_extensions,
        "window-close drawer-close --run demo",
    ),
    _stage(
        "take-collective",
        "a copy of a collective that comes with the package, or of another run's, for students",
        collective_settings.TakeCollective,
        "mt10 --run students",
    ),
    _stage(
        "train-student",
        "a student of one task, with the collective's help",
        policy_settings.TrainStudent,
        "push --run demo",
        aliases=("train_student", "finetune-student", "train_student_finetuning"),
    ),
    Command(
        "record",
        "episodes of a teacher or of a random policy",
        exchange_settings.Record,
        exchange_actions.record,
        show.show_record,
        "push --policy mixed --run demo",
    ),
    _stage(
        "import-buffer",
        "logged episodes, as a buffer to learn from",
        seeded(importing.ImportBuffer, importing.import_buffer_stage),
        "push minari:my/push-v0 --run logged",
    ),
    Command(
        "evaluate",
        "any policy, on the fixed goals of its tasks",
        settings.Evaluate,
        actions.evaluate_policy,
        show.show_evaluation,
        "runs/demo push reach",
        aliases=("evaluate_collective_transformer",),
    ),
    Command(
        "evaluate-meta",
        "a collective, on Meta-World's meta-learning protocol",
        settings.EvaluateMeta,
        actions.evaluate_meta_policy,
        show.show_meta,
        "runs/ml10 --benchmark ML10",
    ),
    Command(
        "compare-students",
        "what the collective's help is worth, against plain SAC",
        settings.CompareStudents,
        actions.run_study(comparison),
        show.show_comparison,
        "--tasks faucet-open door-close --run students",
    ),
    Command(
        "transfer",
        "what a collective does, without training, in tasks that it never saw",
        settings.Transfer,
        actions.map_transfer,
        show.show_transfer,
        "mt10 --run students",
    ),
    Command(
        "ablate",
        "what each choice in the design of the collective is worth",
        settings.Ablate,
        actions.run_study(ablation),
        show.show_ablation,
        "--run quickstart",
    ),
    Command(
        "table",
        "the success of several runs, as Markdown, CSV or LaTeX",
        finished_settings.Table,
        actions.table,
        show.show_table,
        "runs/quickstart --format csv",
    ),
    Command(
        "report",
        "a run, or several side by side, as a page to look at",
        finished_settings.Report,
        reports.report,
        show.show_report,
        "runs/quickstart --open",
    ),
    Command(
        "verify",
        "every file of a run, compared with its checksum",
        finished_settings.Verify,
        actions.verify,
        show.show_verified,
        "runs/demo",
    ),
    Command(
        "export",
        "a run's experts or its collective, with a model card; any policy for other programs",
        exchange_settings.Export,
        exchange_actions.export,
        show.show_export,
        "--run quickstart --what collective --out given",
    ),
    Command(
        "publish",
        "an exported folder, on the Hugging Face Hub",
        exchange_settings.Publish,
        exchange_actions.publish_folder,
        show.show_publish,
        "given owner/name",
    ),
)
COMMANDS = {command.name: command for command in _TABLE}
ALIASES = {alias: command.name for command in _TABLE for alias in command.aliases}
