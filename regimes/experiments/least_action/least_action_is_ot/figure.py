"""Gap and asymmetry against the weight of transport, and paths of points in the plane."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.least_action.least_action_is_ot.problems import CLASSIFIED, IMAGES, KNOWN
from regimes.experiments.least_action.least_action_is_ot.trends import RESOLUTION, floored
from regimes.lab import figures, numbers
from regimes.lab.figures import GREY, MARKERS, PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PANELS = {
    "gap": "relative gap within classes",
    "gap_whole": "relative gap, whole cloud",
    "displacement_asymmetry": "asymmetry of T − id",
    "distance": "distance to $T_w$",
}
GAPS = ("gap", "gap_whole")
ABSENT = {"displacement_asymmetry": ("line",), "distance": CLASSIFIED}
NUMBER = {name: number for number, name in enumerate((*KNOWN, "circles", "images"))}  # colour and marker of a problem
NAMES = {"line": "line (d = 1)", "plane": "plane (d = 2)", "space": "space (d = 8)", "mnist": "MNIST"}
BANDS = "Student's 95 % intervals of their logarithms, not drawn beyond a factor of 100"
EXPLANATION = (
    "Marks: geometric means over {seeds} seeds; {bands}. Weight 0, the risk alone, stands at the left. Below 10⁻⁹ "
    "(grey) the certificate does not tell a gap from 0: such gaps are drawn at this floor. Dealt out: each point moved "
    "by the displacement of another of its class. Asymmetry: 0 for a gradient, about 1 for unstructured maps. "
    "Distance: over the size of the known map."
)


def draw(rows: "DataFrame") -> "Figure":
    """Geometric means over the seeds with 95 % bands, the net of weight 0 at the left; and paths in the plane."""
    made, axes = figures.figure(2, 3, width=figures.DOUBLE, height=5.9)
    ends: Any = rows[rows.kind == "end"]
    seeds = ends.seed.nunique()
    with figures.style():
        for ax, column in zip(axes.T.flat[:4], PANELS, strict=True):
            _panel(ax, ends, column)
        shown = axes[0, 0]
        shown.plot([], [], ":", color=GREY, label="displacements dealt out")
        star = {"color": "white", "markeredgecolor": "black", "markersize": 10}
        shown.plot([], [], "*", label="method of multipliers", **star)
        shown.plot([], [], "o", markerfacecolor="none", color=GREY, label="start of a path")
        shown.plot([], [], "o", color=PALETTE[1], markersize=4, label="its end")
        paths: Any = rows[rows.kind == "path"]
        for ax, weight in zip(axes[:, 2], (0.0, float(ends.weight.max())), strict=True):
            _paths(ax, paths[paths.weight == weight], f"plane, w = {weight:g}")
        made.legend(*shown.get_legend_handles_labels(), loc="outside upper center", ncols=4)
        figures.explain(made, EXPLANATION.format(seeds=seeds, bands=figures.intervals("bands", seeds, BANDS)))
    return made


def _panel(ax: Any, ends: Any, column: str) -> None:
    """One number of all problems against the weight, with what the method of multipliers reached."""
    fixed, multiplied = ends[ends.scheme == "fixed"], ends[ends.scheme == "multiplier"]
    for name, some in fixed.groupby("problem", sort=False):
        if name in ABSENT.get(column, ()):  # every map of the line is a gradient; not all have a known T_w
            continue
        number = NUMBER["images" if name in IMAGES else str(name)]
        _curve(ax, some, column, ends.weight, number, label=NAMES.get(str(name), str(name)))
        if column == "gap":
            _curve(ax, some, "gap_null", ends.weight, number, marker="", linestyle=":", linewidth=0.8)
        other = multiplied[multiplied.problem == name]
        if value := numbers.geometric_mean(floored(other[column])):
            star = {"color": PALETTE[number], "markersize": 10, "markeredgecolor": "black", "linestyle": "none"}
            ax.plot(other.final_weight.mean(), value.value, marker="*", zorder=3, **star)
    ax.set(xscale="log", yscale="log", xlabel="weight w of the action", ylabel=PANELS[column])
    places = np.sort(ends.weight.unique())
    ax.set_xticks(np.where(places > 0, places, _left(ends.weight)), [f"{place:g}" for place in places])
    ax.xaxis.minorticks_off()
    if column in GAPS:
        ax.set_ylim(bottom=RESOLUTION / 60)
        ax.axhspan(RESOLUTION / 60, RESOLUTION, color=GREY, alpha=0.25, linewidth=0)
        ax.text(0.5, RESOLUTION / 15, "not told from 0", transform=ax.get_yaxis_transform(), fontsize=figures.NOTE,
                ha="center", va="center")  # fmt: skip


def _left(weights: Any) -> float:
    """Place of weight 0 on the log axis."""
    return float(weights[weights > 0].min()) / 10


def _curve(ax: Any, some: Any, column: str, weights: Any, number: int, **look: Any) -> None:
    """Geometric means against the weight; the bands of a labelled curve end at the floor and at 100 times the mean."""
    found = numbers.each(some, "weight", lambda one: numbers.geometric_mean(floored(one[column])))
    placed = {weight if weight > 0 else _left(weights): mean for weight, mean in found.items()}
    drawn = {"color": PALETTE[number], "marker": MARKERS[number]} | look
    ax.plot(list(placed), [mean.value for mean in placed.values()], **drawn)
    if "label" in look and all(mean.drawn for mean in placed.values()):
        low = [max(mean.interval.low, mean.value / 100, RESOLUTION) for mean in placed.values()]
        high = [min(mean.interval.high, 100 * mean.value) for mean in placed.values()]
        figures.band(ax, list(placed), low, high, color=PALETTE[number])


def _paths(ax: Any, some: Any, title: str) -> None:
    for _, path in some.groupby("path") if len(some) else ():
        path = path.sort_values("block")
        ax.plot(path.x, path.y, "-", color=PALETTE[0], linewidth=0.6, marker=".", markersize=1.5)
        ax.plot(path.x.iloc[:1], path.y.iloc[:1], "o", markerfacecolor="none", color=GREY, markersize=3.5)
        ax.plot(path.x.iloc[-1:], path.y.iloc[-1:], "o", color=PALETTE[1], markersize=3.5)
    ax.set(title=title, xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
