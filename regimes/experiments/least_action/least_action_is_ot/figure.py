"""Gap and asymmetry against the weight of transport, and paths of points in the plane."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.least_action.least_action_is_ot.trends import floored
from regimes.lab.figures import DOUBLE, MARKERS, PALETTE, band, figure, style
from regimes.lab.statistics import geometric_mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PANELS = {
    "gap": "relative gap within classes",
    "gap_whole": "relative gap, whole cloud",
    "displacement_asymmetry": "asymmetry of T − id",
    "distance": "distance to $T_w$",
}
ABSENT = {"displacement_asymmetry": ("line",), "distance": ("circles", "digits", "mnist")}


def draw(rows: "DataFrame") -> "Figure":
    """Geometric means over the seeds with 95 % bands, the net of weight 0 at the left; and paths in the plane."""
    made, axes = figure(2, 3, width=DOUBLE, height=5.2)
    ends: Any = rows[(rows.kind == "end") & (rows.scheme == "fixed")]
    multiplied: Any = rows[(rows.kind == "end") & (rows.scheme == "multiplier")]
    with style():
        for ax, (column, label) in zip(axes.T.flat[:4], PANELS.items(), strict=True):
            for number, (name, some) in enumerate(ends.groupby("problem", sort=False)):
                if name in ABSENT.get(column, ()):  # every map of the line is a gradient; not all have a known T_w
                    continue
                colour = PALETTE[number]
                _curve(ax, some, column, ends.weight, colour, MARKERS[number], str(name))
                if column == "gap":
                    _curve(ax, some, "gap_null", ends.weight, colour, "", None, linestyle=":", linewidth=0.8)
                other = multiplied[multiplied.problem == name]
                if len(other):
                    value = geometric_mean_interval(floored(other[column])).value
                    ax.plot(other.final_weight.mean(), value, "*", color=colour, markersize=10, markeredgecolor="black")
            ax.set(xscale="log", yscale="log", xlabel="weight w of the action", ylabel=label)
            _ticks(ax, ends.weight)
        shown = axes[0, 0]
        shown.plot([], [], ":", color="#666666", label="displacements dealt out")
        shown.plot([], [], "*", color="white", markeredgecolor="black", markersize=10, label="multipliers")
        shown.plot([], [], "o", markerfacecolor="none", color="#666666", label="start of a path")
        shown.plot([], [], "o", color=PALETTE[1], markersize=4, label="its end")
        paths: Any = rows[rows.kind == "path"]
        for ax, weight in zip(axes[:, 2], sorted({0.0, float(ends.weight.max())}), strict=True):
            _paths(ax, paths[paths.weight == weight], f"plane, w = {weight:g}")
        handles, labels = shown.get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=5)
    return made


def _left(weights: Any) -> float:
    """Place of weight 0 on the log axis."""
    return float(weights[weights > 0].min()) / 10


def _curve(ax: Any, some: Any, column: str, weights: Any, colour: str, marker: str, label: str | None, **options: Any):
    places = np.sort(some.weight.unique())
    means = [geometric_mean_interval(floored(some[some.weight == place][column])) for place in places]
    x = np.where(places > 0, places, _left(weights))
    ax.plot(x, [m.value for m in means], marker=marker, color=colour, label=label, **options)
    if label is not None and all(np.isfinite(m.interval).all() for m in means):
        low = [max(m.interval.low, m.value / 100) for m in means]
        high = [min(m.interval.high, 100 * m.value) for m in means]
        band(ax, x, low, high, color=colour)


def _ticks(ax: Any, weights: Any) -> None:
    places = np.sort(weights.unique())
    ax.set_xticks(np.where(places > 0, places, _left(weights)), [f"{place:g}" for place in places])
    ax.minorticks_off()


def _paths(ax: Any, some: Any, title: str) -> None:
    for _, path in some.groupby("path"):
        path = path.sort_values("block")
        ax.plot(path.x, path.y, "-", color=PALETTE[0], linewidth=0.6, marker=".", markersize=1.5)
        ax.plot(path.x.iloc[:1], path.y.iloc[:1], "o", markerfacecolor="none", color="#666666", markersize=3.5)
        ax.plot(path.x.iloc[-1:], path.y.iloc[-1:], "o", color=PALETTE[1], markersize=3.5)
    ax.set(title=title, xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
