"""What the figures of nets of the plane share: a column for each data set, courses above, pictures of one net below."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from regimes.experiments.control.plane_maps import POINTS, decision_map, transformed
from regimes.lab import figures
from regimes.lab.intervals import SHARE
from regimes.lab.numbers import each, geometric_mean, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COURSE, PICTURE = 1.2, 1.55  # inches: heights of the panels
ITERATIONS = (0, 10, 1000)  # ticks
PICTURES = (
    f"Below, seed {{seed}}: blue is label 0, red label 1, white the output ½ (black line); moved: {POINTS} fresh "
    "samples after the last layer, in grey the line W x + μ = 0 that parts the classes."
)


def frame(datasets: Sequence[str], heights: Sequence[float]) -> tuple["Figure", Any]:
    """A figure with a column for each data set and rows of these heights in inches."""
    width = max(figures.COLUMN, figures.DOUBLE * min(1.0, len(datasets) / 4))
    made, axes = figures.figure(
        len(heights),
        max(1, len(datasets)),
        width=width,
        height=sum(heights) + 1.2,
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    with figures.style():
        for ax, dataset in zip(axes[0], datasets, strict=False):
            ax.set_title(dataset)
    for ax in axes.flat:
        ax.tick_params(labelsize=7)
    return made, axes


def courses(axes: Sequence["Axes"], rows: Any, column: str, names: Sequence[str]) -> None:
    """Loss (geometric means over seeds) and accuracy on fresh samples (means) against iteration, by the column."""
    losses, accuracies = axes
    for number, name in enumerate(names):
        own = rows[rows[column] == name]
        if len(own):
            found = each(own, "iteration", lambda at: geometric_mean(at.loss))
            figures.curve(losses, found, number=number, label=name, marker="")
            right = each(own, "iteration", lambda at: mean(at.fresh_accuracy, within=SHARE))
            figures.curve(accuracies, right, number=number, marker="", unit=100.0)
    for ax in axes:
        ax.set_xscale("symlog")
        figures.ticks_at(ax.xaxis, ITERATIONS)
    losses.set_yscale("log")
    losses.tick_params(labelbottom=False)
    accuracies.set_xlabel("iteration", fontsize=8)


def pictures(axes: Sequence["Axes"], one: Any, how: Mapping[str, Any], kinds: Sequence[str]) -> None:
    """Of the net in this row (empty: none) the pictures asked for: "map", the output over the plane, and "moved"."""
    for ax, kind in zip(axes, kinds, strict=True):
        if not len(one):
            ax.set_axis_off()
            continue
        net, row = torch.tensor(json.loads(one.net_at_end.iloc[0]), dtype=torch.float64), one.iloc[0]
        if kind == "map":
            decision_map(ax, net, row, **how)
            ax.set_xlabel("$x_1$", fontsize=8, labelpad=0)
            ax.set_title(f"{row.fresh_accuracy:.1%} right".replace("%", " %"), fontsize=8, pad=3)
        else:
            transformed(ax, net, row, **how)
            ax.set_xlabel("$z_1$", fontsize=8, labelpad=0)


def name_lines(axes: Any, names: Sequence[str]) -> None:
    """What each line of panels shows, at its first panel that is drawn."""
    for line, name in zip(axes, names, strict=True):
        drawn = [ax for ax in line if ax.axison]
        if drawn:
            drawn[0].set_ylabel(name, fontsize=8)


def kept(rows: Any) -> Any:
    """The rows after the training of the first seed."""
    return rows[rows["last"].astype(bool) & (rows.seed == rows.seed.min())]
