"""Figure of the unbalanced-layers statement: drift, flips and motions against the imbalance of the layers."""

from typing import TYPE_CHECKING, Any

import torch

from regimes.experiments.lazy.scaled_nets import one_sample_course
from regimes.experiments.lazy.unbalanced_layers.config import LINEAR, RELU_NET
from regimes.experiments.lazy.unbalanced_layers.numbers import drifts, ended
from regimes.lab import figures
from regimes.lab.numbers import each, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LOOKS = {RELU_NET: {"number": 1, "label": "ReLU"}, LINEAR: {"number": 0, "label": "linear"}}


def draw(rows: "DataFrame") -> "Figure":
    """Above: drift of the kernel, linear and ReLU; below, for ReLU: activations flipped and motion of each layer."""
    made, (above, below) = figures.figure(2, 1, height=5.2, sharex=True)
    with figures.style():
        for activation, look in LOOKS.items():
            found = drifts(rows, activation)
            if found:
                figures.curve(above, found, **look)
        places = torch.logspace(rows.imbalance.min(), rows.imbalance.max(), 200).double()
        exact = torch.cosh(2 * one_sample_course(1, torch.ones_like(places), places)) - 1
        label = "linear, one sample, κm = 1"
        above.plot(places, exact, "--", color=figures.GREY, linewidth=1.0, label=label)
        above.set(xscale="log", yscale="log", ylabel=r"$\|\Theta_T - \Theta_0\| \,/\, \|\Theta_0\|$")
        above.legend(loc="lower center")
        _parts(below, rows[rows.activation == RELU_NET])
        below.set(xscale="log", xlabel="β₁/β₂, output over input weights", ylabel="share or relative change, ReLU")
        seeds = rows.seed.nunique()
        figures.explain(
            made,
            f"Left: downstream, the output weights learn; right: upstream, the input weights. Geometric means of "
            f"{seeds} seeds above, means below; {figures.intervals('bands', seeds)}.",
        )
    return made


def _parts(ax: Any, rows: Any) -> None:
    names = {"flips": "activations flipped", "input_motion": "‖Δw‖/‖w‖", "output_motion": "‖Δa‖/‖a‖"}
    for number, (column, label) in enumerate(names.items(), start=2):
        found = each(rows, "imbalance", lambda some, column=column: mean(ended(some, column)))
        if found:
            figures.curve(ax, {10.0**power: one for power, one in found.items()}, number=number, label=label)
    if len(rows):
        ax.legend(loc="upper right")
