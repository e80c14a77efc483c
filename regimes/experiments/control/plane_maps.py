"""Pictures of a net of the plane: its output over the plane, and where its layers move samples."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from regimes.control.tableau import EULER, Tableau
from regimes.conventions import generator
from regimes.data.plane import PLANE
from regimes.experiments.control.plane_nets import Net, Passed, PlaneNets, unpack
from regimes.lab import figures
from regimes.streams import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REACH, CELLS, POINTS = 1.3, 120, 250
COLORS = ("#2166AC", "#B2182B")  # of the labels 0 and 1


def passed(theta: Tensor, x: Tensor, tableau: Tableau, *, skips: bool) -> tuple[Net, Passed]:
    """The net of one row of parameters, and its forward pass at points (n, 2)."""
    net = unpack(theta[None])
    one = torch.zeros(1, dtype=torch.int64)
    nets = PlaneNets(tableau, x.T[None], torch.zeros(1, len(x)).double(), torch.tensor([skips]), one.bool(), 1.0)
    return net, nets.forward(net, one)


def _samples(row: Any) -> tuple[Tensor, Tensor]:
    return PLANE[row["dataset"]](POINTS, generator=generator(int(row["seed"]), Plane.FRESH))


def _dots(ax: "Axes", x: Tensor, labels: Tensor) -> None:
    for label, color in enumerate(COLORS):
        ax.plot(*x[labels == label].T.numpy(), ".", color=color, markersize=2.5, markeredgewidth=0)


def decision_map(ax: "Axes", theta: Tensor, row: Any, *, skips: bool, tableau: Tableau = EULER) -> None:
    """The output over [−1.3, 1.3]², with the border ½, and fresh samples of the row's data set and seed."""
    line = np.linspace(-REACH, REACH, CELLS)
    places = torch.from_numpy(np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2))
    _, found = passed(theta, places, tableau, skips=skips)
    output = found.outputs[0].view(CELLS, CELLS).T.numpy()
    ax.pcolormesh(line, line, output, cmap="RdBu_r", vmin=-0.3, vmax=1.3, shading="nearest", rasterized=True)
    if output.min() < 0.5 < output.max():
        ax.contour(line, line, output, [0.5], colors="black", linewidths=0.8)
    _dots(ax, *_samples(row))
    ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    ax.grid(visible=False)


def transformed(ax: "Axes", theta: Tensor, row: Any, *, skips: bool, tableau: Tableau = EULER) -> None:
    """Fresh samples after the last layer, and the line W x + μ = 0."""
    x, labels = _samples(row)
    net, found = passed(theta, x, tableau, skips=skips)
    moved = found.states[-1][0].T
    _dots(ax, moved, labels)
    low, high = (np.array(ax.get_xlim()), np.array(ax.get_ylim()))
    normal, offset = net.weights[0].numpy(), float(net.bias[0])
    if (length := float(np.linalg.norm(normal))) > 0:
        foot = -offset * normal / length**2
        along = np.array([-normal[1], normal[0]]) / length
        ends = np.stack([foot - 1e3 * along, foot + 1e3 * along])
        ax.plot(*ends.T, color=figures.GREY, linewidth=1)
    ax.set(xlim=tuple(low), ylim=tuple(high))
