"""Means of any smooth activation under pairs of Gaussian variables, by Hermite series."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import Activation
from regimes.tangent.infinite.closed_forms import Form, Roots, is_odd, smooth
from regimes.tangent.infinite.parts import through_zero, unseen
from regimes.tangent.infinite.state import Pairs, recorded, root

DEGREE = 600  # of the longest series
REACH, NODES = 13.0, 2601  # trapezoid rule on [−13, 13]: exponentially accurate, the normal law ends at 1e-37
NEGLIGIBLE = 1e-15  # share of E function² whose coefficients are left out
ROWS = 1024  # variances at a time


class Missed(ValueError):
    """The series is cut too early."""


class _Series(NamedTuple):
    coefficients: Float[Tensor, "*sides degree"]
    square: Float[Tensor, "*sides"]  # E function²
    missing: Float[Tensor, "*sides"]  # the part of it beyond the last degree


@cache
def _hermite() -> tuple[Float[Tensor, "nodes"], Float[Tensor, "nodes degree"]]:
    """Nodes of the normal law, and weight times normalised Hermite polynomial at each."""
    with torch.inference_mode(False), torch.device("cpu"):  # they are kept, whatever holds at the first call
        return _hermite_on_cpu()


def _hermite_on_cpu() -> tuple[Float[Tensor, "nodes"], Float[Tensor, "nodes degree"]]:
    x = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
    weight = torch.exp(-x.square() / 2)
    weight = weight / weight.sum()
    columns = [weight, weight * x]  # the recursion is linear, so it carries the weights: no overflow at large degree
    for degree in range(1, DEGREE):
        columns.append((x * columns[-1] - degree**0.5 * columns[-2]) / (degree + 1) ** 0.5)
    return x, torch.stack(columns, 1)


def _second_moments(function: Callable[[Tensor], Tensor], roots: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Coefficients c_j = E[function(√A g) He_j(g)]/√j! for each √A, and E function² = Σ_j c_j²."""
    nodes, polynomials = (each.to(roots.device) for each in _hermite())
    values = function(roots[:, None] * nodes)
    square = values.square() @ polynomials[:, 0]
    coarse = 2 * values[:, ::2].square() @ polynomials[::2, 0]
    if ((square - coarse).abs() > tolerance * square).any():
        raise Missed(
            f"the mean of the activation is not resolved at a pre-activation variance of "
            f"{float(roots.detach().max().square()):.3g}: use smaller weights."
        )
    return values @ polynomials, square


def _series(function: Callable[[Tensor], Tensor], roots: Tensor, tolerance: float) -> _Series:
    found = [_second_moments(function, part, tolerance) for part in roots.flatten().split(ROWS)]
    coefficients, square = (torch.cat(each).unflatten(0, roots.shape) for each in zip(*found, strict=True))
    return _Series(coefficients, square, (square - coefficients.square().sum(-1)).abs())


def _degrees(*sides: _Series) -> int:
    """How many coefficients count: what is left out is negligible on both sides."""
    needed = 1
    for side in sides:
        tail = side.coefficients.detach().square().flip(-1).cumsum(-1).flip(-1)  # Σ over degree ≥ j of c_j²
        counts = (tail > NEGLIGIBLE**2 * side.square[..., None]).sum(-1)
        needed = max(needed, int(counts.max()))
    return needed


def _first(function: Callable[[Tensor], Tensor], roots: Tensor) -> Tensor:
    """E function(√A g) g for each √A."""
    nodes, polynomials = (each.to(roots.device) for each in _hermite())
    parts = [function(part[:, None] * nodes) @ polynomials[:, 1] for part in roots.flatten().split(ROWS)]
    return torch.cat(parts).unflatten(0, roots.shape)


def _mean(left: _Series, right: _Series, given: Pairs, roots: Roots, tolerance: float) -> Tensor:
    """E f(u)f(v) = Σ_j c_j(A) c_j(B) c^j; the rest is at most |c|^degree times the missing second moments."""
    gap, total = given.gap, given.total
    scale = (gap + total) / 2
    correlation = torch.where(scale > 0, (total - gap) / 2 / torch.where(scale > 0, scale, 1.0), 0.0)
    size = (left.square * right.square).detach().sqrt()
    missing = (left.missing * right.missing).detach().sqrt() * correlation.detach().abs() ** DEGREE
    same = (gap == 0) & (roots[0] == roots[1])  # there the mean is the second moment
    if not recorded(gap, total, *roots):  # its gradient is that of the sum
        missing = torch.where(same, 0.0, missing)
    if (missing > tolerance * size).any():
        worst = float((missing / torch.where(size > 0, size, 1.0)).max())
        raise Missed(
            f"the Hermite series of the activation misses {worst:.1e} at a pre-activation variance of "
            f"{float(roots[0].detach().max().square()):.3g}: use smaller weights."
        )
    mean = torch.zeros_like(correlation)
    degrees = _degrees(left, right)
    for a, b in zip(*(side.coefficients[..., :degrees].flip(-1).unbind(-1) for side in (left, right)), strict=True):
        mean = mean * correlation + a * b
    return torch.where(same, mean + (left.square - mean).detach(), mean)


def series_form(activation: Activation, tolerance: float) -> Form:
    """E σσ and E σ'σ' for any smooth activation by Hermite series; ValueError for relative errors beyond tolerance."""
    odd = is_odd(activation)

    def pairs(given: Pairs, before: Roots, after: Roots) -> Pairs:
        given = given.plain()
        functions = (activation.value, activation.derivative)
        values, slopes = ([_series(function, each, tolerance) for each in before] for function in functions)
        for each, value, slope in zip(before, values, slopes, strict=True):
            off = value.coefficients[..., 1] - each * slope.coefficients[..., 0]
            if unseen(off, each, value.square, slope.square, activation.lipschitz) > tolerance:
                raise Missed(f"the derivative of {activation.name!r} is too steep to be seen: use smaller weights.")
        means = []
        for function, (left, right) in zip(functions, (values, slopes), strict=True):
            mean = _mean(left, right, given, before, tolerance)
            means.append(through_zero(mean, given.gap, given.total, before, partial(_first, function)))
        return smooth(means[0], means[1], given, before, after, odd=odd)

    return Form(lambda a: root(_series(activation.value, a, tolerance).square), pairs)
