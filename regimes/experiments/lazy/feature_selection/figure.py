"""The errors by d/k, and the figure of feature_selection."""

from typing import TYPE_CHECKING

from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

ARMS = {"kernel": ("NTK", "-"), "lazy": ("lazy net", "--"), "net": ("mean-field net", "-")}


def errors(rows: "DataFrame", arm: str) -> dict[float, Number]:
    """The test error by d/k: geometric means over the seeds."""
    return each(rows, "d_over_k", lambda at: geometric_mean(at[arm]))


def draw(rows: "DataFrame") -> "Figure":
    """The errors against d/k beside the bound, and the ratios of kernel and lazy net to the net."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.0)
    with figures.style():
        for number, (arm, (words, line)) in enumerate(ARMS.items()):
            figures.curve(left, errors(rows, arm), number=number, label=words, linestyle=line)
        left.axhline(float(rows.least.iloc[0]), color=figures.GREY, linestyle=":", label="bound 1 − n/N for kernels")
        left.set(xscale="log", ylim=(0, None), xlabel="d/k", ylabel="unexplained share of the test energy")
        for number, arm in enumerate(("kernel", "lazy")):
            ratio = each(rows, "d_over_k", lambda at, arm=arm: geometric_mean(at[arm] / at.net))
            exponent = slope(rows.d_over_k, rows[arm] / rows.net, rows.seed)
            label = figures.with_exponent(f"{ARMS[arm][0]} over net", exponent)
            figures.curve(right, ratio, number=number, label=label, linestyle=ARMS[arm][1])
        right.set(xscale="log", yscale="log", xlabel="d/k", ylabel="ratio of test errors")
        left.legend(loc="lower left")
        right.legend(title="ratio: exponent of d/k", loc="upper left")
        places = sorted(rows.d_over_k.unique())
        for ax in (left, right):
            ax.set_xticks(places, [f"{place:g}" for place in places], minor=False)
            ax.minorticks_off()
        figures.ticks_at(right.yaxis, [0.8, 1, 1.5, 2, 2.5, 3])
        seeds = rows.seed.nunique()
        figures.explain(made, f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}.")
    return made
