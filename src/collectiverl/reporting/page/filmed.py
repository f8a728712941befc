"""Films of the policy, and `z` over the course of an episode beside its film."""

import base64
from collections.abc import Iterator
from typing import Any

from collectiverl.reporting.page import figures
from collectiverl.reporting.page.blocks import Block, Film, Films, Note, Section
from collectiverl.reporting.page.reading import Found, RunFolder, Sealed, short

STRIP = "The strip at its bottom is z: one cell an entry, orange below 0, blue above."


def section(run: RunFolder) -> Section | None:
    films, notes, kinds = [], [], set()
    for stage, about in run.of_kind("film"):
        kinds.add(about["policy"])
        films += list(_films(run, stage, about))
        if about["why"]:
            notes.append(f"{short(about['task'])} could not be filmed: {about['why']}")
    if not films and not notes:
        return None
    blocks: list[Block] = [Note(notes, "warning")] if notes else []
    blocks += [Films(films)] if films else []
    who = " and ".join(sorted(kinds))
    lead = f"The {who} plays: of each task a goal that it reached and, where there is one, a goal that it did not."
    if "collective" in kinds:
        lead += f" A film ends a second after success. {STRIP}"
    return Section("films", "Films", lead, blocks)


def _films(run: RunFolder, stage: Sealed, about: Found) -> Iterator[Film]:
    for found in about["films"]:
        data = run.data(stage, found["file"])
        if data is None:
            continue
        task, first = short(found["task"]), found["first_success"]
        outcome = f"success at step {first}" if first else f"no success in {found['steps']} steps"
        yield Film(
            f"{task}, goal {found['goal']}",
            outcome,
            f"data:video/mp4;base64,{base64.b64encode(data).decode()}",
            found["success"],
            found["steps"],
            _course(found) if found["z"] else None,
        )


def _course(found: Found) -> figures.Figure:
    """Entries of `z` from below to above, steps from left to right; the step of the first success is marked."""
    rows = [list(row) for row in zip(*found["z"], strict=True)]
    most = max(abs(value) for row in rows for value in row) or 1.0
    trace: dict[str, Any] = {
        **{"type": "heatmap", "z": rows, "x0": 1, "dx": 1, "zmin": -most, "zmax": most},
        **{"colorscale": "$diverging", "hovertemplate": "step %{x}, entry %{y}: %{z:.2f}<extra></extra>"},
        "colorbar": {"title": {"text": "z", "side": "right"}, "thickness": 12, "outlinewidth": 0},
    }
    marks = []
    if first := found["first_success"]:
        marks.append(
            {
                **{"type": "line", "x0": first, "x1": first, "yref": "paper", "y0": 0, "y1": 1},
                "line": {"color": "$ink", "width": 1.5, "dash": "dot"},
                "label": {
                    **{"text": "success ", "textposition": "end", "textangle": 0, "xanchor": "right"},
                    **{"yanchor": "bottom", "font": {"size": 12, "color": "$ink"}},
                },
            }
        )
    x, y = (
        {"title": "step", "showgrid": False},
        {"title": "entry of z", "showgrid": False, "dtick": max(1, len(rows) // 8)},
    )
    return figures.figure([trace], x=x, y=y, height=360, shapes=marks, margin={"t": 28})
