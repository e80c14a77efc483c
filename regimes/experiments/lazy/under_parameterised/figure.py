"""Figure of the under-parameterised statement."""

from typing import TYPE_CHECKING

import numpy as np

from regimes.experiments.lazy.under_parameterised.fits import fits
from regimes.lab import figures
from regimes.lab.numbers import each, geometric_mean, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

SHOWN = 3  # scales whose approach to the limit is drawn: the smallest, the middle and the largest
STYLES = ("-", "--", ":")


def draw(rows: "DataFrame") -> "Figure":
    """Distance to the limit against time, and what separates the net from its tangent model against α."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=2.9)
    runs = fits(rows)
    with figures.style():
        scales = sorted(set(rows.alpha))
        for number, alpha in enumerate(scales[:: max(1, (len(scales) - 1) // (SHOWN - 1))]):
            means = each(rows[rows.alpha == alpha], "time", lambda at: geometric_mean(at.distance))
            look = {"linestyle": STYLES[number % len(STYLES)], "marker": "", "linewidth": 2.4 - 0.6 * number}
            figures.curve(left, means, number=number, label=f"α = {alpha:.0f}", **look)
        time = np.linspace(0, rows.time.max(), 2)
        left.plot(time, np.exp(-time), color=figures.GREY, linewidth=0.8, label="exp(−λt)")
        left.set(
            yscale="log", xlabel="time t × smallest eigenvalue λ", ylabel=r"$\|f - f_\infty\|\,/\,\|f_0 - f_\infty\|$"
        )
        left.legend()
        distances = {r"$\|f_\infty - \bar f_\infty\|$": runs.tangent_distance, "|μ/λ − 1|": (runs.curvature - 1).abs()}
        for number, (name, values) in enumerate(distances.items()):
            means = each(runs.assign(shown=values), "alpha", lambda at: geometric_mean(at.shown))
            label = figures.with_exponent(name, slope(runs.alpha, values, runs.seed))
            figures.curve(right, means, number=number, label=label)
        right.set(xscale="log", yscale="log", xlabel="scale α", ylabel="distance from the tangent model")
        right.legend(title="exponent of α")
        seeds = rows.seed.nunique()
        figures.explain(
            made,
            f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}. Smallest eigenvalue: λ of the "
            "tangent model, μ of the Hessian at the limit.",
        )
    return made
