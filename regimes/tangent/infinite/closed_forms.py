"""Means of activations under pairs of Gaussian variables: the building block of every infinite-width kernel."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regimes.activations import ERF, GELU, Activation
from regimes.tangent.infinite.state import TINY, Pairs, recorded, root, zeroed

Roots = tuple[Tensor, Tensor]  # √variance of u and of v


class Form(NamedTuple):
    """root: √E σ(u)² from √E u². pairs: those of the next layer, from the pairs, the roots before and after."""

    root: Callable[[Tensor], Tensor]
    pairs: Callable[[Pairs, Roots, Roots], Pairs]


class _Turn(torch.autograd.Function):
    """2 (φ C − √(GT)) and φ from G = √(AB) − C, T = √(AB) + C, with cos φ = C/√(AB).

    At φ = 0 and π the angle has a kink; its gradient there is 0, the mean of both sides. Where A or B is 0 the angle
    is π/2, the mean over the ways there.
    """

    @staticmethod
    def forward(ctx, gap: Tensor, total: Tensor) -> Roots:
        turn = total - gap
        sine = torch.mul(gap, total).sqrt_().mul_(2)
        angle = torch.where(gap + total > 0, torch.atan2(sine, turn), math.pi / 2)
        ctx.save_for_backward(gap, total, angle)
        return turn.mul_(angle).sub_(sine), angle

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor) -> Roots:  # pyright: ignore[reportIncompatibleMethodOverride]
        gap, total, angle = ctx.saved_tensors
        through, turned = grad_outputs
        smooth = (gap > 0) & (total > 0)
        length = torch.where(gap + total > 0, gap + total, 1.0)
        sine = 2 * (gap * total).sqrt() / length
        one, other = (
            torch.where(smooth, (a / torch.where(smooth, b, 1.0)).sqrt(), 0.0) / length
            for a, b in ((total, gap), (gap, total))
        )
        return turned * one - through * (angle + sine), through * (angle - sine) - turned * other


def _in_few_passes(given: Pairs, share: float, factor: float) -> Pairs:
    """The pairs after a piecewise linear activation, in three new arrays that are written over and over.

    Memory, not arithmetic, is what a pass costs: an array that the cache holds is read three times as fast.
    """
    gap, total, ntk, _ = given
    cosine = total - gap
    sine = torch.addcmul(gap.new_full((), TINY), gap, total, value=4)
    angle = torch.rsqrt(sine)
    sine.mul_(angle)  # half the time of sqrt
    torch.atan2(sine, cosine, out=angle)
    turn = sine.addcmul_(cosine, angle, value=-1)  # minus that of _Turn
    new_gap = torch.sub(gap, turn, alpha=share, out=cosine).clamp_(min=0)
    new_total = torch.add(total, turn, alpha=share, out=turn)
    new_ntk = None if ntk is None else torch.addcmul(ntk, angle, ntk, value=-2 * share, out=angle)
    return Pairs(new_gap, new_total, new_ntk, factor)


def piecewise_linear(below: float, above: float) -> Form:
    """σ(s) = below·s for s < 0, above·s for s > 0: relu (0, 1), leaky relu, absolute value (−1, 1), identity (1, 1).

    With p = (above − below)²/4, q = (above + below)²/4, C the covariance, φ the angle: E σσ = p E|u||v| + q C, E|u||v|
    = 2/π √(AB) (sin φ + (π/2 − φ) cos φ), E σ'σ' = p (1 − 2φ/π) + q.
    Source: [ChoSaul2009].
    """
    p, q = ((above - below) / 2) ** 2, ((above + below) / 2) ** 2

    def pairs(given: Pairs, before: Roots, after: Roots) -> Pairs:
        gap, total, ntk, factor = given
        if p == 0:
            return given._replace(factor=factor * q)
        share = p / (p + q) / math.pi
        if p <= q and not recorded(gap, total, ntk):
            return _in_few_passes(given, share, factor * (p + q))
        if p <= q:
            turn, angle = _Turn.apply(gap, total)
            new_gap = torch.add(gap, turn, alpha=share)
            new_total = torch.sub(total, turn, alpha=share)
        else:  # |v| = |−v|: near opposite points the difference is as small as near equal ones
            least = torch.minimum(gap, total)
            turn, angle = _Turn.apply(least, torch.maximum(gap, total))
            absolute = torch.add(least, turn, alpha=1 / math.pi)
            new_gap = torch.add(p / (p + q) * absolute, gap, alpha=q / (p + q))
            new_total = torch.add(total, gap - absolute, alpha=p / (p + q))
            angle = torch.where(gap <= total, angle, math.pi - angle)
        # By rounding the gap can fall below 0, at angles of 1e-16.
        new_ntk = None if ntk is None else torch.addcmul(ntk, angle, ntk, value=-2 * share)
        return Pairs(new_gap.clamp_(min=0), new_total, new_ntk, factor * (p + q))

    return Form(lambda a: a * (p + q) ** 0.5, pairs)


def smooth(value: Tensor, slope: Tensor, given: Pairs, before: Roots, after: Roots, *, odd: bool) -> Pairs:
    """Pairs of a smooth activation from E σσ and E σ'σ': 1 − c is good to a rounding of 1, which is enough there.

    Not for the activations that follow, where a rounding of 1 is an angle of 1e-8: equal pairs stay equal, and where
    σ(−s) = −σ(s) opposite ones stay opposite.
    """
    length, same = after[0] * after[1], before[0] == before[1]
    gap, total = zeroed(length - value, same & (given.gap == 0)), length + value
    if odd:
        total = zeroed(total, same & (given.total == 0))
    return Pairs(gap.clamp(min=0), total.clamp(min=0), None if given.ntk is None else slope.mul(given.ntk))


def is_odd(activation: Activation) -> bool:
    """Whether σ(−s) = −σ(s), to the last digit, on a line of numbers."""
    s = torch.linspace(0, 40, 401, dtype=torch.float64)
    return torch.equal(activation.value(-s), -activation.value(s))


def erf_form() -> Form:
    """E erf(u)erf(v) = (2/π) asin(2C/√((1+2A)(1+2B))), E erf'erf' = (4/π)/√((1+2A)(1+2B) − 4C²).

    Source: [Williams1996].
    """

    def pairs(given: Pairs, before: Roots, after: Roots) -> Pairs:
        # (1+2A)(1+2B) − 4C² without the difference, which would lose all digits at large variances, and the arcsine as
        # an angle, which keeps them where it is near π/2.
        given = given.plain()
        a, b = (each.square() for each in before)
        rest = (1 + 2 * a + 2 * b + 4 * given.gap * given.total).sqrt()
        value = 2 / math.pi * torch.atan2(given.total - given.gap, rest)
        return smooth(value, 4 / math.pi / rest, given, before, after, odd=True)

    def after(a: Tensor) -> Tensor:
        variance = a.square()
        return root(2 / math.pi * torch.atan2(2 * variance, (1 + 4 * variance).sqrt()))

    return Form(after, pairs)


def gelu_form() -> Form:
    """σ(s) = s Φ(s): with D = 1 + A + B + AB − C², ψ = atan(C/√D), P = (1 + A)(1 + B),

    E σσ = [(C² + AB·D)/(P √D) + C ψ]/(2π) + C/4, E σ'σ' = C/(2π √D) (1/D + (1 − AB)/P + 1) + ψ/(2π) + 1/4.
    Source: [Tsuchida2020].
    """

    def pairs(given: Pairs, before: Roots, after: Roots) -> Pairs:
        given = given.plain()
        a, b = (each.square() for each in before)
        d = 1 + a + b + given.gap * given.total
        c, r, p, both = given.covariance(), d.sqrt(), (1 + a) * (1 + b), a * b
        angle = torch.atan2(c, r)
        value = ((c.square() + both * d) / (p * r) + c * angle) / (2 * math.pi) + c / 4
        slope = c / (2 * math.pi * r) * (1 / d + (1 - both) / p + 1) + angle / (2 * math.pi) + 0.25
        return smooth(value, slope, given, before, after, odd=False)

    def after(a: Tensor) -> Tensor:
        v = a.square()
        r = (1 + 2 * v).sqrt()
        return root(v * ((v / ((v + 1) * r) + torch.atan2(v, r) / 2) / math.pi + 0.25))

    return Form(after, pairs)


def closed_form(activation: Activation) -> Form | None:
    """The form of an activation that has one."""
    if activation.slopes is not None:
        return piecewise_linear(*activation.slopes)
    for known, form in ((ERF, erf_form), (GELU, gelu_form)):
        if activation.value is known.value and activation.derivative is known.derivative:
            return form()
    return None
