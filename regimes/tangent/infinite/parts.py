"""Gaussian integration by parts: have the nodes seen all of σ', and what is the gradient where a variance is 0?

E f(√A g) g = √A E f'(√A g), and the derivative of E f(u)f(v) by the covariance of u and v is E f'(u)f'(v).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from regimes.tangent.infinite.state import TINY, recorded

SMALLEST = 1e-5  # the root of a variance below which E f' is taken there: off by 1e-10 f'''
ROUNDING = 1e-14  # of E f(√A g) g, relative to √E f²
First = Callable[[Tensor], Tensor]  # E f(√A g) g from √A


def unseen(off: Tensor, roots: Tensor, value: Tensor, slope: Tensor, lipschitz: float) -> float:
    """Bound on what the nodes miss of E σ'², relative to it, where σ' has a part that is steep and narrow.

    off: E σ(√A g) g − √A E σ'(√A g) as the nodes have it, which is √A times the missing part of E σ'. value: E σ²,
    slope: E σ'², at each √A.
    """
    off, roots, value, slope = (each.detach() for each in (off, roots, value, slope))
    missing = (off.abs() - ROUNDING * value.sqrt()).clamp(min=0) / torch.where(roots > 0, roots, 1.0)
    return float((lipschitz * missing / slope.clamp(min=TINY)).max())


def through_zero(mean: Tensor, gap: Tensor, total: Tensor, roots: tuple[Tensor, Tensor], first: First) -> Tensor:
    """E f(u)f(v) with its derivative by the covariance where u or v is 0: E f'(u) E f'(v), as they are independent."""
    zero = gap + total == 0
    if not recorded(mean, gap, total) or not bool(zero.any()):
        return mean
    large = [each.clamp(min=SMALLEST) for each in roots]
    slopes = [first(each) / each for each in large]
    return torch.where(zero, mean + slopes[0] * slopes[1] * (total - gap) / 2, mean)
