"""Means by α, and the figure of grokking_lazy_rich."""

from typing import TYPE_CHECKING, Any

from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LAZY_FROM = 1000.0  # scales of the lazy control


def at_each(rows: Any, column: str) -> dict[float, Number]:
    """Geometric means over the seeds by α."""
    return each(rows, "alpha", lambda at: geometric_mean(at[column]))


def draw(rows: "DataFrame") -> "Figure":
    """The times of both losses, the delays, and the test loss at one training loss, against α."""
    made, (times, delays, ends) = figures.figure(1, 3, width=figures.DOUBLE, height=3.2)
    below: Any = rows[rows.alpha < LAZY_FROM]
    passing: Any = below[below.groupby("alpha").met.transform("min") > 0]
    with figures.style():
        for number, (column, words) in enumerate({"t_train": "training", "t_test": "test"}.items()):
            some = rows if column == "t_train" else passing
            figures.curve(times, at_each(some, column), number=number, label=f"{words} loss")
        times.set(ylabel="flow time to the loss 0.2", yscale="log")
        for number, (suffix, level) in enumerate({"": "0.2", "_other": "0.5"}.items()):
            exponent = slope(below.alpha, below[f"delay{suffix}"], below.seed)
            label = figures.with_exponent(level, exponent)
            figures.curve(delays, at_each(below, f"delay{suffix}"), number=number, label=label)
        delays.set(ylabel="delay, ratio of the times")
        figures.logarithmic(delays, [1.0, *below.delay, *below.delay_other])
        figures.curve(ends, at_each(rows, "test_end"), label="net")
        figures.curve(ends, at_each(rows, "tangent_end"), number=1, label="tangent model", linestyle="--")
        ends.axhline(float(rows.least.iloc[0]), color=figures.GREY, linestyle=":", label="bound for kernels")
        ends.set(ylabel="test loss at the end", yscale="log")
        for ax, title in ((times, None), (delays, "level: exponent of α"), (ends, None)):
            ax.set(xscale="log", xlabel="scale α")
            ax.legend(title=title, loc="upper left", bbox_to_anchor=(-0.05, -0.25))
        seeds = rows.seed.nunique()
        text = f"Losses over those of f = 0. Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}."
        figures.explain(made, text)
    return made
