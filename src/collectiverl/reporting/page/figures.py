"""Figures of Plotly as plain data. Colours are names, `$1` or `$ink`, which the page replaces by those of its theme."""

from collections.abc import Mapping, Sequence
from typing import Any

Trace = dict[str, Any]
Figure = dict[str, Any]
COLOURS = 8  # of categories, in the page's script
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot")
POLICIES = {
    "scripted": "$muted",
    "expert": "$1",
    "told-nothing": "$5",
    "collective": "$2",
    "student": "$3",
    "sac": "$4",
}
SYMBOL_OF = {
    "scripted": "diamond",
    "expert": "square",
    "told-nothing": "triangle-down",
    "collective": "circle",
    "student": "triangle-up",
    "sac": "x",
}
NAMES = {"sac": "plain SAC", "told-nothing": "told nothing"}  # of policies, for readers
MOST_NAMED = 12  # lines that a legend names


def colour(i: int) -> str:
    return f"${i % COLOURS + 1}"


def style(i: int) -> dict[str, Any]:
    """Of the i-th line: after the colours are used up, another dash."""
    line = {"color": colour(i), "width": 2, "dash": DASHES[i // COLOURS % len(DASHES)]}
    marker = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 6, "color": colour(i)}
    return {"mode": "lines+markers", "line": line, "marker": marker}


def line(name: str, x: Sequence[float], y: Sequence[float | None], i: int, **more: Any) -> Trace:
    return {"type": "scatter", "name": name, "x": list(x), "y": list(y), **style(i), **more}


def figure(traces: Sequence[Trace], *, x: Any, y: Any, height: int = 360, **layout: Any) -> Figure:
    """`x` and `y`: titles of the axes, or all of their settings."""
    axes = {"xaxis": _axis(x), "yaxis": _axis(y)}
    named = [trace for trace in traces if trace.get("showlegend", True) and trace.get("name")]
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0}
    shown = 1 < len(named) <= MOST_NAMED
    return {
        "data": list(traces),
        "layout": {"height": height, "showlegend": shown, "legend": legend, **axes, **layout},
    }


def _axis(settings: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"title": {"text": settings}} if isinstance(settings, str) else dict(settings)
    if isinstance(own.get("title"), str):
        own["title"] = {"text": own["title"]}
    return own


