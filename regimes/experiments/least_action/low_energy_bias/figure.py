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
    ("transport_start", "transport", "cost at the start", "cost at the end"),
)
NAMES = {"kaiming": "Kaiming", "kaiming_uniform": "Kaiming, uniform", "xavier": "Xavier", "lecun": "LeCun"}
EXPLANATION = (
    "Small marks: runs of {} seeds; large marks: their medians. Mark: law (filled: Kaiming); colour: gain. ρ: "
    "Spearman's rank correlation over the initialisations of a seed, mean over the seeds; 95 % intervals resample laws "
    "and seeds, and say nothing of two laws. Costs are in the units of the encoder's features; the relative "
    "displacement has none."
)


def draw(rows: "DataFrame") -> "Figure":
    """Every run and the medians of each initialisation: marks by law, Kaiming's filled, and colours by gain."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator

    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.9)
    laws, gains = list(dict.fromkeys(rows.law)), sorted(set(rows.gain))
    marks = {law: figures.look(number)["marker"] for number, law in enumerate(laws)}
    colors = _colors(gains)
    groups: Any = rows.groupby(["law", "gain"], sort=False)
    with figures.style():
        for (law, gain), runs in groups:
            look = _look(law, marks[law], colors[gain])
            for ax, (x, y, _, _) in zip(axes, PANELS, strict=True):
                ax.plot(runs[x], runs[y], markersize=3, alpha=0.5, **look)
                ax.plot([runs[x].median()], [runs[y].median()], markersize=7, **look)
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
        handles = [Line2D([], [], **_look(law, mark, "#000000")) for law, mark in marks.items()]
        names = [NAMES.get(str(law), str(law)) for law in marks]
        made.legend(handles, names, loc="outside upper left", ncols=3, title="law")
        handles = [Line2D([], [], marker="o", linestyle="none", color=color) for color in colors.values()]
        made.legend(handles, [f"{gain:g}" for gain in gains], loc="outside upper right", ncols=3, title="gain")
        figures.explain(made, EXPLANATION.format(rows.seed.nunique()))
    return made


def _look(law: str, mark: str, color: Any) -> dict[str, Any]:
    look = {"marker": mark, "color": color, "linestyle": "none"}
    return look | ({} if law.startswith("kaiming") else {"markerfacecolor": "white"})


def _colors(gains: list[float]) -> dict[float, Any]:
    """A colour for each gain, darker for smaller ones."""
    from matplotlib import colormaps

    return dict(zip(gains, colormaps["viridis"](np.linspace(0.0, 0.9, len(gains))), strict=True))


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
