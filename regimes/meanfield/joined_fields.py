"""Sums over a net and a fixed one beside it, as each step of descent needs them, in memory that is made once.

The overlaps of a net with itself are symmetric: each pair is taken once, in strips of rows with all columns from
their own first one on, small enough for the cache. On a CPU, elementary functions are NumPy's where it has them for
several numbers at a time; both libraries round them correctly but for one unit.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

STRIP = 64  # rows of a strip, at most
SMALL = (
    2**18
)  # multiplications of a product for which NumPy's library starts no threads, and takes less time than torch


class Strip(NamedTuple):
    """Rows first..last of the net against the columns from `first` on; two matrices for what is made of them."""

    first: int
    last: int
    one: Tensor
    other: Tensor


class Joined:
    """Memory for u (runs, m, d) beside v (runs, t, d): vectors of both, the net's own first, and what multiplies them.

    A call gives the field of the joined net with charges (runs, m, 1) and those of v. The next call overwrites it.
    """

    def __init__(self, m: int, v: Tensor, charges: Tensor) -> None:
        runs, t, d = v.shape
        self.m, self.charges = m, charges.unsqueeze(2)
        self.vectors, self.weighted = (v.new_empty(runs, m + t, d) for _ in range(2))
        self.weights = v.new_empty(runs, m + t, 1)
        self.own, self.own_weighted, self.own_weights = (
            each[:, :m] for each in (self.vectors, self.weighted, self.weights)
        )
        self.length, self.divisor, self.sums = (v.new_empty(runs, m, 1) for _ in range(3))
        self.slopes, self.one = v.new_empty(runs, m, d), v.new_ones(())
        self.small = m <= STRIP and m * (m + t) * d <= SMALL and v.device.type == "cpu"
        self.strips: list[Strip] = []
        height = math.ceil(m / math.ceil(m / STRIP))
        memory = v.new_empty(2, runs * height * (m + t))
        for first in range(0, m, height):
            last = min(first + height, m)
            shape = (runs, last - first, m + t - first)
            one, other = (each[: math.prod(shape)].view(shape) for each in memory)
            self.strips.append(Strip(first, last, one, other))

    def fixed(self, vectors: Tensor, weights: Tensor) -> None:
        """Put in those of v."""
        self.vectors[:, self.m :], self.weights[:, self.m :] = vectors, weights
        self.weighted[:, self.m :] = vectors * weights

    def __call__(self, u: Tensor, charges: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_j charge_j K(u_i, v_j), (runs, m, 1), and Σ_j charge_j ∂K(u_i, v_j)/∂u_i over the neurons j of both."""
        raise NotImplementedError

    def products(self, strip: Strip, *, sign: int) -> Tensor:
        """±cosines of a strip, within [−1, 1]."""
        rows, columns = self.vectors[:, strip.first : strip.last], self.vectors[:, strip.first :]
        if self.small:
            _product(rows, columns.mT, strip.one)
            return (strip.one.neg_() if sign < 0 else strip.one).clamp_(-1, 1)
        return torch.baddbmm(strip.one, rows, columns.mT, beta=0, alpha=sign, out=strip.one).clamp_(-1, 1)

    def add(self, strip: Strip, matrix: Tensor, target: Tensor, factors: Tensor) -> None:
        """target_i += Σ_j matrix_ij factors_j for the rows i of the strip, and with i and j exchanged below it."""
        if self.small:
            _product(matrix, factors, target)
            return
        first, last = strip.first, strip.last
        target[:, first:last].baddbmm_(matrix, factors[:, first:], beta=int(first > 0))
        if last < self.m:
            below = matrix[:, :, last - first : self.m - first].mT
            target[:, last:].baddbmm_(below, factors[:, first:last], beta=int(first > 0))


