"""The one-sided Lipschitz constant of gradient fields in the plane, by all states of a grid and all corners of cells.

ν = max over the disc of −λ_min(AᵀD(z)A), D the slopes σ' at Az + b. A grid of the disc comes near to it for a smooth σ.
For relu D is constant on the cells between the lines a_j·z + b_j = 0: every cell with a corner in the disc is met by
trying all values of the two slopes that jump there, and the grid meets the large cells that have no corner in it.
"""

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import RELU
from regimes.experiments.control.gradient_nets import Fields

ZOOMS = 4  # each by a factor of 10 beyond the grid


def in_the_disc(fields: Fields, radius: Float[Tensor, " nets"], grid: int) -> Float[Tensor, " nets"]:
    """ν of each field (nets) over the disc of its radius around 0."""
    axis = torch.linspace(-1, 1, grid, dtype=torch.float64)
    square = torch.cartesian_prod(axis, axis)
    disc = square[square.norm(dim=1) <= 1]
    rim = 2 * torch.pi * torch.arange(4 * grid, dtype=torch.float64) / (4 * grid)
    disc = torch.cat([disc, torch.stack([rim.cos(), rim.sin()], 1)])
    best = []
    for number, size in enumerate(radius):
        one = Fields(fields.unit, fields.weight[number], fields.bias[number], fields.plain[number])
        found = _zoomed(one, size, size * disc, square * size * 4 / grid)
        best.append(torch.maximum(found, _at_corners(one, size)) if one.unit is RELU else found)
    return torch.stack(best)


def _zoomed(one: Fields, radius: Tensor, places: Tensor, square: Tensor) -> Tensor:
    """The largest rate at the places, then on ever smaller squares around the best one, pushed back into the disc."""
    best = torch.tensor(-torch.inf, dtype=torch.float64)
    for zoom in range(ZOOMS):
        rates = _rates(one, one.unit.derivative(one.inner(places)))
        best = torch.maximum(best, rates.max())
        places = places[rates.argmax()] + square * 0.1**zoom
        distance = places.norm(dim=1, keepdim=True)
        places = places * (radius / torch.maximum(distance, radius))
    return best


def _rates(one: Fields, slopes: Float[Tensor, "n hidden"]) -> Float[Tensor, " n"]:
    """−λ_min(AᵀDA) in the plane, from the three entries of the matrix."""
    first, second = one.weight.T
    p, q, s = slopes @ first.square(), slopes @ (first * second), slopes @ second.square()
    return -((p + s) / 2 - (((p - s) / 2).square() + q.square()).sqrt())


def _at_corners(one: Fields, radius: Tensor) -> Tensor:
    """The largest of the cells that have a corner in the disc; −inf if there is none."""
    both = torch.tensor(list(combinations(range(len(one.bias)), 2)))
    corners = torch.linalg.solve(one.weight[both], -one.bias[both])  # lines in general position
    inside = corners.norm(dim=1) <= radius
    if not bool(inside.any()):
        return torch.tensor(-torch.inf, dtype=torch.float64)
    slopes = one.unit.derivative(one.inner(corners[inside]))
    tried = []
    for pattern in torch.cartesian_prod(torch.arange(2), torch.arange(2)).double():
        tried.append(slopes.scatter(1, both[inside], pattern.expand(len(slopes), 2)))
    return _rates(one, torch.cat(tried)).max()
