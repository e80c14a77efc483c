"""The figure of the Runge-Kutta study: a line of panels for each data set."""

import json
from typing import TYPE_CHECKING, Any

import torch

from regimes.experiments.control.benning_runge_kutta.config import METHODS
from regimes.experiments.control.plane_maps import decision_map, transformed
from regimes.lab import figures
from regimes.lab.intervals import SHARE
from regimes.lab.numbers import each, geometric_mean, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """By data set: loss and accuracy against iteration, maps of the first and the last method, moved samples."""
    datasets = list(dict.fromkeys(rows.dataset))
    first, *_, last = METHODS
    height = 0.6 + 2.3 * len(datasets)
    made, axes = figures.figure(len(datasets), 6, width=2 * figures.DOUBLE, height=height, squeeze=False)
    with figures.style():
        for line, dataset in zip(axes, datasets, strict=True):
            some: Any = rows[rows.dataset == dataset]
            for number, method in enumerate(METHODS):
                own = some[some.method == method]
                if len(own):
                    losses = each(own, "iteration", lambda at: geometric_mean(at.loss))
                    figures.curve(line[0], losses, number=number, label=method, marker="")
                    right = each(own, "iteration", lambda at: mean(at.fresh_accuracy, within=SHARE))
                    figures.curve(line[1], right, number=number, label=method, marker="")
            line[0].set(xscale="symlog", yscale="log", ylabel=f"{dataset}\nloss per sample")
            line[1].set(xscale="symlog", ylabel="accuracy, fresh samples")
            kept = some[some["last"].astype(bool) & (some.seed == some.seed.min())]
            for panels, method in ((line[2:4], first), (line[4:], last)):
                own = kept[kept.method == method]
                if not len(own):
                    for ax in panels:
                        ax.set_axis_off()
                    continue
                net = torch.tensor(json.loads(own.net_at_end.iloc[0]), dtype=torch.float64)
                how = {"skips": True, "tableau": METHODS[method]}
                decision_map(panels[0], net, own.iloc[0], **how)
                transformed(panels[1], net, own.iloc[0], **how)
                panels[0].set_title(f"{method}: {own.fresh_accuracy.iloc[0]:.1%} right")
                panels[1].set_title(f"{method}: moved samples")
        for ax in axes[-1, :2]:
            ax.set_xlabel("iteration")
        made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        seeds = rows.seed.nunique()
        words = (
            f"Left: means of {seeds} seeds, of losses geometric; {figures.intervals('bands', seeds)}. Right, of one "
        )
        words += (
            "seed: the output over the plane, and the samples where the layers move them, with the line that parts "
        )
        figures.explain(made, words + "the classes.")
    return made
