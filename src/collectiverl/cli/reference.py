"""Writes the page of commands: `python -m collectiverl.cli.reference > docs/commands.md`."""

import inspect

from collectiverl.cli.commands import COMMANDS

INTRODUCTION = """# Commands

This page is written by `python -m collectiverl.cli.reference > docs/commands.md`.

`collectiverl COMMAND --help` explains the settings of a command; `collectiverl run --help` shows those that are
changed most, `collectiverl run --help-all` all of them. `--config run.yaml` changes settings from a file. The
resolved settings are saved with every result. The column *also* has the names of the thesis's code, which work too
([from-the-original.md](from-the-original.md)).

The examples can be typed in this order, if what they show for `push` is done for `reach` too: `train-task` and
`split-buffer` before `train-transformer`, and `split-online-buffer` before `distill-collective`. Three need more:
`import-buffer` a dataset, `evaluate-meta` a run of the preset `ml10`, and `publish` an account."""


def reference() -> str:
    """The page: a table of all commands, then a section for each."""
    rows = [
        f"| [`{c.name}`](#{c.name}) | {c.help} | `collectiverl {c.name} {c.example}` "
        f"| {', '.join(f'`{alias}`' for alias in c.aliases)} |"
        for c in COMMANDS.values()
    ]
    table = ["| command | what it makes or does | example | also |", "|---|---|---|---|", *rows]
    sections = [f"## {c.name}\n\n{inspect.getdoc(c.settings)}" for c in COMMANDS.values()]
    return "\n\n".join([INTRODUCTION, "\n".join(table), *sections]) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
