"""The figure of the four nets: a line of panels for each data set."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from regimes.experiments.control.benning_networks import numbers
from regimes.experiments.control.benning_networks.config import NET, ODENET, RESIDUAL, RESNET, SIMPLEX
from regimes.experiments.control.plane_maps import decision_map, transformed
from regimes.lab import figures
from regimes.lab.intervals import POSITIVE, SHARE
from regimes.lab.numbers import each, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

NETS = (NET, *RESIDUAL)
SHOWN = (NET, ODENET)  # of the maps


def draw(rows: "DataFrame") -> "Figure":
    """By data set: loss and accuracy against iteration, learned steps, maps of a net and where it moves the samples."""
    datasets = list(dict.fromkeys(rows.dataset))
    made, axes = figures.figure(
        len(datasets), 6, width=2 * figures.DOUBLE, height=0.6 + 2.3 * len(datasets), squeeze=False
    )
    with figures.style():
        for line, dataset in zip(axes, datasets, strict=True):
            some: Any = rows[rows.dataset == dataset]
            for number, net in enumerate(NETS):
                _course(line[0], some[some.net == net], "loss", number, net)
                _course(line[1], some[some.net == net], "fresh_accuracy", number, net)
            _steps(line[2], rows, dataset)
            _maps(line[3:], some)
            line[0].set(xscale="symlog", yscale="log", ylabel=f"{dataset}\nloss")
            line[1].set(xscale="symlog", ylabel="accuracy, fresh samples")
        for ax in axes[-1, :2]:
            ax.set_xlabel("iteration")
        axes[-1, 2].set_xlabel("layer")
        made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        seeds = rows.seed.nunique()
        words = f"Left: means of {seeds} seeds; {figures.intervals('bands', seeds)}. Steps of every seed: lines free, "
        words += (
            "dots on the simplex; dotted: the start. Right, of one seed: the output over the plane, and the samples "
        )
        figures.explain(made, words + "where the layers move them, with the line that parts the classes.")
    return made


def _course(ax: "Axes", some: Any, column: str, number: int, label: str) -> None:
    if len(some):
        within = SHARE if column == "fresh_accuracy" else POSITIVE
        found = each(some, "iteration", lambda at: mean(at[column], within=within))
        figures.curve(ax, found, number=number, label=label, marker="")


def _steps(ax: "Axes", rows: Any, dataset: str) -> None:
    for net in (RESNET, ODENET, SIMPLEX):
        found = numbers.steps(rows, dataset, net)
        color, layers = figures.PALETTE[NETS.index(net)], np.arange(1, found.shape[1] + 1)
        if net == RESNET:
            ax.plot(layers, found[:1].T, ":", color=figures.GREY)
            continue
        if net == ODENET:
            ax.plot(layers, found.T, color=color, linewidth=0.6, alpha=0.6)
        else:
            ax.plot(layers, found.T, ".", color=color, markersize=3.5, markeredgewidth=0)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set(ylabel="steps")


def _net(one: Any) -> torch.Tensor:
    return torch.tensor(json.loads(one.net_at_end.iloc[0]), dtype=torch.float64)


def _maps(panels: Any, some: Any) -> None:
    """The output over the plane of two nets, and the samples of the second where its layers move them."""
    kept = some[some["last"].astype(bool) & (some.seed == some.seed.min())]
    for ax, net in zip(panels, SHOWN, strict=False):
        one = kept[kept.net == net]
        ax.set_axis_off()
        if len(one):
            ax.set_axis_on()
            decision_map(ax, _net(one), one.iloc[0], skips=net != NET)
            ax.set_title(f"{net}: {one.fresh_accuracy.iloc[0]:.0%} right")
    one = kept[kept.net == SHOWN[-1]]
    panels[-1].set_axis_off()
    if len(one):
        panels[-1].set_axis_on()
        transformed(panels[-1], _net(one), one.iloc[0], skips=True)
        panels[-1].set_title(f"{SHOWN[-1]}: moved samples")