def share(title: str) -> dict[str, Any]:
    """An axis from 0 to 1."""
    return {"title": title, "range": [-0.04, 1.04], "tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]}


def steps(title: str = "environment steps") -> dict[str, Any]:
    return {"title": title, "rangemode": "tozero", "tickformat": "~s"}


def matrix(
    z: Sequence[Sequence[float]],
    x: Sequence[str],
    y: Sequence[str],
    *,
    titles: tuple[str, str],
    numbered: bool,
) -> Figure:
    """Shares from 0 to 1."""
    trace: Trace = {
        **{"type": "heatmap", "z": [list(row) for row in z], "x": list(x), "y": list(y)},
        **{"zmin": 0, "zmax": 1, "colorscale": "$matrix", "xgap": 1, "ygap": 1},
        "colorbar": {"tickformat": ".0%", "thickness": 12, "outlinewidth": 0},
        "hovertemplate": f"{titles[1]} %{{y}}<br>{titles[0]} %{{x}}: %{{z:.0%}}<extra></extra>",
    }
    if numbered:
        trace |= {"texttemplate": "%{z:.0%}"}
    down = {"title": titles[1], "autorange": "reversed", "showgrid": False}
    height = 150 + max(180, 26 * len(y))
    return figure([trace], x={"title": titles[0], "showgrid": False, "tickangle": -45}, y=down, height=height)


def heat(
    z: Sequence[Sequence[float | None]], x: Sequence[str], y: Sequence[str], *, titles: tuple[str, str]
) -> Figure:
    """Amounts from 0 on, numbered; None: there is nothing to show."""
    largest = max(amount for row in z for amount in row if amount is not None)
    trace: Trace = {
        **{"type": "heatmap", "z": [list(row) for row in z], "x": list(x), "y": list(y)},
        **{
            "zmin": 0,
            "zmax": largest or 1,
            "colorscale": "$matrix",
            "xgap": 1,
            "ygap": 1,
            "texttemplate": "%{z:.2f}",
        },
        "colorbar": {"thickness": 12, "outlinewidth": 0},
        "hovertemplate": f"{titles[1]} %{{y}}<br>{titles[0]} %{{x}}: %{{z:.3f}}<extra></extra>",
    }
    down = {"title": titles[1], "autorange": "reversed", "showgrid": False}
    height = 150 + max(180, 26 * len(y))
    return figure(
        [trace], x={"title": titles[0], "showgrid": False, "type": "category"}, y=down, height=height
    )


def dots(
    groups: Mapping[str, Sequence[tuple[str, float, tuple[float, float] | None]]],
    rows: Sequence[str],
    *,
    title: str,
    colours: Mapping[str, str] | None = None,
    symbols: Mapping[str, str] | None = None,
    open_dots: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """A row for each name of `rows`; in it a dot with an interval for each group that has one.

    Args:
        groups: name -> (row, value, interval).
        rows: from above to below.
        title: of the axis.
        colours, symbols: of the groups.
        open_dots: group -> row -> a second value, drawn as an open dot.
    """
    place = {name: i for i, name in enumerate(rows)}
    traces = []
    for k, (name, found) in enumerate(groups.items()):
        shift = 0.0 if len(groups) == 1 else 0.68 * (k / (len(groups) - 1) - 0.5)
        shade = (colours or {}).get(name, colour(k))
        symbol = (symbols or {}).get(name, SYMBOLS[k % len(SYMBOLS)])
        values = [value for _, value, _ in found]
        bounds = [interval or (value, value) for _, value, interval in found]
        trace: Trace = {
            **{"type": "scatter", "mode": "markers", "name": name, "x": values},
            "y": [place[row] + shift for row, _, _ in found],
            "marker": {"color": shade, "symbol": symbol, "size": 9},
            "customdata": [[row, *bound] for (row, _, _), bound in zip(found, bounds, strict=True)],
            "hovertemplate": f"%{{customdata[0]}}, {name}<br>%{{x:.3f}} (%{{customdata[1]:.2f}} to "
            "%{customdata[2]:.2f})<extra></extra>",
            "error_x": {
                **{"type": "data", "symmetric": False, "thickness": 1.4, "width": 3, "color": shade},
                "array": [high - value for value, (_, high) in zip(values, bounds, strict=True)],
                "arrayminus": [value - low for value, (low, _) in zip(values, bounds, strict=True)],
            },
        }
        traces.append(trace)
        second = (open_dots or {}).get(name, {})
        if second:
            traces.append(
                {
                    **{
                        "type": "scatter",
                        "mode": "markers",
                        "name": f"{name}, last step",
                        "showlegend": False,
                    },
                    **{"x": list(second.values()), "y": [place[row] + shift for row in second]},
                    "marker": {"color": shade, "symbol": f"{symbol}-open", "size": 9, "line": {"width": 1.5}},
                    "hovertemplate": f"{name}, last step: %{{x:.3f}}<extra></extra>",
                }
            )
    return figure(
        traces, x=share(title), y=_rows_axis(rows), height=130 + len(rows) * (18 + 12 * max(1, len(groups)))
    )


def _rows_axis(rows: Sequence[str]) -> dict[str, Any]:
    lines = [i + 0.5 for i in range(len(rows) - 1)]
    return {
        **{"tickvals": list(range(len(rows))), "ticktext": list(rows), "range": [len(rows) - 0.45, -0.55]},
        **{
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "minor": {"tickvals": lines, "showgrid": len(rows) > 1, "gridcolor": "$line"},
        },
    }
