"""Means of any activation under pairs of Gaussian variables, by quadrature over the plane in four sectors.

u = √A r cos θ, v = √B r cos(θ − φ) with r e^{−r²/2} dr dθ/(2π). The lines u = 0 and v = 0 bound the sectors, so that an
activation that is smooth on both sides of 0 is integrated to rounding at any angle φ, also near 0 and π.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from regimes.activations import Activation
from regimes.tangent.infinite.closed_forms import Form, Roots, is_odd, smooth
from regimes.tangent.infinite.parts import through_zero, unseen
from regimes.tangent.infinite.state import Pairs, root

REACH = 9.0  # the normal law ends at 1e-18
RULES = ((64, 32), (48, 24))  # radii and angles of the rule, and of the coarser one that measures its error
PAIRS = 4096  # at a time


@cache
def _gauss(nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss and Legendre on [−1, 1]."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    with torch.inference_mode(False):  # they are kept, and may be differentiated through later
        return torch.from_numpy(x), torch.from_numpy(weights)


def _radii(nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes on [0, REACH], and weights times e^{−r²/2}."""
    x, weights = (each.to(device) for each in _gauss(nodes))
    r = REACH / 2 * (1 + x)
    return r, REACH / 2 * weights * torch.exp(-r.square() / 2)


def _mean(function: Callable[[Tensor], Tensor], angle: Tensor, a: Tensor, b: Tensor, rule: tuple[int, int]) -> Tensor:
    """E f(u)f(v), each argument (pairs,)."""
    r, weights = _radii(rule[0], angle.device)
    weights = weights * r / (2 * math.pi)
    mean = torch.zeros_like(angle)
    for t, weight in zip(*(each.tolist() for each in _gauss(rule[1])), strict=True):
        for middle, half in ((angle / 2, (math.pi - angle) / 2), ((angle - math.pi) / 2, angle / 2)):
            theta = middle + t * half
            u, v = ((side * torch.cos(each))[:, None] * r for side, each in ((a, theta), (b, theta - angle)))
            mean = mean + weight * half * ((function(u) * function(v) + function(-u) * function(-v)) @ weights)
    return mean


def _square(function: Callable[[Tensor], Tensor], roots: Tensor, rule: tuple[int, int]) -> Tensor:
    """E f(√A g)² for each √A."""
    r, weights = _radii(rule[0], roots.device)
    u = roots[..., None] * r
    return (function(u).square() + function(-u).square()) @ weights / math.sqrt(2 * math.pi)


def _first(function: Callable[[Tensor], Tensor], roots: Tensor) -> Tensor:
    """E f(√A g) g for each √A."""
    r, weights = _radii(RULES[0][0], roots.device)
    u = roots[..., None] * r
    return (function(u) - function(-u)) @ (weights * r) / math.sqrt(2 * math.pi)


def _unseen(activation: Activation, roots: Tensor) -> float:
    """What the rule misses of E σ'², relative to it, by parts on each half of the line."""
    roots = roots.detach()
    r, weights = _radii(RULES[0][0], roots.device)
    off = torch.zeros_like(roots)
    for sign in (-1.0, 1.0):
        u = sign * roots[..., None] * r
        first, slope = activation.value(u) @ (weights * r), activation.derivative(u) @ weights
        ends = activation.value(sign * REACH * roots) * math.exp(-(REACH**2) / 2) - activation.value(0 * roots)
        off = off + (first + ends - sign * roots * slope).abs() / math.sqrt(2 * math.pi)
    value, slope = (_square(each, roots, RULES[0]) for each in (activation.value, activation.derivative))
    return unseen(off, roots, value, slope, activation.lipschitz)


def quadrature_form(activation: Activation, tolerance: float) -> Form:
    """E σσ and E σ'σ'. ValueError where a coarser rule differs by more than tolerance, relative to the variances."""

    def refuse(error: float) -> None:
        if not error <= tolerance:
            raise ValueError(
                f"infinite-width kernels of {activation.name!r} by quadrature are known to {error:.1e} here, and "
                f"tolerance={tolerance:.1e} is asked for. Use smaller weights, an activation that bends at 0 only, or "
                "Nonlinearity(..., tolerance=...)."
            )

    def require(fine: Tensor, coarse: Tensor, size: Tensor) -> Tensor:
        refuse(float(((fine - coarse).detach().abs() / torch.where(size > 0, size, 1.0).detach()).max()))
        return fine

    odd = is_odd(activation)

    def after(roots: Tensor) -> Tensor:
        fine, coarse = (_square(activation.value, roots, rule) for rule in RULES)
        return root(require(fine, coarse, fine))

    def pairs(given: Pairs, before: Roots, ends: Roots) -> Pairs:
        given, shape = given.plain(), given.gap.shape
        for each in before:
            refuse(_unseen(activation, each))
        angle = 2 * torch.atan2(root(given.gap), root(given.total)).flatten()
        a, b = (each.expand(shape).flatten() for each in before)
        found = []
        for function in (activation.value, activation.derivative):
            parts = []
            for chunk in zip(angle.split(PAIRS), a.split(PAIRS), b.split(PAIRS), strict=True):
                fine, coarse = (_mean(function, *chunk, rule) for rule in RULES)
                size = root(_square(function, chunk[1], RULES[0]) * _square(function, chunk[2], RULES[0]))
                parts.append(require(fine, coarse, size))
            mean = torch.cat(parts).unflatten(0, shape)
            found.append(through_zero(mean, given.gap, given.total, before, partial(_first, function)))
        return smooth(found[0], found[1], given, before, ends, odd=odd)

    return Form(after, pairs)
