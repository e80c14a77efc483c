"""Figure of the width-scaling statement."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.width_scaling.config import LAZY, MEAN_FIELD
from regimes.experiments.lazy.width_scaling.numbers import LINEAR_SHARE, losses, of_zero
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LOOKS = {
    LAZY: {"number": 0, "label": r"scaling $1/\sqrt{m}$"},
    MEAN_FIELD: {"number": 1, "label": "scaling $1/m$", "linestyle": "--"},
}


def draw(rows: "DataFrame") -> "Figure":
    """Test loss over that of f = 0 against m: one dot a trial, lines through the means."""
    made, ax = figures.figure(height=3.2)
    with figures.style():
        for scaling, look in LOOKS.items():
            some: Any = rows[rows.scaling == scaling]
            figures.curve(ax, losses(rows, scaling), marker="", unit=100.0, **look)
            marks = {"marker": figures.MARKERS[look["number"]], "color": figures.PALETTE[look["number"]]}
            ax.plot(some.width, 100 * of_zero(some), linestyle="none", markersize=1.8, alpha=0.5, **marks)
        ax.axhline(100 * LINEAR_SHARE, linestyle=":", color="#000000", label="linear function plus constant")
        ax.set(xscale="log", xlabel="width m", ylabel="test loss, % of that of f = 0")
        ax.set_ylim(bottom=0, top=200 * LINEAR_SHARE)
        ax.legend(loc="upper right")
        trials = rows.seed.nunique()
        figures.explain(made, f"Dots: trials, {trials} a width; lines: means; {figures.intervals('bands', trials)}.")
    return made
