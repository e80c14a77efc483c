"""Layers of infinitely wide nets on images (n, channels, s) or (n, channels, s, s): convolutions, poolings, flattening.

Without a pooling a position meets the same position of another image only, (n1, n2, *s); with one all pairs of
positions are kept, (n1, n2, *s, *s).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from regimes.tangent.infinite.layers import Parametrisation, fan_in, require_weights, trained, with_bias
from regimes.tangent.infinite.products import NEAR, products, sharpened, spread
from regimes.tangent.infinite.state import SMALLEST, Kind, Pairs, Sides, alone, placed, root, zeroed
from regimes.tangent.infinite.windows import Padding, Windows, windows

ZERO = 32 * torch.finfo(torch.float64).eps  # a gap below this share of √(AB) after an average is rounding


@dataclass(frozen=True)
class Conv:
    """Random weights over windows of an image to `width` new channels; sizes and strides an entry for each axis.

    S'(p, q) = σ_w²/K Σ_δ S(p + δ, q + δ) + σ_b² over the K offsets δ of a window. Parametrisations as in Dense, with
    fan_in = K·channels and S there the mean over the window. padding: SAME adds zeros, CIRCULAR the other end of the
    image, VALID nothing.
    """

    sizes: Sequence[int] | int
    strides: Sequence[int] | int = 1
    padding: Padding = "SAME"
    sigma_w: float = 1.0
    sigma_b: float | None = None
    width: int | None = None
    parametrisation: Parametrisation = "ntk"
    fan_in: int | None = None
    over: Windows = field(init=False)

    def __post_init__(self) -> None:
        require_weights("Conv", self.sigma_w, self.sigma_b, self.width, self.parametrisation)
        object.__setattr__(self, "over", windows("Conv", self.sizes, self.strides, self.padding, 1))

    @property
    def pools(self) -> bool:
        return False

    def fitted(self, kind: Kind) -> tuple["Conv", Kind]:
        positions = self.over.positions("Conv", kind.positions)
        known = replace(self, fan_in=fan_in("Conv", self.parametrisation, kind, self.over.entries))
        return known, Kind(positions, self.width, gaussian=True, fresh=True)

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        each = [[1 + axis] for axis in range(before.ndim - 1)]
        mean = self.over.summed(before.square(), each) / self.over.entries
        return alone(self, before, with_bias(self.sigma_w * root(mean), self.sigma_b), own)

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        def mean(values: Tensor) -> Tensor:
            return self.over.summed(values, _together(values, len(self.over.sizes))).div_(self.over.entries)

        patches = [self._patches(side.before) for side in (left, right)]
        factor = self.sigma_w**2 * pairs.factor
        gap, total = averaged(
            [mean(pairs.gap), mean(pairs.total)],
            patches,
            (left.after, right.after),
            factor,
            2 * (self.sigma_b or 0.0) ** 2,
        )
        ntk = None if pairs.ntk is None else mean(pairs.ntk)
        return trained(self, lambda: mean(pairs.covariance()), Pairs(gap, total, ntk, factor))

    def _patches(self, before: Tensor) -> Tensor:
        """The vectors (σ_w/√K √A(p + δ) for all δ, σ_b), whose length is √A'."""
        patches = self.over.patches(before, 2) * (self.sigma_w / self.over.entries**0.5)
        if not self.sigma_b:
            return patches
        return torch.cat([patches, torch.full_like(patches[..., :1], self.sigma_b)], -1)


@dataclass(frozen=True)
class Flatten:
    """Channels at all positions as the channels of a vector: S' is the mean of S(p, p) over the positions."""

    @property
    def pools(self) -> bool:
        return False

    def fitted(self, kind: Kind) -> tuple["Flatten", Kind]:
        _require_positions("Flatten", kind)
        channels = None if kind.channels is None else kind.channels * math.prod(kind.positions)
        return self, Kind((), channels, gaussian=False, fresh=kind.fresh)

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        return Sides(before, root(before.square().flatten(1).mean(1))), None

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        count = left.before.ndim - 2
        gap, total = (_same(each, count).mean(-1) for each in (pairs.gap, pairs.total))
        patches = [side.before.flatten(2) / math.prod(side.before.shape[2:]) ** 0.5 for side in (left, right)]
        gap, total = averaged([gap, total], patches, (left.after, right.after), pairs.factor)
        return Pairs(gap, total, None if pairs.ntk is None else _same(pairs.ntk, count).mean(-1), pairs.factor)


