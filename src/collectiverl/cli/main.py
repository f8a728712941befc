"""The command line: one command a stage, `run` for all of them, `evaluate` for any policy, and studies.

Errors of the user give a message and exit code 2. A traceback is a defect of this package.
"""

import difflib
import os
import sys
import warnings

from collectiverl.types import StageFailed, UserError

EXIT_DEFECT, EXIT_USER, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 130, 141
NOT_LINUX = (
    "collectiverl runs on Linux. Elsewhere it lacks what its processes need (prctl and sched_getaffinity; on Windows "
    "also fcntl): use a container, a virtual machine, or WSL 2 on Windows"
)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `collectiverl`."""
    try:
        code = dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
        code = EXIT_PIPE
    sys.exit(code)


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
        if sys.platform != "linux":
            raise UserError(NOT_LINUX)
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
    from collectiverl.cli.commands import ALIASES, COMMANDS

    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    others = "\n".join(f"  {name:<{width}}  {alias}" for alias, name in ALIASES.items())
    return (
        "usage: collectiverl COMMAND ...    ('collectiverl COMMAND --help' lists its options)\n\n"
        "Many single-task robot experts in, one policy that knows all their tasks out.\n\n"
        f"{lines}\n\n"
        "Names of the thesis's code, which work too:\n\n"
        f"{others}\n\n"
        "Start with:  collectiverl run --preset quickstart"
    )


def _command(name: str, args: list[str]) -> int:
    from collectiverl.cli.commands import ALIASES, COMMANDS
    from collectiverl.cli.overrides import without_overrides
    from collectiverl.cli.parser import parse

    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name.replace("_", "-"), COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {name!r}: {hint}")
    warnings.filterwarnings("ignore", module="(envpool|gymnasium|metaworld|glfw).*")
    command = COMMANDS[name]
    args = without_overrides(args)
    settings = parse(command.settings, args, prog=f"collectiverl {name}", essential=command.essential)
    command.show(settings, command.run(settings))
    return 0
