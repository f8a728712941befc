"""Tables of success as text: Markdown, LaTeX, and CSV with one line for each number."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from collectiverl.envs.tasks import label
from collectiverl.reporting.evaluations import Seeds

Format = Literal["md", "csv", "latex"]
COLUMNS = (
    *("run", "policy", "task", "seeds", "episodes"),
    *("success_any", "interval_low", "interval_high", "success_last"),
)


def table(found: Sequence[Seeds], format: Format) -> str:
    """Success at any step with its interval, a line for each task and a column for each run and policy.

    The last lines have the means over tasks, at any and at the last step, and the number of training seeds.
    """
    return _csv(found) if format == "csv" else FORMATS[format](_header(found), list(_lines(found)))


def _columns(found: Sequence[Seeds]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((one.name, one.policy) for one in found))


def _header(found: Sequence[Seeds]) -> list[str]:
    columns = _columns(found)
    alone = len({name for name, _ in columns}) == 1
    return [
        "task",
        *(
            policy if alone and policy else ": ".join(filter(None, (name, policy)))
            for name, policy in columns
        ),
    ]


def _lines(found: Sequence[Seeds]) -> Iterable[list[str]]:
    columns = _columns(found)
    cells = {(one.name, one.policy, one.task): one for one in found}
    for task in dict.fromkeys(one.task for one in found):
        yield [label(task), *(_cell(cells.get((*column, task))) for column in columns)]
    members = [[one for one in found if (one.name, one.policy) == column] for column in columns]
    yield ["mean", *(_mean(column, "success_any") for column in members)]
    yield ["mean, last step", *(_mean(column, "success_last") for column in members)]
    yield ["training seeds", *(str(max(len(one.rows) for one in column)) for column in members)]


def _cell(one: Seeds | None) -> str:
    if one is None:
        return ""
    low, high = one.interval
    return f"{one.mean('success_any'):.2f} ({low:.2f} to {high:.2f})"


def _mean(column: Sequence[Seeds], measure: str) -> str:
    found = [one.mean(measure) for one in column]
    known = [value for value in found if value is not None]
    return f"{sum(known) / len(known):.3f}" if len(known) == len(found) else ""


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|" + "---|" * len(header)
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def _latex(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """In the form of the package booktabs; the last three lines are set apart."""
    rows = [" & ".join(map(_escaped, line)) + r" \\" for line in (header, *lines)]
    rows = [r"\toprule", rows[0], r"\midrule", *rows[1:-3], r"\midrule", *rows[-3:], r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", *rows, r"\end{tabular}"])


def _escaped(text: str) -> str:
    for special in "&%$#_{}":
        text = text.replace(special, f"\\{special}")
    return text


def _csv(found: Sequence[Seeds]) -> str:
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in found:
        means = one.mean("success_any"), *one.interval, one.mean("success_last")
        numbers = ("" if value is None else round(value, 4) for value in means)
        lines.writerow([one.name, one.policy, one.task, len(one.rows), one.episodes, *numbers])
    return file.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Sequence[str], Sequence[Sequence[str]]], str]] = {
    "md": _markdown,
    "latex": _latex,
}
