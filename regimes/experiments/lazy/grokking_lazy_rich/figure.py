"""The figure of grokking_lazy_rich."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.grokking_lazy_rich.numbers import LAZY_FROM, at_each, passed
from regimes.lab import figures
from regimes.lab.numbers import slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """The times of both losses, the delays, and the test loss at one training loss, against α."""
    made, (times, delays, ends) = figures.figure(1, 3, width=figures.DOUBLE, height=3.2)
    below: Any = rows[rows.alpha < LAZY_FROM]
    with figures.style():
        for number, (column, words) in enumerate({"t_train": "training", "t_test": "test"}.items()):
            some = rows if column == "t_train" else _passing(below)
            figures.curve(times, at_each(some, column), number=number, label=f"{words} loss")
        times.set(ylabel="flow time to the loss 0.2", yscale="log")
        for number, (suffix, level) in enumerate({"": "0.2", "_other": "0.5"}.items()):
            label = figures.with_exponent(level, slope(below.alpha, passed(below, suffix), below.seed))
            figures.curve(delays, at_each(_passing(below, suffix), f"delay{suffix}"), number=number, label=label)
        delays.set(ylabel="delay, ratio of the times")
        figures.logarithmic(delays, [1.0, *below.delay, *below.delay_other])
        figures.curve(ends, at_each(rows, "test_end"), label="net")
        figures.curve(ends, at_each(rows, "tangent_end"), number=1, label="tangent model", linestyle="--")
        ends.axhline(float(rows.least.iloc[0]), color=figures.GREY, linestyle=":", label="bound for kernels")
        ends.set(ylabel="test loss at the end", yscale="log")
        for ax, title in ((times, None), (delays, "level: mean slope"), (ends, None)):
            ax.set(xscale="log", xlabel="scale α")
            ax.legend(title=title, loc="upper left", bbox_to_anchor=(-0.05, -0.25))
        seeds = rows.seed.nunique()
        text = f"Losses over those of f = 0. Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}."
        figures.explain(made, text)
    return made


def _passing(rows: Any, suffix: str = "") -> Any:
    """Those of the α at which the test loss of every run passes the level."""
    return rows[rows.groupby("alpha")[f"met{suffix}"].transform("min") > 0]
