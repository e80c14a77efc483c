"""The figure of the four nets: a column of panels for each data set."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.control.benning_networks import numbers
from regimes.experiments.control.benning_networks.config import NET, ODENET, RESIDUAL, RESNET, SIMPLEX
from regimes.experiments.control.plane_figure import (
    COURSE,
    PICTURE,
    PICTURES,
    courses,
    frame,
    kept,
    name_lines,
    pictures,
)
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

NETS = (NET, *RESIDUAL)
LINES = ("loss", "accuracy, %", "steps $h_k$", f"{NET}\n$x_2$", f"{ODENET}\n$x_2$", f"{ODENET}, moved\n$z_2$")


def draw(rows: "DataFrame") -> "Figure":
    """By data set: loss and accuracy against iteration, learned steps, maps of two nets, where one moves samples."""
    datasets = list(dict.fromkeys(rows.dataset))
    made, axes = frame(datasets, [COURSE, COURSE, COURSE, PICTURE, PICTURE, PICTURE])
    with figures.style():
        for column, dataset in enumerate(datasets):
            some: Any = rows[rows.dataset == dataset]
            courses(axes[:2, column], some, "net", NETS)
            _steps(axes[2, column], rows, dataset)
            first = kept(some)
            pictures(axes[3:4, column], first[first.net == NET], {"skips": False}, ["map"])
            pictures(axes[4:, column], first[first.net == ODENET], {"skips": True}, ["map", "moved"])
        name_lines(axes, LINES)
        figures.legend(made, *axes[0], ncols=min(4, 2 * axes.shape[1]))
        seeds = rows.seed.nunique()
        words = (
            f"Loss: geometric, accuracy on fresh samples: arithmetic means of {seeds} seeds; "
            f"{figures.intervals('bands', seeds)}. Steps after the training, of every seed: lines {ODENET}, dots "
            f"{SIMPLEX}, dotted the start, which {RESNET} keeps. "
        )
        figures.explain(made, words + PICTURES.format(seed=rows.seed.min() if len(rows) else "none"))
    return made


def _steps(ax: "Axes", rows: Any, dataset: str) -> None:
    for net in (ODENET, RESNET, SIMPLEX):
        found = numbers.steps(rows, dataset, net)
        color, layers = figures.PALETTE[NETS.index(net)], np.arange(1, found.shape[1] + 1)
        if net == RESNET:
            ax.plot(layers, found[:1].T, ":", color="black", linewidth=1, zorder=2.5)
        elif net == ODENET:
            ax.plot(layers, found.T, color=color, linewidth=0.5, alpha=0.35)
        else:
            ax.plot(layers, found.T, "o", color=color, markersize=2.6, markeredgecolor="white", mew=0.2, zorder=3)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_xlabel("layer k", fontsize=8)
