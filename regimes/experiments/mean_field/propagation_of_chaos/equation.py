"""The limit m → ∞ on the circle as an equation for the density, without particles."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from regimes.experiments.mean_field.propagation_of_chaos.torus import Problem
from regimes.meanfield.continuity_equation import centres, continuity_flow, right_edges

CIRCLE = 2 * math.pi
_LONGEST = 2.0  # of time steps, in widths of a cell: far below the bound 2 for rates of 1, and finer with the cells


def solve(net: Problem, times: list[float], cells: int) -> Float[Tensor, "times cells"]:
    """The density at each time, from the uniform one: ∂ρ/∂t = ∂/∂θ (ρ ∂F'[ρ]/∂θ)."""
    edges = net.waves(right_edges(cells, CIRCLE)[:, None])

    def velocity(density: Tensor) -> Tensor:
        return net.velocity(edges, means(net, density)[0])[None, :, 0]

    start = torch.full((1, cells), 1 / CIRCLE, dtype=torch.float64)
    course = continuity_flow(velocity, start, times, length=CIRCLE, longest=_LONGEST * CIRCLE / cells)
    return torch.cat([moment.density for moment in course])


def means(net: Problem, density: Float[Tensor, "sets cells"]) -> Complex[Tensor, "sets n"]:
    """The means of the waves over cell averages: that of e^{ixθ} over a cell is sinc(xh/2) times its middle value."""
    cells = density.shape[1]
    h = CIRCLE / cells
    waves = net.waves(centres(cells, CIRCLE)[:, None])
    return h * (density.to(waves.dtype) @ waves) * torch.sinc(net.inputs[:, 0] * h / CIRCLE)
