"""Means of any smooth activation under pairs of Gaussian variables, by Hermite series."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import Activation
from regimes.tangent.duals import Duals, Pairs, pairs_from

DEGREE = 600  # of the Hermite series
REACH, NODES = 13.0, 2601  # trapezoid rule on [−13, 13]: exponentially accurate, the normal law ends at 1e-37
TRUNCATION = 1e-9  # largest share of √(E σ² E σ'²) that the series may miss


class _Series(NamedTuple):
    coefficients: Float[Tensor, "n degree"]
    square: Float[Tensor, "n"]  # E function²
    missing: Float[Tensor, "n"]  # the part of it beyond the last degree


@cache
def _hermite() -> tuple[Float[Tensor, "nodes"], Float[Tensor, "nodes degree"]]:
    """Nodes of the normal law, and weight times normalised Hermite polynomial at each."""
    x = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
    weight = torch.exp(-x.square() / 2)
    weight = weight / weight.sum()
    columns = [weight, weight * x]  # the recursion is linear, so it carries the weights: no overflow at large degree
    for degree in range(1, DEGREE):
        columns.append((x * columns[-1] - degree**0.5 * columns[-2]) / (degree + 1) ** 0.5)
    return x, torch.stack(columns, 1)


def _series(function: Callable[[Tensor], Tensor], variance: Float[Tensor, "n"]) -> _Series:
    """Coefficients c_j = E[function(√A g) He_j(g)]/√j! for each variance A, so that E function² = Σ_j c_j²."""
    nodes, polynomials = (each.to(variance.device) for each in _hermite())
    values = function(variance.sqrt()[:, None] * nodes)
    coefficients = values @ polynomials
    square = values.square() @ polynomials[:, 0]
    coarse = 2 * values[:, ::2].square() @ polynomials[::2, 0]
    if ((square - coarse).abs() > TRUNCATION * square).any():
        raise ValueError(
            f"the mean of the activation is not resolved at a pre-activation variance of {float(variance.max()):.3g}: "
            "use smaller weights, or relu, erf or identity."
        )
    return _Series(coefficients, square, (square - coefficients.square().sum(1)).abs())


def _mean(function: Callable[[Tensor], Tensor], pairs: Pairs) -> tuple[Tensor, _Series, _Series]:
    """E f(u)f(v) = Σ_j c_j(A) c_j(B) c^j; the rest is at most |c|^degree times the missing second moments."""
    correlation = pairs.correlation()
    left, right = _series(function, pairs.variance1), _series(function, pairs.variance2)
    missing = (left.missing[:, None] * right.missing).sqrt() * correlation.abs() ** DEGREE
    same = (pairs.below == 0) & (pairs.variance1[:, None] == pairs.variance2)  # there the mean is the second moment
    missing = torch.where(same, 0.0, missing)
    scale = (left.square[:, None] * right.square).sqrt()
    if (missing > TRUNCATION * scale).any():
        raise ValueError(
            f"the Hermite series of the activation misses {float((missing / scale).max()):.1e} at a pre-activation "
            f"variance of {float(pairs.variance1.max()):.3g}: use smaller weights, or relu, erf or identity."
        )
    total = torch.zeros_like(correlation)
    for a, b in zip(left.coefficients.T.flip(0), right.coefficients.T.flip(0), strict=True):
        total = total * correlation + a[:, None] * b
    return torch.where(same, left.square[:, None], total), left, right


def hermite_duals(pairs: Pairs, activation: Activation) -> Duals:
    """E σσ and E σ'σ' for any smooth activation by Hermite series; ValueError for relative errors beyond 1e-9."""
    value, left, right = _mean(activation.value, pairs)
    return Duals(value, _mean(activation.derivative, pairs)[0], pairs_from(value, left.square, right.square))
