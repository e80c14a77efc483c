"""The figure of the statement on optimisers, and what it shares with the verdict."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.optimisers_and_laziness.config import NAMES
from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LARGE = 1000.0  # from this α on exponents are fitted
QUANTITIES = {  # column: in words, in figures
    "weights": ("‖w − w₀‖", r"$\|w - w_0\|$"),
    "departure": ("‖w − w̄‖", r"$\|w - \bar w\|$"),
    "outputs": ("‖αh(w) − αh̄(w̄)‖", r"$\|\alpha h(w) - \alpha\bar h(\bar w)\|$"),
}
LOOKS = {  # the linear ones nearly coincide
    name: {"number": number, "linestyle": style, "linewidth": width}
    for name, number, style, width in zip(
        NAMES,
        (0, 1, 2, 3, 4, 5, 6, 7),
        (":", ":", ":", "-", "-", "-", "-", "--"),
        (2.2, 2.2, 2.2, *[1.4] * 5),
        strict=True,
    )
}


def figure(rows: "DataFrame", found: Mapping[str, Mapping[Any, Number]]) -> "Figure":
    """One panel a quantity, with the exponents `found` of each quantity and optimiser."""
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.6)
    with figures.style():
        for ax, (column, (_, words)) in zip(axes, QUANTITIES.items(), strict=True):
            for name, some in rows.groupby("optimiser", sort=False):
                means = each(some, "alpha", lambda at, column=column: geometric_mean(at[column]))
                three = [one[str(name)].value for one in found.values() if str(name) in one]
                label = f"{name}: {', '.join(map(figures.signed, three))}" if three else str(name)
                figures.curve(ax, means, label=label, **LOOKS[str(name)])
            ax.axvspan(LARGE, rows.alpha.max(), color="#f2f2f2", zorder=0)
            ax.set(xscale="log", yscale="log", xlabel="scale α", title=f"largest {words}")
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        seeds = rows.seed.nunique()
        text = (
            f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}. Grey: where exponents are fitted; "
            "in the legend, one for each panel. Lines on each other: the later in the legend is seen."
        )
        figures.explain(made, text)
    return made
