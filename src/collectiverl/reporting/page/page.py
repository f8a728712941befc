"""The page of one run or of several: one HTML file that needs nothing else, and asks nobody."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectiverl.artifacts import provenance, sealed
from collectiverl.reporting.page import (
    about,
    caveats,
    embedding,
    filmed,
    learning,
    seconds,
    sides,
    studies,
    success,
)
from collectiverl.reporting.page.blocks import Films, Plot, Section
from collectiverl.reporting.page.reading import RunFolder, short

HERE = Path(__file__).parent
SECTIONS = (success, filmed, learning, embedding, studies, seconds)  # in this order


@dataclass(frozen=True)
class Part:
    """The sections of one run, or those of all."""

    title: str  # "": the page has one run, whose sections need no heading above them
    sections: Sequence[Section]
    anchor: str = ""


def page(runs: Sequence[RunFolder]) -> str:
    """The whole page."""
    return render(list(parts(runs)), _title(runs))


def parts(runs: Sequence[RunFolder]) -> Iterator[Part]:
    names = sides.distinct_names(runs)
    alone = len(runs) == 1
    if not alone:
        yield Part("", [sides.section(runs, names)])
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        found = [made for module in SECTIONS if (made := module.section(run)) is not None]
        # last, since what is damaged is found by reading; shown first
        every = [about.overview(run), *found]
        yield Part("" if alone else name, every, "" if alone else f"run-{i + 1}-")
    yield Part("", [caveats.section(runs)])


def _title(runs: Sequence[RunFolder]) -> str:
    names = " and ".join(sides.distinct_names(runs))
    tasks = list(dict.fromkeys(short(task) for run in runs for task in run.tasks))
    return f"{names}: {about.listed(tasks)}" if tasks else names


def render(found: Sequence[Part], title: str) -> str:
    """The page of these parts."""
    import jinja2  # here, since they take time
    from plotly.offline import get_plotlyjs

    figures: dict[str, Mapping[str, Any]] = {}
    films: dict[str, list[dict[str, Any]]] = {}
    names: dict[int, str] = {}
    for block in (block for part in found for section in part.sections for block in section.blocks):
        names[id(block)] = f"block-{len(names) + 1}"
        if isinstance(block, Plot):
            figures[names[id(block)]] = block.figures
        elif isinstance(block, Films):
            films[names[id(block)]] = [
                {"title": film.title, "text": film.text, "steps": film.steps, "course": film.course}
                for film in block.films
            ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        title=title,
        parts=found,
        name_of=lambda block: names[id(block)],
        version=provenance.versions().get("collectiverl", ""),
        made=sealed.now().replace("T", " ").replace("Z", " UTC"),
        data=_embedded({"figures": figures, "films": films}),
        style=(HERE / "page.css").read_text(),
        script=(HERE / "page.js").read_text(),
        plotly=get_plotlyjs() if figures or films else "",
    )


def _embedded(data: Any) -> str:
    """JSON that may stand inside of a script element."""
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finite(value: Any) -> Any:
    """JSON has no nan, such as the unknown reward of a first step: a figure leaves out what is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
