"""Scores of the height in the plane, risks, and the exact least objective over all maps.

A point x has a sign s = ±1 and, after the map T, the risk r(s f(y)) with f a score of the height y of T(x). The
transport of L blocks, L Σ_k ‖v_k‖², is at least ‖T(x) − x‖², equal on straight and even paths. So the least of
risk + transport/λ over all maps is taken point by point, over heights alone:
    1/n Σ_i min_y r(s_i f(y)) + (y − y_i)²/λ.
No net can be below it, and a net that comes near it moves its points as one of the minimisers does.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from regimes.conventions import generator
from regimes.streams import KnownMap

SLOPE, EDGE = 4.0, 1.0  # β of the scores, and the height h of an edge
FINE, ROUNDS, REACH = 401, 6, 6.0  # points of the grid, how often it is made finer, how far it reaches

Function = Callable[[Tensor], Tensor]


def line(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """β y: one straight edge at height 0."""
    return SLOPE * y


def raised(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """β (y − h): one straight edge at height h."""
    return SLOPE * (y - EDGE)


def band(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """β (y² − h²): two edges, at h and −h, the same seen from above and from below."""
    return SLOPE * (y.square() - EDGE**2)


SCORES: dict[str, Function] = {"line": line, "raised": raised, "band": band}


def hinge(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """max(0, 1 − s f): 0 from a margin of 1 on, with a slope up to there."""
    return (1 - margin).clamp(min=0)


def square(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """½ (1 − s f)² = ½ (s − f)²: 0 at margin 1, where its slope is 0, too."""
    return 0.5 * (1 - margin).square()


def logistic(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log(1 + exp(−s f)), the cross-entropy of two classes: above 0 at every margin."""
    return softplus(-margin)


RISKS: dict[str, Function] = {"logistic": logistic, "hinge": hinge, "square": square}


class Least(NamedTuple):
    """The least objective, with risk and transport of its minimisers: means over the points."""

    objective: Tensor
    risk: Tensor
    transport: Tensor


def least(
    y: Float[Tensor, "*runs n"], signs: Float[Tensor, "*runs n"], score: Function, risk: Function, multiplier: Tensor
) -> Least:
    """The exact least objective of clouds with these heights, by ever finer grids around the best height.

    Each round is 100 times finer than the one before: the last one is at rounding. Of two minimisers one is taken.
    """
    at, width = y, torch.full_like(y, REACH)
    grid = torch.linspace(-1, 1, FINE, dtype=y.dtype)
    weight = 1 / multiplier.reshape(*multiplier.shape, *[1] * (y.ndim - multiplier.ndim))
    for _ in range(ROUNDS):
        places = at[..., None] + width[..., None] * grid
        values = risk(signs[..., None] * score(places)) + weight[..., None] * (places - y[..., None]).square()
        at = places.gather(-1, values.argmin(-1, keepdim=True))[..., 0]
        width = width * (4 / FINE)
    risks, moved = risk(signs * score(at)).mean(-1), (at - y).square().mean(-1)
    return Least(risks + moved / multiplier, risks, moved)


def below(samples: int, distance: float, seed: int) -> tuple[Tensor, Tensor]:
    """Points and signs: class + on the right, class − on the left, both at height −Δ up to 0.1; the same at every Δ."""
    stream, half = generator(seed, KnownMap.DATA), samples // 2
    signs = torch.cat([torch.ones(half), -torch.ones(half)]).double()
    across = signs * (0.5 + torch.rand(2 * half, generator=stream, dtype=torch.float64))
    heights = 0.1 * torch.randn(2 * half, generator=stream, dtype=torch.float64) - distance
    return torch.stack([across, heights], 1), signs
