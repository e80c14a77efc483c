"""Means of activations under pairs of Gaussian variables: the building block of every infinite-width kernel.

A pair (u, v) is centred Gaussian with variances A, B and correlation c. The pair kernels keep 1 − c and 1 + c apart:
near c = 1 the angle arccos c of a rounded c would lose half of the digits.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def root(values: Tensor) -> Tensor:
    """Square root with gradient 0 at 0, where the input of a network is zero."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


class Pairs(NamedTuple):
    """Gaussian pairs: variances of both sides, and 1 − c and 1 + c of the correlation c, both accurate near 0."""

    variance1: Float[Tensor, "n1"]
    variance2: Float[Tensor, "n2"]
    below: Float[Tensor, "n1 n2"]
    above: Float[Tensor, "n1 n2"]

    def correlation(self) -> Float[Tensor, "n1 n2"]:
        """c."""
        return torch.where(self.below < self.above, 1 - self.below, self.above - 1)

    def scale(self) -> Float[Tensor, "n1 n2"]:
        """√(AB)."""
        return root(self.variance1)[:, None] * root(self.variance2)

    def covariance(self) -> Float[Tensor, "n1 n2"]:
        """√(AB) c."""
        return self.scale() * self.correlation()


class Duals(NamedTuple):
    """E σ(u)σ(v), E σ'(u)σ'(v), and the first as pairs (variances E σ², correlation) for the next layer."""

    value: Float[Tensor, "n1 n2"]
    derivative: Float[Tensor, "n1 n2"]
    pairs: Pairs


class _ArcCosine(torch.autograd.Function):
    """1 − (sin φ + (π − φ) cos φ)/π as a function of 1 − cos φ, with its true derivative (π − φ)/π at φ = 0 too."""

    @staticmethod
    def forward(ctx, below: Tensor, above: Tensor) -> Tensor:
        angle = 2 * torch.atan2(below.sqrt(), above.sqrt())
        ctx.save_for_backward(angle)
        return below + (angle * torch.cos(angle) - torch.sin(angle)) / math.pi

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (angle,) = ctx.saved_tensors
        return grad_outputs[0] * (1 - angle / math.pi), None


def relu_duals(pairs: Pairs) -> Duals:
    """E σσ' = √(AB)/(2π) (sin φ + (π − φ) cos φ) and E 1{u>0}1{v>0} = (π − φ)/(2π), φ = arccos c.

    At φ = 0 and π the second has a kink; its gradient there is 0, the mean of both sides.
    Source: [ChoSaul2009].
    """
    smooth = (pairs.below > 0) & (pairs.above > 0)
    below, above = torch.where(smooth, pairs.below, 1.0), torch.where(smooth, pairs.above, 1.0)
    angle = torch.where(
        smooth, 2 * torch.atan2(below.sqrt(), above.sqrt()), torch.full_like(below, math.pi) * (pairs.below > 0)
    )
    gap = _ArcCosine.apply(pairs.below, pairs.above)
    value = pairs.scale() / 2 * (1 - gap)
    after = Pairs(pairs.variance1 / 2, pairs.variance2 / 2, gap, 2 - gap)
    return Duals(value, (math.pi - angle) / (2 * math.pi), after)


def identity_duals(pairs: Pairs) -> Duals:
    """E uv and 1: a linear network."""
    return Duals(pairs.covariance(), torch.ones_like(pairs.below), pairs)


def pairs_from(value: Tensor, variance1: Tensor, variance2: Tensor) -> Pairs:
    """Pairs of the given covariance and variances."""
    scale = root(variance1[:, None] * variance2)
    correlation = value / torch.where(scale > 0, scale, 1.0)
    return Pairs(variance1, variance2, (1 - correlation).clamp(min=0), (1 + correlation).clamp(min=0))


def erf_duals(pairs: Pairs) -> Duals:
    """E erf(u)erf(v) = (2/π) asin(2C/√((1+2A)(1+2B))), E erf'erf' = (4/π)/√((1+2A)(1+2B) − 4C²), C = √(AB) c.

    Source: [Williams1996].
    """
    # (1+2A)(1+2B) − 4C² without the difference, which would lose all digits at large variances, and the arcsine as an
    # angle, which keeps them where it is near π/2.
    a, b = pairs.variance1[:, None], pairs.variance2
    rest = (1 + 2 * a + 2 * b + 4 * a * b * pairs.below * pairs.above).sqrt()
    value = 2 / math.pi * torch.atan2(2 * pairs.covariance(), rest)
    derivative = 4 / math.pi / rest
    variances = [2 / math.pi * torch.atan2(2 * v, (1 + 4 * v).sqrt()) for v in (pairs.variance1, pairs.variance2)]
    return Duals(value, derivative, pairs_from(value, *variances))


CLOSED_FORMS = {"relu": relu_duals, "erf": erf_duals, "identity": identity_duals}