@dataclass(frozen=True)
class AvgPool:
    """Means over windows: S'(p, q) is the mean of S over both windows, K' alike. Padded zeros count.

    strides: as many as the size of a window, if not given.
    """

    sizes: Sequence[int] | int
    strides: Sequence[int] | int | None = None
    padding: Padding = "VALID"
    over: Windows = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "over", windows("AvgPool", self.sizes, self.strides, self.padding, None))

    @property
    def pools(self) -> bool:
        return True

    def fitted(self, kind: Kind) -> tuple["AvgPool", Kind]:
        return self, kind._replace(positions=self.over.positions("AvgPool", kind.positions))

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        return _pooled_sides(self, self._mean, before, own)

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        return _pooled(pairs, self._mean, left, right)

    def _mean(self, values: Tensor) -> Tensor:
        count = len(self.over.sizes)
        for first in (2, 2 + count):
            values = self.over.summed(values, [[first + axis] for axis in range(count)]).div_(self.over.entries)
        return values


@dataclass(frozen=True)
class GlobalAvgPool:
    """Mean over all positions: S' is the mean of S(p, q) over all pairs of positions, K' alike."""

    @property
    def pools(self) -> bool:
        return True

    def fitted(self, kind: Kind) -> tuple["GlobalAvgPool", Kind]:
        _require_positions("GlobalAvgPool", kind)
        return self, kind._replace(positions=())

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        return _pooled_sides(self, _mean_of_all, before, own)

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        return _pooled(pairs, _mean_of_all, left, right)


def averaged(
    means: Sequence[Tensor], patches: Sequence[Tensor], after: tuple[Tensor, Tensor], factor: float, bias: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Gap and total of sums of covariances with weights above 0, from the sums of the gaps and of the totals.

    factor: what all of them are multiplied by. patches: the roots of the variances that are summed, with their weights,
    on a last axis; their lengths are `after`. What is missing is √(A'B') − Σ √(AB) = √(A'B') (1 − u·v) for the unit
    vectors u, v along them; bias is 2σ_b², the total of a bias, which is one of the entries.
    """
    gap, total = means
    units = [
        patch / torch.where(length > 0, length, 1.0)[..., None] for patch, length in zip(patches, after, strict=True)
    ]
    a, b = placed(*after, gap)
    scale = a * (b / factor)
    rest = (1 - products(units[0], units[1], gap.ndim > after[0].ndim)) * scale
    total = total + bias / factor
    near = torch.minimum(gap, total) + rest < NEAR * scale
    if near.any():
        rest = sharpened(rest, scale, near, *spread(units[0], units[1], gap))
    return gap + rest, total + rest


def _pooled_sides(
    layer: "AvgPool | GlobalAvgPool", mean: Callable[[Tensor], Tensor], before: Tensor, own: Pairs | None
) -> tuple[Sides, Pairs | None]:
    assert own is not None
    covariance = mean(own.covariance())
    covariance = torch.where(covariance > SMALLEST**2, covariance, 0.0)  # zeros come out as 1e-155
    count = (covariance.ndim - 2) // 2
    if count == 0:
        return alone(layer, before, root(covariance[:, 0]), own)
    after = root(_same(covariance, count)[:, 0]).unflatten(1, covariance.shape[2 : 2 + count])
    return alone(layer, before, after, own)


def _pooled(pairs: Pairs, mean: Callable[[Tensor], Tensor], left: Sides, right: Sides) -> Pairs:
    covariance = mean(pairs.covariance())
    a, b = placed(left.after, right.after, covariance)
    scale = a * b
    gap, total = (zeroed(each, ~(each > ZERO * scale)) for each in (scale - covariance, scale + covariance))
    return Pairs(gap, total, None if pairs.ntk is None else mean(pairs.ntk).mul_(pairs.factor))


def _mean_of_all(values: Tensor) -> Tensor:
    return values.flatten(2).mean(2)


def _together(values: Tensor, count: int) -> list[list[int]]:
    """For each axis of the image its axes in the pairs, which a convolution moves together."""
    every = values.ndim == 2 + 2 * count
    return [[2 + axis, 2 + count + axis] if every else [2 + axis] for axis in range(count)]


def _same(values: Tensor, count: int) -> Tensor:
    """(n1, n2, positions): each position with itself."""
    flat = values.flatten(2, 1 + count)
    return flat if flat.ndim == 3 else flat.flatten(3).diagonal(dim1=2, dim2=3)


def _require_positions(caller: str, kind: Kind) -> None:
    if not kind.positions:
        raise ValueError(f"{caller} needs an image, with positions; got vectors. Leave it out.")