class ReluJoined(Joined):
    """Of `ReluOverlap`: K = |u||v| factor (sin φ + (π − φ) cos φ)."""

    def __init__(self, factor: float, m: int, v: Tensor, charges: Tensor) -> None:
        super().__init__(m, v, charges)
        self.factor, self.least = factor, torch.finfo(v.dtype).tiny
        length = torch.linalg.vector_norm(v, dim=2, keepdim=True)
        self.fixed(v / length.clamp_min(self.least), length * self.charges)

    def __call__(self, u: Tensor, charges: Tensor) -> tuple[Tensor, Tensor]:
        torch.linalg.vector_norm(u, dim=2, keepdim=True, out=self.length)
        torch.div(u, torch.clamp(self.length, min=self.least, out=self.divisor), out=self.own)
        torch.mul(charges, self.length, out=self.own_weights)
        torch.mul(self.own, self.own_weights, out=self.own_weighted)
        for strip in self.strips:
            opposite = self.products(strip, sign=-1)
            sine = _sqrt(torch.addcmul(self.one, opposite, opposite, value=-1, out=strip.other))
            self.add(strip, sine, self.sums, self.weights)
            self.add(strip, _arccos(opposite), self.slopes, self.weighted)  # π − φ
        slope = self.slopes.addcmul_(self.own, self.sums)
        slope.mul_(self.length.sign_().mul_(self.factor))  # where u = 0 the derivative is 0
        return torch.linalg.vecdot(u, slope).unsqueeze(2), slope


class ErrorFunctionJoined(Joined):
    """Of `ErrorFunctionOverlap` with one error function: K = constant² + (2/π) weight² arcsin z."""

    def __init__(self, weight: float, width: float, constant: float, m: int, v: Tensor, charges: Tensor) -> None:
        super().__init__(m, v, charges)
        self.weight, self.width, self.constant = weight, width, constant
        self.floor = torch.empty_like(self.length)
        radius = torch.linalg.vector_norm(v, dim=2, keepdim=True).square_().add_(width**2).rsqrt_()
        self.fixed(v * radius, self.charges)
        self.weighted[:, m:] = self.vectors[:, m:] * self.charges
        self.total = self.charges.sum(1, keepdim=True)

    def __call__(self, u: Tensor, charges: Tensor) -> tuple[Tensor, Tensor]:
        radius = torch.linalg.vector_norm(u, dim=2, keepdim=True, out=self.length)
        radius.square_().add_(self.width**2).rsqrt_()
        torch.mul(radius, self.width, out=self.floor).square_()
        torch.mul(u, radius, out=self.own)
        self.own_weights.copy_(charges)
        torch.mul(self.own, charges, out=self.own_weighted)
        for strip in self.strips:
            z = self.products(strip, sign=1)
            steep = torch.addcmul(self.one, z, z, value=-1, out=strip.other)
            torch.maximum(steep, self.floor[:, strip.first : strip.last], out=steep).rsqrt_()
            self.add(strip, steep, self.slopes, self.weighted)
            self.add(strip, _arcsin(z), self.sums, self.weights)
        factor = 2 / math.pi * self.weight**2
        inward = torch.linalg.vecdot(self.own, self.slopes, dim=2).unsqueeze(2)
        slope = self.slopes.addcmul_(self.own, inward, value=-1).mul_(radius.mul_(factor))
        value = self.sums.mul_(factor)
        return value.add_(self.constant**2 * (self.total + charges.sum(1, keepdim=True))), slope


def _product(one: Tensor, other: Tensor, out: Tensor) -> None:
    np.matmul(one.numpy(), other.numpy(), out=out.numpy())


def _fast(name: str) -> bool:
    """Whether NumPy takes several float64 at a time here; the same in each process of a machine."""
    introspect = getattr(np.lib, "introspect", None)
    if introspect is None:  # NumPy below 2.1 does not say
        return False
    ways = introspect.opt_func_info(func_name=f"^{name}$").get(name, {}).get("dd", {})
    return not str(ways.get("current", "baseline")).startswith(("baseline", "None"))


def _in_place(numpy: Callable, own: Callable, fast: bool) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        if fast and x.dtype == torch.float64 and x.device.type == "cpu":
            array = x.numpy()
            numpy(array, out=array)
            return x
        return own(x)

    return apply


_arccos = _in_place(np.arccos, Tensor.acos_, _fast("arccos"))
_arcsin = _in_place(np.arcsin, Tensor.asin_, _fast("arcsin"))
_sqrt = _in_place(np.sqrt, Tensor.sqrt_, True)
