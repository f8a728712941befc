"""Where the seconds went."""

from collectiverl.reporting.page import figures
from collectiverl.reporting.page.blocks import Plot, Section, Table
from collectiverl.reporting.page.reading import RunFolder

MOST_BARS = 30


def section(run: RunFolder) -> Section | None:
    spent = {one.name: float(one.manifest.get("seconds", 0)) for one in run.stages}
    if not spent:
        return None
    kinds: dict[str, float] = {}
    for one in run.stages:
        kinds[one.kind] = kinds.get(one.kind, 0.0) + spent[one.name]
    longest = sorted(spent, key=lambda name: -spent[name])[:MOST_BARS]
    memory = {one.name: one.manifest.get("peak_memory") for one in run.stages}
    computed = {one.name: one.manifest.get("core_seconds") for one in run.stages}
    load = {one.name: one.manifest.get("load") or () for one in run.stages}
    rows = [
        [
            name,
            f"{spent[name]:,.1f}",
            "" if computed[name] is None else f"{computed[name]:,.1f}",
            " to ".join(map(str, load[name])),
            _gigabytes(memory[name]),
        ]
        for name in sorted(spent, key=lambda n: -spent[n])
    ]
    by_kind = dict(sorted(kinds.items(), key=lambda one: -one[1]))
    first = next(iter(by_kind))
    drawn = {"by kind of stage": _bars(by_kind), "by stage": _bars({name: spent[name] for name in longest})}
    total = sum(spent.values())
    return Section(
        "seconds",
        "Where the seconds went",
        f"{duration(total)} of work, as if all stages had run one after another; they may have run side by side.",
        [
            Plot(
                "Seconds by stage",
                f"{first} took most: {by_kind[first] / total:.0%} of {duration(total)}." if total else "",
                drawn,
                "bars",
                table=Table(
                    "Seconds and memory of each stage, with the machine's load before it and after it",
                    ["stage", "seconds", "core-seconds", "load", "peak memory (GB)"],
                    rows,
                    folded=True,
                ),
            )
        ],
    )


def _bars(values: dict[str, float]) -> figures.Figure:
    trace = {
        **{"type": "bar", "orientation": "h", "x": list(values.values()), "y": list(values)},
        **{
            "marker": {"color": "$1"},
            "texttemplate": "%{x:,.0f}",
            "textposition": "auto",
            "cliponaxis": False,
        },
        "hovertemplate": "%{y}: %{x:,.1f} s<extra></extra>",
    }
    y = {"autorange": "reversed", "showgrid": False, "automargin": True, "ticksuffix": " "}
    return figures.figure([trace], x={"title": "seconds"}, y=y, height=110 + 26 * len(values))


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.2f}"


def duration(seconds: float) -> str:
    """`3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
