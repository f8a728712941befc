"""What a page consists of, as plain data: sections of tables, figures, films and notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Figure = Mapping[str, Any]  # of Plotly: data and layout


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    rows: Sequence[tuple[str, str]]
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True)
class Table:
    """The first column names its row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1  # at the left; all others hold numbers
    folded: bool = False  # shown when it is asked for
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Plot:
    """A figure, or several of which one is chosen."""

    title: str
    text: str  # what the figure says, for those who do not see it
    figures: Mapping[str, Figure]  # name -> figure; one without a name has nothing to be chosen
    chosen_by: str = ""  # what the names are names of
    caption: str = ""
    table: Table | None = None  # its numbers
    kind: Literal["plot"] = "plot"


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn when the stage ran."""

    title: str
    text: str
    data: str  # URI
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Film:
    """One film."""

    title: str
    text: str
    data: str  # URI
    success: bool
    steps: int
    course: Figure | None = None  # z at each step
    kind: Literal["film"] = "film"


@dataclass(frozen=True)
class Films:
    """A grid of films; and one beside the course of its `z`, where there is any."""

    films: Sequence[Film]
    kind: Literal["films"] = "films"


@dataclass(frozen=True)
class Note:
    """A sentence, or a list of them."""

    lines: Sequence[str]
    tone: Literal["plain", "warning", "good"] = "plain"
    kind: Literal["note"] = "note"


Block = Facts | Table | Plot | Picture | Films | Note


@dataclass(frozen=True)
class Section:
    """A part of the page with its heading."""

    name: str  # its anchor
    title: str
    lead: str  # a sentence or two
    blocks: Sequence[Block] = field(default_factory=tuple)
