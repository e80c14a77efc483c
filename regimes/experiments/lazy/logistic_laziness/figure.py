"""The figure of the statement on the logistic loss."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.logistic_laziness.config import LOGISTIC, SQUARE
from regimes.experiments.lazy.logistic_laziness.numbers import (
    FIXED,
    LEFT,
    QUANTITIES,
    SHARES,
    at_fixed_time,
    by_alpha,
    growth,
    late,
    leaving,
)
from regimes.lab import figures
from regimes.lab.numbers import each, geometric_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


LOOKS: dict[str, dict[str, Any]] = {
    LOGISTIC: {"linestyle": "-", "markersize": 2.5},
    SQUARE: {"linestyle": ":", "marker": "none"},
}


def figure(rows: "DataFrame") -> "Figure":
    """Distances against α at a fixed time, against log t at the largest α, and the time of leaving against α."""
    made, (fixed, growing, left) = figures.figure(1, 3, width=figures.DOUBLE, height=4.0)
    largest = rows.alpha.max()
    with figures.style():
        for number, (column, (_, words)) in enumerate(QUANTITIES.items()):
            some = rows[(rows.loss == LOGISTIC) & np.isclose(rows.log_time, FIXED)]
            means = each(some, "alpha", lambda at, column=column: geometric_mean(at[column]))
            if means:
                label = figures.with_exponent(words, at_fixed_time(rows, column))
                figures.curve(fixed, means, number=number, label=label)
            for loss, look in LOOKS.items():
                some = rows[(rows.loss == loss) & (rows.alpha == largest)]
                if loss == SQUARE and column == "train":
                    continue  # both models come to the labels: what is left is rounding
                means = each(some, "log_time", lambda at, column=column: geometric_mean(at[column]))
                if means:
                    label = figures.with_exponent(words, growth(rows, loss, column)) if loss == LOGISTIC else None
                    figures.curve(growing, means, number=number, label=label, **look)
        for number, (column, (_, words)) in enumerate(SHARES.items()):
            means = by_alpha(rows, column)
            if means:
                label = figures.with_exponent(words, leaving(rows, column))
                figures.curve(left, means, number=3 * number, label=label)
        span = late(rows, LOGISTIC).log_time
        if len(span):
            growing.axvspan(span.min(), span.max(), color="#f2f2f2", zorder=0)
        fixed.set(title=f"at log t = {FIXED:g}: powers of α", xlabel="scale α", ylabel="distance")
        growing.set(title=f"at α = {largest:g}: powers of log t", xlabel="log t", ylabel="distance")
        left.set(title=f"T until {100 * LEFT:g} %: powers of α", xlabel="scale α", ylabel="log T")
        for ax in (fixed, growing, left):
            ax.set(xscale="log", yscale="log")
            if ax.get_legend_handles_labels()[0]:
                ax.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.2), fontsize=7)
        seeds = rows.seed.nunique()
        shown = f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}."
        figures.explain(made, f"{shown} Dotted, same colours: square loss. Grey: where growth is fitted.")
    return made
