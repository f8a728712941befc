"""The command line: one command a stage, `run` for all of them, `evaluate` for any policy, and studies.

Errors of the user give a message and exit code 2. A traceback is a defect of this package.
"""

import contextlib
import difflib
import signal
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from collectiverl.cli import exits

NOT_LINUX = (
    "collectiverl runs on Linux. Elsewhere it lacks what its processes need (prctl and sched_getaffinity; on Windows "
    "also fcntl): use a container, a virtual machine, or WSL 2 on Windows"
)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `collectiverl`."""
    from collectiverl.cli import streams

    streams.open_all()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nobody has it ignored
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # while there is nothing to be kept: imports take seconds
    try:
        code = dispatch(sys.argv[1:] if argv is None else argv, at_work=_handle_signals)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        streams.discard_output()
        code = exits.PIPE
    except OSError as error:  # a full disk, say
        streams.discard_output()
        _say(f"the output cannot be written: {error}")
        code = exits.USER
    sys.exit(code)


def dispatch(argv: list[str], at_work: Callable[[], None] = lambda: None) -> int:
    """Runs a command line; returns its exit code. `at_work` is called when the work begins."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        from collectiverl import __version__

        print(__version__)
        return 0
    from collectiverl.types import StageFailed, UserError

    try:
        if sys.platform != "linux":
            raise UserError(NOT_LINUX)
        return _command(argv[0], argv[1:], at_work)
    except UserError as error:
        _say(str(error))
        return exits.USER
    except StageFailed as error:
        _say(str(error))
        return exits.DEFECT
    except KeyboardInterrupt as stop:
        _say("stopped. With the same command, a run goes on where it was.")
        return exits.TERMINATED if isinstance(stop, Terminated) else exits.INTERRUPTED


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems send."""


def _handle_signals() -> None:
    """From here on there is something to be kept when the command is stopped; a second signal ends it at once."""
    for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
        if signal.getsignal(number) is signal.SIG_DFL:  # see `main`
            signal.signal(number, partial(_stop, kind))


def _stop(kind: type[BaseException], number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise kind


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens
        print(f"collectiverl: {message}", file=sys.stderr, flush=True)


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


def _command(name: str, args: list[str], at_work: Callable[[], None]) -> int:
    from collectiverl.artifacts import notices
    from collectiverl.artifacts.wandb_log import use_wandb
    from collectiverl.cli.actions import Incomplete
    from collectiverl.cli.commands import ALIASES, COMMANDS
    from collectiverl.cli.overrides import without_overrides
    from collectiverl.cli.parser import parse
    from collectiverl.cli.settings import RunSettings
    from collectiverl.stages.base import explained
    from collectiverl.types import UserError

    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name.replace("_", "-"), COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {name!r}: {hint}")
    warnings.filterwarnings("ignore", module="(envpool|gymnasium|metaworld|glfw).*")
    command = COMMANDS[name]
    with explained(name), notices.told_to(_say):
        args = without_overrides(args)
        settings = parse(command.settings, args, prog=f"collectiverl {name}", essential=command.essential)
        if isinstance(settings, RunSettings):
            use_wandb(settings.options.wandb)
        at_work()
        try:
            found = command.run(settings)
        except Incomplete as stopped:
            command.show(settings, stopped.found)
            raise stopped.cause from None
    command.show(settings, found)
    return 0
