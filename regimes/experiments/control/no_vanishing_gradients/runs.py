"""How much of a gradient comes back through the layers: norms of M_j = ∂z_N/∂z_j at several weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regimes.experiments.control.halves import descended, fitted, omega, score, spirals
from regimes.experiments.control.no_vanishing_gradients.config import HAMILTONIAN, INITIAL, TRAINED, Config
from regimes.experiments.control.no_vanishing_gradients.nets import initial, products, through, unit


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a network.

    norm: the smallest ‖M_j‖ over layers and samples; sent: root mean square over samples of ‖M_0‖_F/√width, the share
    of a gradient of random direction at the end that comes to the input; sent_least: the smallest such share of any
    layer and sample; grown: the largest ‖M_j‖; own: the smallest ratio over samples of the norms of the loss's own
    gradient at the input and at the end; area: the largest ‖M_jᵀΩM_j − Ω‖/‖M_j‖², of Hamiltonian nets.
    """
    first, seeds = points[0], [point["seed"] for point in points]
    net, width = first["net"], 2 * config.half
    x, y = spirals(seeds, config.samples, width)
    found = _weights(config, net, first["weights"], initial(net, seeds, first["depth"], config.half), x, y)
    with torch.no_grad():
        end = through(net, found, x, unit(x)[..., :1], config.size)[0]
        accuracy = ((score(end) > 0) == (y > 0.5)).double().mean(1)
        matrices = products(net, found, x, config.size)  # layers, runs, n, width, width
        norms = torch.linalg.matrix_norm(matrices, 2)
        shares = torch.linalg.matrix_norm(matrices) / width**0.5
        own = matrices[0].sum(-2).norm(dim=-1) / width**0.5  # the score is a mean: its gradient at the end is constant
        turn = omega(width)
        area = torch.linalg.matrix_norm(matrices.mT @ turn @ matrices - turn) / norms.square()
    rows = []
    for run in range(len(points)):
        row = {
            "norm": float(norms[:, run].min()),
            "grown": float(norms[:, run].max()),
            "sent": float(shares[0, run].square().mean().sqrt()),
            "sent_least": float(shares[:, run].min()),
            "own": float(own[run].min()),
            "area": float(area[:, run].max()) if net == HAMILTONIAN else float("nan"),
            "accuracy": float(accuracy[run]),
        }
        rows.append(row)
    return rows


def _weights(config: Config, net: str, kind: str, start: Sequence[Tensor], x: Tensor, y: Tensor) -> Sequence[Tensor]:
    if kind == INITIAL:
        return start
    if kind == TRAINED:

        def forward(weights: Sequence[Tensor], x: Tensor) -> Tensor:
            return through(net, weights, x, unit(x)[..., :1], config.size)[0]

        return fitted(forward, start, x, y, config.iterations, config.rate)[0]
    return shrunk(net, start, x, config.size, config.iterations, config.rate)


def shrunk(net: str, start: Sequence[Tensor], x: Tensor, h: float, iterations: int, rate: float) -> list[Tensor]:
    """Weights after so many steps of Adam on the mean over samples of log ‖M_0‖_F²: the worst that a search finds."""

    def size(own: Sequence[Tensor]) -> Tensor:
        matrices = through(net, own, x, unit(x), h)[1]
        # A norm of 0 would have no logarithm; below this nothing is left to shrink.
        return (matrices.square().sum((-1, -2)) + TINY).log().mean(1).sum()

    return descended(size, start, iterations, rate)


TINY = 1e-200
