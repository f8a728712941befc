"""What all studies share: stages that are run like those of a run, and one JSON file with a table of rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from collectiverl.artifacts import locks, outputs, provenance, sealed
from collectiverl.artifacts.files import write_json
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages.base import Stage

S = TypeVar("S", contravariant=True)  # the settings of a study


class Study(Protocol[S]):
    """A module of this package: stages whose summaries make the rows of one table."""

    def stages(self, run: Path, config: RunConfig, settings: S, /) -> list[Stage]:
        """All stages, in an order in which they can be done; those that are done are not done again."""
        ...

    def summarize(self, run: Path, config: RunConfig, settings: S, /) -> dict[str, Any]:
        """The table, from the sealed stages; also written as JSON."""
        ...

    def result_path(self, run: Path, settings: S, /) -> Path:
        """The JSON file."""
        ...


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], settings: Any, **more: Any) -> dict[str, Any]:
    """Writes the rows, the settings of the study and the versions of the packages; returns what it wrote."""
    table = {
        "rows": list(rows),
        **more,
        "settings": sealed.to_jsonable(settings),
        "versions": provenance.versions(),
    }
    if not outputs.is_readonly(path.parent):  # a finished run may be; its table is still shown
        locks.make_writable(path.parent)
        write_json(path, table)
    return table
