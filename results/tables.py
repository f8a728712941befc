"""`make tables`: writes the tables of README and docs from the ledger, between their markers.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is one of `TABLES`.
"""

import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from collectiverl.pipeline import presets
from results import success
from results.ablation import ablation
from results.cross_play import cross_play
from results.encoders import reconstruction
from results.memory import less_memory, memory
from results.meta import meta
from results.speeds import SPEEDS, arrivals, speed
from results.students import BEFORE, held, ratios, settings, shaping, students

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md")))
MARKED = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
EMPTY = "(no run of this table is in the ledger yet)\n"
CHINESE = {
    "task": "任务",
    "its expert": "该任务的专家",
    "one policy, goals visible": "一个策略，目标可见",
    "one policy, goals hidden": "一个策略，目标隐藏",
    "mean": "平均",
    "mean, last step": "平均，最后一步",
    "training seeds": "训练种子数",
}
ROWS: dict[str, Callable[[], list[list[str]]]] = {
    "front": success.front,
    **{f"experts-{name}": partial(success.experts, name) for name in ("mt10", "mt50")},
    "original": success.original,
    "controls": success.controls,
    **{name: partial(success.policies, name) for name in ("quickstart", "reference", "scratch")},
    **{name: partial(success.collective, name) for name in ("mt10", "mt10-hidden")},
    "mt50": partial(success.collective, "mt50", untold=True),
    **{
        name: partial(success.collective, name, "scripted", minutes=True)
        for name in ("fetch", "fetch-hidden")
    },
    **{name: partial(meta, name) for name in ("ml10", "ml45")},
    "cross-play": partial(cross_play, "cross-play-mt50"),
    "ablation": partial(ablation, "hidden", presets.quickstart().resolved()),
    "students": partial(students, "mt10"),
    "students-former": partial(students, "mt10", BEFORE),
    "students-held": partial(held, "mt10"),
    "students-settings": partial(settings, "mt10"),
    "students-shaping": partial(shaping, "mt10"),
    "students-ratios": partial(ratios, "mt10"),
    "reconstruction": reconstruction,
    "memory": memory,
    "less-memory": less_memory,
}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head; a head alone is no table."""
    if len(rows) < 2:
        return EMPTY
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def in_chinese(table: str) -> str:
    """The table with those of its cells that are words in Chinese."""
    return re.sub(r"(?<=\| )[^|]+(?= \|)", lambda cell: CHINESE.get(cell[0], cell[0]), table)


def _written_out(rows: Callable[[], list[list[str]]]) -> str:
    return markdown(rows())


TABLES: dict[str, Callable[[], str]] = {
    **{name: partial(_written_out, rows) for name, rows in ROWS.items()},
    "front-zh": lambda: in_chinese(markdown(success.front())),
    "speed-time-to-success": arrivals,
    **{f"speed-{name}": partial(speed, name) for name in SPEEDS},
}


def written(page: str) -> str:
    """The page with its tables as the ledger has them."""

    def table(found: re.Match[str]) -> str:
        begin, name, _, end = found.groups()
        return begin + TABLES[name]() + end

    return MARKED.sub(table, page)


def main() -> int:
    for page in PAGES:
        text = page.read_text()
        if (new := written(text)) != text:
            page.write_text(new)
            print(f"{page.relative_to(ROOT)} has new tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
