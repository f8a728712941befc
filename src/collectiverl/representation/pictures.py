"""Pictures of what the encoder makes of held-out windows; drawn without pyplot, which would hold on to them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from collectiverl.representation.goals import Course
from collectiverl.representation.probe import Points

DPI = 100
POINTS_SIZE = (13.0, 10.0)  # inches
COLOURS = matplotlib.color_sequences["tab20"][::2] + matplotlib.color_sequences["tab20"][1::2]
MARKERS = "o^sDP"  # another for every twenty tasks: that many colours are as many as an eye tells apart
GOALS_SIZE = (13.0, 5.5)
MOST_NUMBERED = 15  # tasks whose confusions have room for their percentages


def _figure(size: tuple[float, float]) -> Figure:
    """That many inches."""
    return Figure(size, DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))


class Plane(NamedTuple):
    """Where points lie on paper."""

    xy: Float[np.ndarray, "B 2"]
    title: str
    axes: tuple[str, str] = ("", "")


def pca(z: Float[np.ndarray, "B Z"]) -> Plane:
    """Along the two directions in which the points differ most."""
    model = PCA(min(2, z.shape[1]))
    xy = model.fit_transform(z)
    share = np.append(model.explained_variance_ratio_, 0.0)
    across, up = (f"component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2))
    return Plane(np.pad(xy, ((0, 0), (0, 2 - xy.shape[1]))), "PCA", (across, up))


def tsne(z: Float[np.ndarray, "B Z"], seed: int) -> Plane:
    """Neighbours beside each other; distances between groups say little (van der Maaten and Hinton 2008)."""
    start = pca(z).xy
    start = 1e-4 * start / max(start[:, 0].std(), 1e-8)  # as small as its authors begin
    model = TSNE(perplexity=min(30, (len(z) - 1) / 3), init=start.astype(np.float32), random_state=seed)
    return Plane(model.fit_transform(z), "t-SNE")


# -- points ------------------------------------------------------------------------------------------------


def draw_points(path: Path, points: Points, plane: Plane) -> None:
    """Four times the same points, coloured by task, reward, time step and cluster."""
    figure = _figure(POINTS_SIZE)
    (by_task, by_reward), (by_step, by_cluster) = figure.subplots(2, 2)
    figure.suptitle(f"{plane.title} of the embeddings of {len(points.z):,} held-out windows")
    names = sorted(set(points.task.tolist()))
    by_task.set_title("task")
    _categories(by_task, plane, np.searchsorted(names, points.task))
    handles = [_handle(i) for i in range(len(names))]
    size = 10 if len(names) <= 20 else 8
    figure.legend(handles, names, loc="outside left upper", fontsize=size, frameon=False)
    _values(by_reward, plane, points.reward, "reward")
    _values(by_step, plane, points.step, "time step in the episode")
    _clusters(by_cluster, plane, points.cluster)
    for axes in (by_task, by_reward, by_step, by_cluster):
        axes.set(xlabel=plane.axes[0], ylabel=plane.axes[1], xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
    figure.savefig(path)


def as_numbers(points: Points, planes: Mapping[str, Plane]) -> dict[str, Any]:
    """The same as JSON, for pictures that are drawn elsewhere: each plane, and what is known of each point."""
    names = sorted(set(points.task.tolist()))
    return {
        "planes": {
            name: {"xy": np.round(plane.xy, 4).tolist(), "axes": list(plane.axes)}
            for name, plane in planes.items()
        },
        "tasks": names,
        "task": np.searchsorted(names, points.task).tolist(),
        "step": points.step.tolist(),
        "reward": np.round(points.reward, 3).tolist(),
        "cluster": points.cluster.tolist(),
    }


def style(category: int) -> tuple[Any, str]:
    """A colour and a marker."""
    return COLOURS[category % len(COLOURS)], MARKERS[category // len(COLOURS) % len(MARKERS)]


def _handle(category: int) -> Line2D:
    colour, marker = style(category)
    return Line2D([], [], color=colour, marker=marker, linestyle="none")


def _categories(axes: Axes, plane: Plane, category: Int[np.ndarray, "B"]) -> None:
    for i in np.unique(category):
        colour, marker = style(int(i))
        axes.scatter(*plane.xy[category == i].T, s=12, color=colour, marker=marker, alpha=0.7, linewidth=0)


def _values(axes: Axes, plane: Plane, value: np.ndarray, name: str) -> None:
    axes.set_title(name)
    scale = Normalize(*np.percentile(value, (1, 99)))  # a few extremes would leave one colour for all others
    axes.scatter(*plane.xy.T, s=12, c=value, norm=scale, alpha=0.7, linewidth=0)
    axes.figure.colorbar(ScalarMappable(scale), ax=axes, extend="both")


def _clusters(axes: Axes, plane: Plane, cluster: Int[np.ndarray, "B"]) -> None:
    """Each with its number, since their colours recur."""
    found = np.unique(cluster)
    axes.set_title(f"cluster ({len(found)} found)")
    _categories(axes, plane, cluster)
    style = {"size": 8, "ha": "center", "path_effects": [withStroke(linewidth=2, foreground="white")]}
    for i in found:
        x, y = np.median(plane.xy[cluster == i], axis=0)
        axes.annotate(str(i), (x, y), (0, 4), textcoords="offset points", **style)


# -- numbers -----------------------------------------------------------------------------------------------


def accuracy_size(tasks: int) -> tuple[float, float]:
    """Inches that a picture of the confusions between that many tasks takes."""
    side = _matrix_side(tasks)
    return 8.0 + 2 * side, side + 2.3


def _matrix_side(tasks: int) -> float:
    return float(np.clip(0.17 * tasks, 3.5, 9.0))


def draw_accuracy(path: Path, numbers: Mapping[str, Any]) -> None:
    """Accuracy by steps seen, and what is taken for what at the first step and after the most."""
    names, accuracy = numbers["task_names"], numbers["linear_probe"]
    lengths = [length for length in accuracy if length.isdigit()]
    side = _matrix_side(len(names))
    figure = _figure(accuracy_size(len(names)))
    curve, *matrices = figure.subplots(1, 3, width_ratios=(4.5, side, side))
    _curve(curve, numbers, lengths)
    for axes, length in zip(matrices, (lengths[0], lengths[-1]), strict=True):
        _matrix(axes, numbers["confusion"][length], names)
        steps = "1 step" if length == "1" else f"{length} steps"
        axes.set_title(f"taken for what after {steps} ({accuracy[length]:.0%} right)", fontsize=10)
    matrices[0].set_yticks(range(len(names)), names, fontsize=_label_size(names))
    shown, label = matrices[-1].images[0], "share of the task's windows"
    figure.colorbar(shown, ax=matrices, label=label, shrink=0.7, panchor=False)  # leaves their anchors alone
    figure.savefig(path)


def _curve(axes: Axes, numbers: Mapping[str, Any], lengths: Sequence[str]) -> None:
    views = {"embedding z": numbers, "raw window": numbers["raw_window"], "raw state": numbers["raw"]}
    steps = [int(length) for length in lengths]
    for (name, found), marker in zip(views.items(), MARKERS, strict=False):
        axes.plot(steps, [found["linear_probe"][length] for length in lengths], marker=marker, label=name)
    axes.axhline(numbers["chance"], color="grey", linestyle=":", label="chance")
    axes.set_xscale("log")
    axes.set_xticks(steps, lengths)
    axes.set_xticks([], minor=True)
    axes.set(ylim=(0, 1.03), xlabel="steps seen", ylabel="accuracy on held-out episodes")
    axes.set_title("linear probe: which task is it?", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")


def _matrix(axes: Axes, matrix: Sequence[Sequence[float]], names: Sequence[str]) -> None:
    axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues")
    axes.set_anchor("S")  # from there the layout measures what room the names below take
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=_label_size(names))
    axes.set_yticks([])
    if len(names) > MOST_NUMBERED:
        return
    for (row, column), share in np.ndenumerate(np.asarray(matrix)):
        if share >= 0.005:  # what would read 0
            colour = "white" if share > 0.5 else "black"
            axes.annotate(
                f"{100 * share:.0f}", (column, row), color=colour, ha="center", va="center", fontsize=8
            )


def _label_size(names: Sequence[str]) -> float:
    return 9.0 if len(names) <= MOST_NUMBERED else 7.0


# -- goals -------------------------------------------------------------------------------------------------


def draw_goals(path: Path, numbers: Mapping[str, Any], course: Course) -> None:
    """How far what is decoded from `z` lies from the goal, by steps seen; and one episode, seen from above."""
    figure = _figure(GOALS_SIZE)
    errors, above = figure.subplots(1, 2, width_ratios=(7, 6))
    for i, (task, found) in enumerate(numbers.items()):
        colour, marker = style(i)
        steps = [int(step) for step in found["error"]]
        errors.plot(steps, list(found["error"].values()), color=colour, marker=marker, label=task)
    chance = float(np.mean([found["chance"] for found in numbers.values()]))
    errors.axhline(chance, color="grey", linestyle=":", label="mean goal (over tasks)")
    errors.set_xscale("log")
    errors.set(xlabel="steps seen", ylabel="median distance from the goal", ylim=(0, None))
    errors.set_title("goal decoded from z by a linear probe, held-out episodes", fontsize=10)
    errors.grid(alpha=0.3)
    figure.legend(loc="outside left upper", fontsize=8, frameon=False)
    _from_above(above, course)
    figure.savefig(path)


def _from_above(axes: Axes, course: Course) -> None:
    """The first two axes of positions; a goal of one number has its step for the other."""
    steps = np.arange(1, len(course.hand) + 1)

    def plane(position: np.ndarray) -> np.ndarray:
        flat = np.broadcast_to(position, (len(steps), position.shape[-1]))
        return flat[:, :2].T if flat.shape[1] > 1 else np.stack([steps, flat[:, 0]])

    scale = Normalize(1, len(steps))
    axes.plot(*plane(course.hand), color="black", linewidth=1, label="hand")
    axes.scatter(*plane(course.decoded), s=14, c=steps, norm=scale, label="decoded goal", zorder=2)
    axes.scatter(*plane(course.goal)[:, -1:], s=220, c="crimson", marker="*", label="goal", zorder=3)
    axes.figure.colorbar(ScalarMappable(scale), ax=axes, label="steps seen")
    axes.set_title(f"one held-out episode of {course.task}, from above", fontsize=10)
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="best", fontsize=8)
