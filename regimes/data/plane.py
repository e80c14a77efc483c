"""Two classes of points in the plane on which nets as differential equations are tried: donuts, squares, a spiral.

Each function returns the points (n, 2) in random order and their labels, 0 or 1. noise·N(0, I) is added after
labelling, so that the classes overlap and no net is right everywhere. Draws: the points, the order, the noise.
Source: [Benning2019], laws and sizes from the author code.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import count, not_negative
from regimes.errors import users_choice

Points = tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]
CELLS = 100  # places along each axis of [−1, 1] from which the donuts are drawn
SPREAD = 0.1  # deviation of a donut's radius
RING = 0.5  # radius of the class 0
HALF_WIDTH = 0.7  # of the squares


def donut1d(
    samples: int, *, noise: float = 0.1, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Points:
    """A class between two parts of the other, on the line (z, 0): label 1 near 0, label 0 near ±0.5.

    z on 100 equally spaced places of [−1, 1] with weights exp(−(|z| − m)²/(2·0.1²)), m = 0 for the ⌈n/3⌉ points of
    label 1 and m = 0.5 for the others.
    """
    _require("donut1d", samples, noise)
    line = torch.linspace(-1, 1, CELLS, dtype=torch.float64)
    places = torch.stack([line, torch.zeros_like(line)], 1)
    return _finish(*_rings(samples, math.ceil(samples / 3), places, generator), noise, generator, dtype)


def donut2d(
    samples: int, *, noise: float = 0.1, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Points:
    """A disc within a ring: label 1 near the origin, label 0 near the circle of radius 0.5.

    Drawn from the 100 × 100 grid of [−1, 1]² with weights exp(−(‖x‖ − m)²/(2·0.1²)), m = 0 for the ⌈n/2⌉ points of
    label 1 and m = 0.5 for the others. No continuous injective map of the plane makes the two linearly separable.
    """
    _require("donut2d", samples, noise)
    line = torch.linspace(-1, 1, CELLS, dtype=torch.float64)
    places = torch.cartesian_prod(line, line)
    return _finish(*_rings(samples, math.ceil(samples / 2), places, generator), noise, generator, dtype)


def squares2d(
    samples: int, *, noise: float = 0.1, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Points:
    """Two by two fields of a chessboard: uniform on [−0.7, 0.7]², label 1 where x₁x₂ > 0."""
    _require("squares2d", samples, noise)
    x = HALF_WIDTH * (2 * torch.rand(samples, 2, generator=generator, dtype=torch.float64) - 1)
    return _finish(x, (x.prod(1) > 0).long(), noise, generator, dtype)


def spiral2d(
    samples: int, *, noise: float = 0.05, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Points:
    """Two arms, each r (cos(a + φ), sin(a + φ)) with r from 0.1 to 1 and a from 0.1 to 2π in equal steps.

    φ = π for the ⌈n/2⌉ points of label 1, φ = 0 for the others.
    """
    _require("spiral2d", samples, noise)
    arms = []
    for points, phase in ((math.ceil(samples / 2), math.pi), (samples // 2, 0.0)):
        radius = torch.linspace(0.1, 1, points, dtype=torch.float64)
        angle = torch.linspace(0.1, 2 * math.pi, points, dtype=torch.float64) + phase
        arms.append(radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1))
    labels = (torch.arange(samples) < len(arms[0])).long()
    return _finish(torch.cat(arms), labels, noise, generator, dtype)


PLANE: dict[str, Callable[..., Points]] = {
    "donut1d": donut1d,
    "donut2d": donut2d,
    "squares2d": squares2d,
    "spiral2d": spiral2d,
}


def _require(caller: str, samples: int, noise: float) -> None:
    with users_choice():
        count(caller, "samples", samples)
        not_negative(caller, "noise", noise)


def _rings(samples: int, inside: int, places: Tensor, generator: torch.Generator) -> Points:
    """`inside` of the places around the origin, label 1; the others around the circle of radius RING, label 0."""
    radii = places.norm(dim=1)
    drawn = []
    for points, middle in ((inside, 0.0), (samples - inside, RING)):
        weights = (-(radii - middle).square() / (2 * SPREAD**2)).exp()
        if points:
            drawn.append(torch.multinomial(weights, points, replacement=True, generator=generator))
    return places[torch.cat(drawn)], (torch.arange(samples) < inside).long()


def _finish(x: Tensor, labels: Tensor, noise: float, generator: torch.Generator, dtype: torch.dtype) -> Points:
    order = torch.randperm(len(x), generator=generator)
    moved = x[order] + noise * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return moved.to(dtype), labels[order]
