"""What the encoder knows: its embeddings as points, which task they tell, and the goal that is decoded from them."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from collectiverl.reporting.page import figures
from collectiverl.reporting.page.blocks import Block, Picture, Plot, Section, Table
from collectiverl.reporting.page.reading import Found, RunFolder, Sealed, short

POINTS = "points.json"
MOST_NUMBERED = 12  # tasks whose confusions have room for their numbers
VALUES = {"step": "time step in the episode", "reward": "reward"}


def section(run: RunFolder) -> Section | None:
    blocks: list[Block] = []
    for stage, probe in run.of_kind("probe"):
        blocks += [*_points(run, stage, probe), _accuracy(probe), _confusions(probe), *_goals(run, probe)]
    if not blocks:
        return None
    lead = (
        "The encoder reads the trajectory so far and makes z of it; nobody tells it the task. Here z is judged on "
        "episodes that it was not trained on."
    )
    return Section("embedding", "Embedding", lead, blocks)


# -- points ------------------------------------------------------------------------------------------------


def _points(run: RunFolder, stage: Sealed, probe: Found) -> Iterator[Block]:
    points = run.json(stage, POINTS)
    if not points:
        yield from _pictures(run, stage)
        return
    drawn = {
        f"{name}, by {by}": _scatter(run, points, plane, by)
        for by in ("task", *VALUES, "cluster")
        for name, plane in points["planes"].items()
    }
    found = probe["clustering"]
    text = (
        f"{len(points['task']):,} windows of {len(points['tasks'])} tasks as points in a plane. Clusters of "
        f"k-means agree with the tasks with an adjusted Rand index of {found['ari']:.2f} (1: the same, 0: chance)."
    )
    caption = (
        "Each point is z after one held-out window. A click on a name of the legend hides it, a double click shows it "
        "alone. In t-SNE, distances between groups say little."
    )
    yield Plot("Embeddings of held-out windows", text, drawn, "view", caption)


def _scatter(run: RunFolder, points: Found, plane: Found, by: str) -> figures.Figure:
    x, y = zip(*plane["xy"], strict=True)
    axis = {"showgrid": False, "zeroline": False, "showticklabels": False}
    titles = [title or "" for title in plane["axes"]]
    settings: dict[str, Any] = {"height": 480, "hovermode": "closest"}
    layout = {"x": axis | {"title": titles[0]}, "y": axis | {"title": titles[1]}, **settings}
    if by in VALUES:
        bar = {"title": {"text": VALUES[by], "side": "right"}, "thickness": 12, "outlinewidth": 0}
        marker = {
            "color": points[by],
            "colorscale": "$sequential",
            "size": 6,
            "opacity": 0.85,
            "colorbar": bar,
        }
        hover = f"{VALUES[by]}: %{{marker.color}}<extra></extra>"
        trace = {
            "type": "scatter",
            "mode": "markers",
            "x": x,
            "y": y,
            "marker": marker,
            "hovertemplate": hover,
        }
        return figures.figure([trace], **layout)
    return figures.figure(list(_categories(run, points, x, y, by)), **layout)


def _categories(
    run: RunFolder, points: Found, x: Sequence[float], y: Sequence[float], by: str
) -> Iterator[figures.Trace]:
    """A task has the colour that it has in the other figures."""
    tasks = points["tasks"]
    place = {category: k for k, category in enumerate(sorted(set(points[by])))}
    if by == "task":
        place = {i: run.place(task) for i, task in enumerate(tasks)}
    for category, k in sorted(place.items(), key=lambda one: one[1]):
        mine = [i for i, value in enumerate(points[by]) if value == category]
        name = short(tasks[category]) if by == "task" else f"cluster {category}"
        symbol = figures.SYMBOLS[(k // figures.COLOURS + k) % len(figures.SYMBOLS)]
        yield {
            **{"type": "scatter", "mode": "markers", "name": name, "x": [x[i] for i in mine]},
            **{"y": [y[i] for i in mine], "text": [f"step {points['step'][i]}" for i in mine]},
            "marker": {"color": figures.colour(k), "symbol": symbol, "size": 6, "opacity": 0.8},
            "hovertemplate": f"{name}, %{{text}}<extra></extra>",
        }


def _pictures(run: RunFolder, stage: Sealed) -> Iterator[Block]:
    """What runs have whose points were not kept."""
    for name, file in (("PCA", "pca.png"), ("t-SNE", "tsne.png")):
        if data := run.data(stage, file):
            yield Picture(
                f"Embeddings of held-out windows: {name}",
                "Points coloured by task, reward, time step and cluster.",
                f"data:image/png;base64,{base64.b64encode(data).decode()}",
            )


# -- which task --------------------------------------------------------------------------------------------


def _accuracy(probe: Found) -> Block:
    views = {"embedding z": probe, "raw window": probe["raw_window"], "raw state": probe["raw"]}
    lengths = [length for length in probe["linear_probe"] if length.isdigit()]
    steps = [int(length) for length in lengths]
    lines = [
        figures.line(name, steps, [found["linear_probe"][length] for length in lengths], i)
        for i, (name, found) in enumerate(views.items())
    ]
    chance = {"line": {"color": "$muted", "width": 1.5, "dash": "dot"}, "mode": "lines"}
    lines.append(figures.line("chance", steps, [probe["chance"]] * len(steps), 3, **chance))
    x = {"title": "steps seen", "type": "log", "tickvals": steps, "ticktext": lengths}
    rows = [
        [name, *(f"{found['linear_probe'][length]:.2f}" for length in lengths)]
        for name, found in views.items()
    ]
    first, last = (probe["linear_probe"][lengths[i]] for i in (0, -1))
    return Plot(
        "Which task is it? A linear probe",
        f"From z, the task is told with accuracy {first:.2f} after {lengths[0]} step and {last:.2f} after "
        f"{lengths[-1]} steps; chance is {probe['chance']:.2f}.",
        {"": figures.figure(lines, x=x, y=figures.share("accuracy"))},
        table=Table("Accuracy by steps seen", ["read from", *lengths], rows),
    )


def _confusions(probe: Found) -> Block:
    names = [short(task) for task in probe["task_names"]]
    drawn = {
        "anywhere in an episode"
        if length == "anywhere"
        else f"{length} step{'s' * (length != '1')} seen": figures.matrix(
            found, names, names, titles=("taken for", "task"), numbered=len(names) <= MOST_NUMBERED
        )
        for length, found in probe["confusion"].items()
    }
    pairs = probe["most_confused"][:3]
    said = "; ".join(
        f"{short(p['task'])} is taken for {short(p['taken_for'])}: {_shares(p['share'])}" for p in pairs
    )
    header, rows = ["task", "taken for"], []
    if probe["most_confused"]:
        header += [f"{n} step{'s' * (n != '1')}" for n in probe["most_confused"][0]["share"]]
        rows = [
            [short(p["task"]), short(p["taken_for"]), *(f"{share:.0%}" for share in p["share"].values())]
            for p in probe["most_confused"]
        ]
    return Plot(
        "What is taken for what, by steps seen",
        f"Most confused: {said}." if said else "No task is taken for another.",
        drawn,
        "steps seen",
        table=Table("Pairs of tasks that are confused most", header, rows, text_columns=2) if rows else None,
    )


def _shares(share: Mapping[str, float]) -> str:
    return ", ".join(
        f"{value:.0%} of its windows after {n} step{'s' * (n != '1')}" for n, value in share.items()
    )


# -- goals -------------------------------------------------------------------------------------------------


def _goals(run: RunFolder, probe: Found) -> Iterator[Block]:
    goals = probe.get("goals")
    if not goals:
        return
    lines, every = [], sorted({int(n) for found in goals.values() for n in found["error"]})
    for task, found in goals.items():
        steps = [int(n) for n in found["error"]]
        lines.append(figures.line(short(task), steps, list(found["error"].values()), run.place(task)))
    chance = sum(found["chance"] for found in goals.values()) / len(goals)
    look = {"line": {"color": "$muted", "width": 1.5, "dash": "dot"}, "mode": "lines"}
    lines.append(figures.line("mean goal", [every[0], every[-1]], [chance, chance], 3, **look))
    x = {"title": "steps seen", "type": "log", "tickvals": every, "ticktext": list(map(str, every))}
    rows = [
        [short(task), f"{found['chance']:.3f}", *(_three(found["error"].get(str(n))) for n in every)]
        for task, found in goals.items()
    ]
    ends = [list(found["error"].values())[-1] for found in goals.values()]
    yield Plot(
        "Where is the goal? Decoded from z",
        f"Median distance of the decoded goal from the true one, after the most steps: {min(ends):.3f} to "
        f"{max(ends):.3f}; the mean goal is {chance:.3f} away.",
        {
            "": figures.figure(
                lines, x=x, y={"title": "median distance (units of the observation)", "rangemode": "tozero"}
            )
        },
        caption="A linear probe for each task and number of steps, on held-out episodes. Dotted: the distance of the "
        "mean goal, over tasks.",
        table=Table(
            "Distance of the decoded goal", ["task", "mean goal", *(f"{n} steps" for n in every)], rows
        ),
    )


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
