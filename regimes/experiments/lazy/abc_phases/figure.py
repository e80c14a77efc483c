"""Figure of the abc-phases statement: the plane as a map of exponents, and cuts through it beside theory."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.abc_phases.numbers import (
    MAXIMAL_UPDATE,
    NTK,
    boundary,
    exponents,
    richness,
    stability,
    stable,
)
from regimes.experiments.lazy.planes import heat_map, named, of_points
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

RANGE = 1.5
CUTS = (0.5, 0.75, 1.0)


def draw(rows: "DataFrame") -> "Figure":
    """Above: exponent of the features' change, with the boundary of stability; below: cuts at fixed s beside −r."""
    made, (above, below) = figures.figure(2, 1, height=5.6, height_ratios=(1.25, 1))
    with figures.style():
        numbers = of_points(exponents(rows))
        if numbers:
            heat_map(made, above, numbers, extent=RANGE)
            low, high = above.get_xlim()
            line = np.array([low, 1.0, high]) if low < 1 < high else np.array([low, high])
            above.plot(line, [boundary(s) for s in line], color="black", linewidth=1.6)
            places = stability(rows).groupby(level="readout").mean()
            above.plot(places.index, places, "o", color="white", markeredgecolor="black", markersize=4.5)
            named(above, {"NTK": NTK, "μP": MAXIMAL_UPDATE}, figures.NOTE)
            above.set(xlabel="s: output weights start at n$^{-s}$", ylabel="a: hidden weights learn at n$^{-2a}$")
            _cuts(below, numbers)
        seeds = rows.seed.nunique()
        figures.explain(
            made,
            f"Exponent in the width of ‖Δx‖/‖x‖ of the last hidden layer, means of {seeds} seeds. Line above: boundary "
            "of stability, below it nets are unstable; circles: measured. Lines below: −r of Yang and Hu; "
            f"{figures.intervals('bars', seeds)}; hollow: unstable.",
        )
    return made


def _cuts(ax: Any, numbers: dict[tuple[float, float], Any]) -> None:
    present = sorted({s for s, _ in numbers})
    for number, s in enumerate([s for s in CUTS if s in present] or present[: len(CUTS)]):
        cut = {a: value for (other, a), value in numbers.items() if other == s}
        held = {a: value for a, value in cut.items() if stable(s, a)}
        lost = {a: value.value for a, value in cut.items() if not stable(s, a)}
        colour = figures.PALETTE[number]
        if held:
            figures.curve(ax, held, number=number, bars=True, linestyle="none", label=f"s = {s:g}")
        hollow = {"color": colour, "markerfacecolor": "none", "label": None if held else f"s = {s:g}"}
        ax.plot(list(lost), list(lost.values()), figures.MARKERS[number], linestyle="none", **hollow)
        fine = np.array([boundary(s), max(cut)])
        ax.plot(fine, [-richness(s, a) for a in fine], color=colour, linewidth=1.0)
    ax.axhline(0.0, color=figures.GREY, linewidth=0.8)
    ax.set(xlabel="a", ylabel="exponent")
    ax.legend(loc="lower left")
