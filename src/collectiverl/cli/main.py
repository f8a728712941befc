"""The command line: one verb a stage, `run` for all of them, `evaluate` any policy, `export` what is good.

A message and exit code 2 for what the user can mend; a traceback would be a defect.
"""

import difflib
import sys
import warnings

from collectiverl.types import StageFailed, UserError

VERBS = {
    "run": "the whole pipeline, resumable",
    "train-task": "one SAC expert, from scratch or from demonstrations",
    "split-buffer": "its sampled episodes, into training and validation",
    "train-transformer": "the encoder that reads which task is being played",
    "probe": "how well that encoder tells tasks apart",
    "online-distill": "episodes labelled by the experts",
    "split-online-buffer": "these, into training and validation",
    "distill-collective": "one policy from all experts",
    "extend-collective": "one task after another on top of it",
    "take-collective": "one that comes with the package, or another run's",
    "train-student": "one task, with the collective's help",
    "finetune-student": "one task, from the collective's own networks",
    "record": "random or scripted episodes",
    "evaluate": "any policy, on Meta-World's protocol",
    "compare-students": "what the collective's help is worth, against plain SAC",
    "ablate": "what each choice of encoder and collective is worth",
    "export": "a run's experts or its collective, with a model card",
}
EXIT_DEFECT, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: list[str] | None = None) -> None:
    """Entry point of `collectiverl`."""
    sys.exit(dispatch(sys.argv[1:] if argv is None else argv))


def dispatch(argv: list[str]) -> int:
    """Runs a command line; returns its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        from collectiverl import __version__

        print(__version__)
        return 0
    try:
        return _command(argv[0], argv[1:])
    except UserError as error:
        print(f"collectiverl: {error}", file=sys.stderr)
        return EXIT_USER
    except StageFailed as error:
        print(f"collectiverl: {error}", file=sys.stderr)
        return EXIT_DEFECT
    except KeyboardInterrupt:
        print("\ncollectiverl: stopped. The same command goes on where it was.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())
    return (
        "usage: collectiverl VERB ...    ('collectiverl VERB --help' tells all of one)\n\n"
        "Many single-task robot experts in, one policy that knows all their tasks out.\n\n"
        f"{lines}\n\n"
        "Start with:  collectiverl run --preset quickstart"
    )


def _command(verb: str, args: list[str]) -> int:
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(VERBS)}"
        raise UserError(f"there is no command {verb!r}: {hint}")
    from collectiverl.cli import verbs

    warnings.filterwarnings("ignore", module="(envpool|gymnasium|metaworld|glfw).*")
    others = {
        "run": verbs.run,
        "evaluate": verbs.evaluate_verb,
        "export": verbs.export,
        "ablate": verbs.ablate,
        "compare-students": verbs.compare_students,
        "extend-collective": verbs.extend_collective,
    }
    return (others.get(verb) or verbs.stage(verb))(args)
