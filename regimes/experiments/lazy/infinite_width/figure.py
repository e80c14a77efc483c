"""Figure of the infinite-width statement."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.infinite_width.bias import biases
from regimes.experiments.lazy.infinite_width.config import ACTIVATIONS
from regimes.experiments.lazy.infinite_width.runs import KERNELS
from regimes.lab import figures
from regimes.lab.intervals import POSITIVE
from regimes.lab.numbers import each, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """Scatter of two-layer nets and bias of deep ones against the width, on double logarithmic axes."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.2)
    two_layer: Any = rows[rows.network == "two_layer"]
    with figures.style():
        for color, name in zip(figures.PALETTE, ACTIVATIONS, strict=False):
            for marker, line, kernel in zip(figures.MARKERS, ("-", ":"), KERNELS, strict=False):
                label = f"{kernel.upper()}, {'ReLU' if name == 'relu' else name}"
                look = {"color": color, "marker": marker, "linestyle": line, "label": label, "bars": True}
                some = two_layer[two_layer.activation == name]
                scatter = each(some, "width", lambda at, kernel=kernel: mean(at[f"{kernel}_scatter"], within=POSITIVE))
                figures.curve(left, scatter, **look)
                figures.curve(right, biases(rows, name, kernel), **look)
        for axis, slope, kind, network in ((left, -0.5, "−1/2", "two_layer"), (right, -1.0, "−1", "deep")):
            axis.set(xscale="log", yscale="log", xlabel="width m")
            widths = np.sort(rows[rows.network == network].width.unique())
            if len(widths):
                _slope(axis, widths, slope, f"slope {kind}")
        left.set(ylabel=r"$\|\Theta - \Theta_\infty\|\,/\,\|\Theta_\infty\|$ of one net", title="Two layers: scatter")
        bias = r"$(\mathrm{E}\,\Theta - \Theta_\infty)\cdot v\,/\,\|\Theta_\infty\|$"
        right.set(ylabel=bias, title="Deep: bias of the mean")
        made.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
        bars = figures.intervals("bars", rows.seed.nunique(), "95 % intervals of the mean")
        counts = {kind: some.seed.nunique() for kind, some in rows.groupby("network")}
        text = (
            f"Means over {counts.get('two_layer', 0)} nets a width (left) and {counts.get('deep', 0)} blocks (right); "
        )
        text += f"{bars}."
        figures.explain(made, f"{text} v: a fixed direction, in which the bias is seen best.")
    return made


def _slope(axis: Any, widths: np.ndarray, slope: float, label: str) -> None:
    """The predicted power above the curves, with its label, and a tick at each width."""
    top = max(float(line.get_ydata()[0]) for line in axis.get_lines() if len(line.get_ydata()) == len(widths))
    figures.reference_slope(axis, widths, 1.4 * top, slope, "")
    middle = widths[len(widths) // 2]
    axis.text(middle, 1.5 * top * (middle / widths[0]) ** slope, label, ha="left", va="bottom", fontsize=8)
    axis.set_xticks(widths, [str(width) for width in widths])
    axis.xaxis.minorticks_off()
