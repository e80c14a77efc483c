"""Test accuracy against transport cost and relative displacement, and the cost after against before training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.least_action.initialisations import correlations
from regimes.lab import figures
from regimes.lab.numbers import Number

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

COST = r"transport cost $\Sigma_k \|v_k\|^2$"
PANELS = (
    ("transport", "test_accuracy", COST, "test accuracy"),
    ("relative", "test_accuracy", r"relative $\Sigma_k \|v_k\|^2 / \|z_{k-1}\|^2$", "test accuracy"),
    ("transport_start", "transport", "transport cost at the start", "transport cost at the end"),
)
NAMES = {"kaiming": "Kaiming", "kaiming_uniform": "Kaiming, uniform", "xavier": "Xavier", "lecun": "LeCun"}
EXPLANATION = (
    "Small marks: runs of {} seeds; large marks: their medians; filled: Kaiming, open: the rest. ρ: Spearman's rank "
    "correlation over the initialisations of a seed, mean over the seeds; 95 % intervals resample laws and seeds, and "
    "say nothing of two laws. Costs are in the units of the encoder's features; the relative displacement has none."
)


def draw(rows: "DataFrame") -> "Figure":
    """Every run and the medians of each initialisation; Kaiming's are filled, as they are apart from the rest."""
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator

    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.9)
    with figures.style():
        for number, (law, some) in enumerate(rows.groupby("law", sort=False)):
            for place, (gain, runs) in enumerate(some.groupby("gain", sort=False)):
                color = figures.PALETTE[number]
                look = {"marker": figures.MARKERS[place], "color": color, "linestyle": "none"}
                look |= {} if str(law).startswith("kaiming") else {"markerfacecolor": "white"}
                for ax, (x, y, _, _) in zip(axes, PANELS, strict=True):
                    ax.plot(runs[x], runs[y], markersize=3, alpha=0.5, **look)
                    ax.plot([runs[x].median()], [runs[y].median()], markersize=7, **look)
                axes[0].plot([], [], **look, label=f"{NAMES.get(str(law), str(law))}, {gain:g}")
        for ax, (x, y, below, beside) in zip(axes, PANELS, strict=True):
            ax.set(xscale="log", xlabel=below, ylabel=beside, title=_correlation(rows, x, y))
            ax.minorticks_off()
        axes[0].xaxis.set_minor_locator(LogLocator(subs=(3,)))  # labels of more would overlap
        axes[0].xaxis.set_minor_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(9, 9)))
        axes[2].set(yscale="log")
        finite = rows[["transport_start", "transport"]].replace([np.inf, 0.0], np.nan)
        ends = [float(finite.min().min()), float(finite.max().max())]
        axes[2].plot(ends, ends, ":", color=figures.GREY, label="unchanged")
        axes[2].legend(loc="lower right")
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, title="law, gain")
        figures.explain(made, EXPLANATION.format(rows.seed.nunique()))
    return made


def other_laws(rows: Any) -> Any:
    """The rows of all laws but Kaiming's two."""
    return rows[~rows.law.str.startswith("kaiming")]


def _correlation(rows: Any, x: str, y: str) -> str:
    all_of_them, rest = correlations(rows, x, y), correlations(other_laws(rows), x, y)
    return f"ρ = {_signed(all_of_them)}\nwithout Kaiming:\n{_signed(rest)}"


def _signed(number: Number | None) -> str:
    if number is None:
        return "not known"
    ends = f" [{figures.signed(number.interval.low)}, {figures.signed(number.interval.high)}]" if number.bounded else ""
    return figures.signed(number.value) + ends
