"""Means of activations under pairs of Gaussian variables: the building block of every infinite-width kernel."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regimes.activations import ERF, GELU, Activation
from regimes.tangent.infinite.state import root

Roots = tuple[Tensor, Tensor]  # √variance of u and of v


class Means(NamedTuple):
    """√(E σ(u)² E σ(v)²) ∓ E σ(u)σ(v), and E σ'(u)σ'(v); Pairs of the next layer and the factor of the kernel."""

    gap: Tensor
    total: Tensor
    slope: Tensor


class Form(NamedTuple):
    """root: √E σ(u)² from √E u². means: from gap, total, the roots before and after."""

    root: Callable[[Tensor], Tensor]
    means: Callable[[Tensor, Tensor, Roots, Roots], Means]


class _Absolute(torch.autograd.Function):
    """√(AB) − E|u||v| = G + 2/π (φ C − √(GT)) and φ from G = √(AB) − C, T = √(AB) + C; φ = 2 atan(√(G/T)).

    At φ = 0 and π the angle has a kink; its gradient there is 0, the mean of both sides.
    """

    @staticmethod
    def forward(ctx, gap: Tensor, total: Tensor) -> Roots:
        one, other = gap.sqrt(), total.sqrt()
        angle = torch.atan2(one, other).mul_(2)
        ctx.save_for_backward(gap, total, angle)
        absolute = (
            torch.sub(total, gap).mul_(angle).mul_(1 / math.pi).sub_(one.mul_(other), alpha=2 / math.pi).add_(gap)
        )
        return absolute.clamp_(min=0), angle  # by rounding it can fall below 0, at angles of 1e-16

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor) -> Roots:  # pyright: ignore[reportIncompatibleMethodOverride]
        gap, total, angle = ctx.saved_tensors
        through, turn = grad_outputs
        smooth = (gap > 0) & (total > 0)
        scale = torch.where(gap + total > 0, gap + total, 1.0)
        sine = 2 * (gap * total).sqrt() / scale
        level, tilt = (1 - 2 / math.pi * sine) / 2, (1 - 2 / math.pi * angle) / 2
        one, other = (
            torch.where(smooth, (a / torch.where(smooth, b, 1.0)).sqrt(), 0.0) / scale
            for a, b in ((total, gap), (gap, total))
        )
        return through * (level + tilt) + turn * one, through * (level - tilt) - turn * other


def piecewise_linear(below: float, above: float) -> Form:
    """σ(s) = below·s for s < 0, above·s for s > 0: relu (0, 1), leaky relu, absolute value (−1, 1), identity (1, 1).

    With p = (above − below)²/4, q = (above + below)²/4, C the covariance, φ the angle: E σσ = p E|u||v| + q C, E|u||v|
    = 2/π √(AB) (sin φ + (π/2 − φ) cos φ), E σ'σ' = p (1 − 2φ/π) + q.
    Source: [ChoSaul2009].
    """
    p, q = ((above - below) / 2) ** 2, ((above + below) / 2) ** 2

    def means(gap: Tensor, total: Tensor, before: Roots, after: Roots) -> Means:
        if p == 0:
            return Means(q * gap, q * total, torch.full_like(gap, q))
        if p <= q:
            absolute, angle = _Absolute.apply(gap, total)
        else:  # |v| = |−v|: near opposite points the difference is as small as near equal ones
            absolute, folded = _Absolute.apply(torch.minimum(gap, total), torch.maximum(gap, total))
            angle = torch.where(gap <= total, folded, math.pi - folded)
        after_gap = torch.add(p * absolute, gap, alpha=q)
        after_total = torch.add((p + q) * total, gap - absolute, alpha=p)
        return Means(after_gap, after_total, torch.mul(angle, -2 * p / math.pi).add(p + q))

    return Form(lambda a: a * (p + q) ** 0.5, means)


def between(value: Tensor, after: Roots) -> tuple[Tensor, Tensor]:
    """Gap and total from a covariance: 1 − c is good to a rounding of 1, which is enough where σ' is smooth."""
    scale = after[0] * after[1]
    return (scale - value).clamp(min=0), (scale + value).clamp(min=0)


def erf_form() -> Form:
    """E erf(u)erf(v) = (2/π) asin(2C/√((1+2A)(1+2B))), E erf'erf' = (4/π)/√((1+2A)(1+2B) − 4C²).

    Source: [Williams1996].
    """

    def means(gap: Tensor, total: Tensor, before: Roots, after: Roots) -> Means:
        # (1+2A)(1+2B) − 4C² without the difference, which would lose all digits at large variances, and the arcsine as
        # an angle, which keeps them where it is near π/2.
        a, b = (each.square() for each in before)
        rest = (1 + 2 * a + 2 * b + 4 * gap * total).sqrt()
        value = 2 / math.pi * torch.atan2(total - gap, rest)
        return Means(*between(value, after), 4 / math.pi / rest)

    def after(a: Tensor) -> Tensor:
        variance = a.square()
        return root(2 / math.pi * torch.atan2(2 * variance, (1 + 4 * variance).sqrt()))

    return Form(after, means)


def gelu_form() -> Form:
    """σ(s) = s Φ(s): with D = 1 + A + B + AB − C², ψ = atan(C/√D), P = (1 + A)(1 + B),

    E σσ = [(C² + AB·D)/(P √D) + C ψ]/(2π) + C/4, E σ'σ' = C/(2π √D) (1/D + (1 − AB)/P + 1) + ψ/(2π) + 1/4.
    Source: [Tsuchida2020].
    """

    def means(gap: Tensor, total: Tensor, before: Roots, after: Roots) -> Means:
        a, b = (each.square() for each in before)
        d = 1 + a + b + gap * total
        c, r, p, both = (total - gap) / 2, d.sqrt(), (1 + a) * (1 + b), a * b
        angle = torch.atan2(c, r)
        value = ((c.square() + both * d) / (p * r) + c * angle) / (2 * math.pi) + c / 4
        slope = c / (2 * math.pi * r) * (1 / d + (1 - both) / p + 1) + angle / (2 * math.pi) + 0.25
        return Means(*between(value, after), slope)

    def after(a: Tensor) -> Tensor:
        v = a.square()
        r = (1 + 2 * v).sqrt()
        return root(v * ((v / ((v + 1) * r) + torch.atan2(v, r) / 2) / math.pi + 0.25))

    return Form(after, means)


def closed_form(activation: Activation) -> Form | None:
    """The form of an activation that has one."""
    if activation.slopes is not None:
        return piecewise_linear(*activation.slopes)
    for known, form in ((ERF, erf_form), (GELU, gelu_form)):
        if activation.value is known.value and activation.derivative is known.derivative:
            return form()
    return None
