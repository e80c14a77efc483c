"""The figure: constants within their bounds, search against exact values, distances along the flow."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.control.contraction_bound.runs import GRADIENT, PLAIN, TIMES
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

SHOWN = 12  # nets whose distances are drawn


def draw(rows: "DataFrame") -> "Figure":
    """ν/μ*² of each net; what the search misses in the plane; growth of distances of both kinds of nets."""
    made, panels = figures.figure(1, 3, width=figures.DOUBLE, height=3.0)
    names = list(dict.fromkeys(rows.activation))
    widest: Any = rows[(rows.width == rows.width.max()) & (rows.hidden == rows.hidden.max())]
    with figures.style():
        _constants(panels[0], widest, names)
        _misses(panels[1], rows, names)
        _courses(panels[2], widest)
        width = (
            f"width {int(rows.width.max())}, {int(rows.hidden.max())} times as many rows" if len(rows) else "no nets"
        )
        words = (
            f"A mark is a net. Left and right: {width}; middle: width 2, where ν is known. Right: largest growth over "
        )
        words += f"the pairs of a net, up to {SHOWN} nets of {_shown(widest)}; dashed: their bound exp(νt)."
        figures.explain(made, words)
    return made


def _shown(rows: Any) -> str:
    """The activation with the strongest contraction, whose bound is seen best."""
    return str(rows.groupby("activation").nu.mean().idxmin()) if len(rows) else "no σ"


def _constants(ax: "Axes", widest: Any, names: list[str]) -> None:
    for number, name in enumerate(names):
        some = widest[widest.activation == name]
        apart = number + 0.6 * (np.arange(len(some)) / max(1, len(some) - 1) - 0.5)
        look: dict[str, Any] = {"color": figures.PALETTE[number], "marker": figures.MARKERS[number]}
        ax.plot(apart, some.nu / some.least, linestyle="", markersize=2, **look)
    for bound in (-1.0, 0.0):
        ax.axhline(bound, color=figures.GREY, linestyle="--", linewidth=1)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right")
    ax.set(ylabel=r"$\nu \,/\, \mu_*^2$", title="constants and bounds")


def _misses(ax: "Axes", rows: Any, names: list[str]) -> None:
    plane = rows[rows.exact.notna()]
    for number, name in enumerate(names):
        some = plane[plane.activation == name]
        look: dict[str, Any] = {"color": figures.PALETTE[number], "marker": figures.MARKERS[number]}
        ax.plot(some.exact / some.least, some.nu / some.least, linestyle="", markersize=2.5, label=name, **look)
    ax.plot([-1, 0], [-1, 0], color="black", linewidth=0.8)
    ax.plot([-1, 0], [-1.05, -0.05], color=figures.GREY, linestyle=":", linewidth=1)
    ax.set(xlabel=r"exact $\nu \,/\, \mu_*^2$", ylabel=r"found $\nu \,/\, \mu_*^2$", title="search (dotted: 5 % below)")
    if len(plane):
        ax.legend(loc="lower right", markerscale=1.5, labelspacing=0.3)


def _courses(ax: "Axes", widest: Any) -> None:
    some = widest[widest.activation == _shown(widest)].head(SHOWN)
    for place, (_, row) in enumerate(some.iterrows()):
        bound = r"bound $e^{\nu t}$" if place == 0 else None
        times = row.horizon * np.arange(TIMES + 1) / TIMES
        for kind, color, words in ((GRADIENT, "black", "gradient"), (PLAIN, figures.PALETTE[5], "plain")):
            values = [1.0, *(row[f"{kind}_{number + 1}"] for number in range(TIMES))]
            ax.plot(times, values, color=color, linewidth=0.8, label=words if place == 0 else None)
        ax.plot(times, np.exp(row.nu * times), color=figures.GREY, linestyle="--", linewidth=0.6, label=bound)
    ax.set(yscale="log", xlabel="time t", ylabel=r"largest $\|\Delta(t)\| \,/\, \|\Delta(0)\|$", title="along the flow")
    if len(some):
        ax.set_ylim(top=300.0)
        ax.legend(loc="upper left", ncols=2, columnspacing=0.8, handlelength=1.4, fontsize=7)
