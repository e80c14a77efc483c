"""Screening of pairs: upper bounds of u_i + v_j − ‖x_i − y_j‖^p by one matrix product; none that binds is lost.

In single precision the product is two to four times as fast. What it cannot tell apart is looked at again exactly,
so that precision is a matter of speed alone; where it would pass too many pairs, double precision takes its place.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

WIDTH = 2048  # columns of a block on the CPU: what is computed is looked at before it leaves the cache
LARGEST = 1e30  # of the numbers in a product; float32 ends at 3e38
LEAST = 2.0**-80  # more than underflow can lose in a product of float32


class Cloud(NamedTuple):
    """Points about a common centre, and their squared norms."""

    points: Float[Tensor, "n d"]
    square: Float[Tensor, "n"]


class Screen(NamedTuple):
    """Factors whose product is the bound itself (p = 2), or minus a lower bound of ‖x − y‖² (else); in units of cost.

    `raised_u`, `raised_v` are the potentials plus what rounding may hide; `relative` is the rounding of the power.
    """

    left: Float[Tensor, "n d_plus_2"]
    right: Float[Tensor, "m d_plus_2"]
    raised_u: Float[Tensor, "n"]
    raised_v: Float[Tensor, "m"]
    p: float
    relative: float
    unit: float

    def on(self, columns: Int[Tensor, "c"]) -> "Screen":
        """The bounds of some columns."""
        return self._replace(right=self.right[columns], raised_v=self.raised_v[columns])

    def level(self, excess: float) -> float:
        """A number in these units such that every pair of at least this excess has a greater bound."""
        value = torch.tensor(excess / self.unit, dtype=self.left.dtype)
        return float(torch.nextafter(value, torch.tensor(-torch.inf, dtype=value.dtype)))

    def fill(self, at: Int[Tensor, "r"], part: slice, out: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
        """The bounds of rows `at` and the columns of a slice, written to `out`."""
        torch.mm(self.left[at], self.right[part].T, out=out)
        if self.p == 2:
            return out
        cost = out.neg_().clamp_(min=0)
        cost = cost.sqrt_() if self.p == 1 else cost.pow_(self.p / 2)
        return cost.mul_(self.relative - 1).add_(self.raised_u[at, None]).add_(self.raised_v[part])


def screen(x: Cloud, y: Cloud, u: Float[Tensor, "n"], v: Float[Tensor, "m"], p: float) -> Screen:
    """The bounds in double precision.

    Rounding is bounded relative to 2 ‖x‖² and |u| of the row and the same of the column: that of d + 2 products, of
    the squares and of the centring, a factor 2 to spare.
    """
    epsilon = (4 * x.points.shape[1] + 24) * torch.finfo(torch.float64).eps
    return Screen(*_factors(x, y, u, v, p, epsilon, 0.0), p, epsilon, 1.0)


def single_screen(x: Cloud, y: Cloud, u: Float[Tensor, "n"], v: Float[Tensor, "m"], p: float) -> Screen | None:
    """The bounds in single precision; None if that cannot hold the numbers, or if products are not computed in it.

    Here rounding is that of the factors, the products and the sums, a quarter to spare.
    """
    unit, d = _unit(x, y), x.points.shape[1]
    if unit is None or not keeps_single(d + 2, x.points.device):
        return None
    x, y = (Cloud(cloud.points / unit, cloud.square / unit**2) for cloud in (x, y))
    u, v = u / unit**p, v / unit**p
    largest = max(float(number.abs().max()) for number in (x.square, y.square, u, v))
    if not 0 < largest < LARGEST or max(1, p / 2) * math.log(4 * largest) >= math.log(LARGEST):
        return None
    epsilon = (1.25 * d + 10) * 2.0**-24
    left, right, raised_u, raised_v = _factors(x, y, u, v, p, epsilon, LEAST)
    return Screen(left.float(), right.float(), raised_u.float(), raised_v.float(), p, epsilon, unit**p)


def _factors(
    x: Cloud, y: Cloud, u: Tensor, v: Tensor, p: float, epsilon: float, floor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    raised_u, raised_v = u + epsilon * u.abs() + floor, v + epsilon * v.abs() + floor
    shift_x, shift_y = (2 * epsilon * cloud.square + floor - cloud.square for cloud in (x, y))
    if p == 2:
        shift_x, shift_y = shift_x + raised_u, shift_y + raised_v
    left = torch.cat([2 * x.points, torch.ones_like(u)[:, None], shift_x[:, None]], dim=1)
    right = torch.cat([y.points, shift_y[:, None], torch.ones_like(v)[:, None]], dim=1)
    return left, right, raised_u, raised_v


def _unit(x: Cloud, y: Cloud) -> float | None:
    """The power of two next to the median norm: a length in which squares neither overflow nor underflow."""
    middle = float(torch.cat([x.square, y.square]).median())
    return 2.0 ** round(0.5 * math.log2(middle)) if 1e-200 < middle < 1e200 else None


def keeps_single(inner: int, device: torch.device) -> bool:
    """Whether products of float32 are computed in float32: torch may have been told to use shorter numbers."""
    left, right = torch.zeros(128, inner, device=device), torch.zeros(WIDTH, inner, device=device)
    left[:, 0], right[:, 0] = 1 + 2.0**-20, 1
    return bool((left @ right.T == 1 + 2.0**-20).all())
