"""Kernels of infinitely wide networks at random weights: output covariance (NNGP) and tangent kernel (NTK)."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, count, finite, function, real, shapes
from regimes.tangent.infinite.layers import require_layer
from regimes.tangent.infinite.products import NEAR, products, sharpened, spread
from regimes.tangent.infinite.state import Kind, Layer, Pairs, Sides, joined, mapped, placed, root

MEMORY = 512 * 2**20  # bytes that the work may take beside its result
TILE = 2**16  # entries of a tile of pairs on a CPU: what stays in its cache
ARRAYS = 24  # arrays of the size of a tile that a layer may hold at a time


class Kernels(NamedTuple):
    """nngp: covariance of one output at random weights; ntk: its tangent kernel (times the identity over outputs)."""

    nngp: Float[Tensor, "n1 n2"]
    ntk: Float[Tensor, "n1 n2"]


def infinite_kernels(
    net: Layer,
    x1: Float[Tensor, "n1 *sample"],
    x2: Float[Tensor, "n2 *sample"] | None = None,
    *,
    memory: int = MEMORY,
    progress: Callable[[int, int], object] | None = None,
) -> Kernels:
    """Kernels of a net with infinitely many channels in each layer, on vectors (n, d) or images (n, channels, *s).

    The input counts as S = x·x'/d over its d channels, K = 0; the docstrings of the layers say what each makes of
    them. x2 = None means x1: then half of the pairs are computed and the result is exactly symmetric. In float64 on
    the device of x1, whatever their dtype; equal inputs and opposite ones keep all digits, but after an average
    pooling, where angles below 1e-7 count as 0. Pairs are computed in tiles that take at most `memory` bytes beside
    the result where one pair does; progress(done, pairs) is called after each.
    Differentiable, gradient 0 at the kinks of the ReLU kernel; an x that requires a gradient is computed in one tile.
    ValueError: inputs that are not finite, layers that do not fit, a net that ends with positions.
    Source: [JacotGabrielHongler2018]; for images [Arora2019].
    """
    caller = "infinite_kernels"
    require_layer(caller, net)
    shapes(caller, x1=(x1, "n1 *sample"), x2=(x2, "n2 *sample"), optional=("x2",))
    real(caller, x1=x1, x2=x2)
    if x1.ndim not in (2, 3, 4):
        raise ValueError(
            f"{caller} needs vectors (n, d), sequences (n, channels, s) or images (n, channels, s, s); "
            f"got x1 {tuple(x1.shape)}. Reshape x1."
        )
    finite(caller, x1=x1, x2=x2)
    other = x1 if x2 is None else x2
    alike(caller, x1=x1.to(torch.float64), x2=other.to(torch.float64))
    count(caller, "memory", memory)
    function(caller, progress=progress)
    net, after = net.fitted(Kind(tuple(x1.shape[2:]), x1.shape[1]))
    if after.positions:
        raise ValueError(
            f"{caller} needs a net whose last layers leave no positions; got {after.positions} after it. "
            "Add Flatten() or GlobalAvgPool()."
        )
    size = math.prod(x1.shape[2:]) ** (2 if net.pools else 1)
    room = max(1, memory // (8 * ARRAYS * size))
    left = _samples(net, x1, room)
    right = left if x2 is None else _samples(net, other, room)
    if torch.is_grad_enabled() and (left.x.requires_grad or right.x.requires_grad):
        return _kernels(_pairs(net, left, right))
    tile = min(room, TILE // size) if x1.device.type == "cpu" else room
    n1, n2 = len(x1), len(other)
    nngp, ntk = (torch.empty(n1, n2, dtype=torch.float64, device=x1.device) for _ in range(2))
    done, total = 0, n1 * (n1 + 1) // 2 if x2 is None else n1 * n2
    for rows, columns in _tiles(n1, n2, max(1, tile), half=x2 is None):
        found = _kernels(_pairs(net, left.part(rows), right.part(columns)))
        diagonal = x2 is None and rows == columns
        for whole, part in zip((nngp, ntk), found, strict=True):
            whole[rows, columns] = part.triu() + part.triu(1).mT if diagonal else part
            if x2 is None and not diagonal:
                whole[columns, rows] = part.mT
        a, b = (range(n)[each] for n, each in ((n1, rows), (n2, columns)))
        done += len(a) * (len(a) + 1) // 2 if diagonal else len(a) * len(b)
        if progress is not None:
            progress(done, total)
    return Kernels(nngp, ntk)


class _Samples(NamedTuple):
    """Inputs (n, *s, d) over √d, their lengths at each position, and what the net makes of each of them alone."""

    x: Tensor
    root: Tensor
    sides: Sides

    def part(self, rows: slice) -> "_Samples":
        return _Samples(self.x[rows], self.root[rows], mapped(self.sides, lambda each: each[rows]))


def _samples(net: Layer, x: Tensor, room: int) -> _Samples:
    x = x.to(torch.float64).movedim(1, -1) / x.shape[1] ** 0.5
    roots = root(x.square().sum(-1))
    parts = []
    for one, each in zip(x.split(room), roots.split(room), strict=True):
        own = None
        if net.pools:
            own = _inputs(one[:, None], one[:, None], each[:, None], each[:, None], everywhere=True)
        parts.append(net.sides(each, own)[0])
    return _Samples(x, roots, joined(parts))


def _pairs(net: Layer, left: _Samples, right: _Samples) -> Pairs:
    pairs = _inputs(left.x[:, None], right.x[None], left.root[:, None], right.root[None], everywhere=net.pools)
    pairs = pairs._replace(ntk=torch.zeros_like(pairs.gap[:1, :1]).expand_as(pairs.gap))
    one, other = (
        mapped(side.sides, lambda each, axis=axis: each.unsqueeze(axis)) for axis, side in ((1, left), (0, right))
    )
    return net.pairs(pairs, one, other)


def _inputs(x1: Tensor, x2: Tensor, root1: Tensor, root2: Tensor, *, everywhere: bool) -> Pairs:
    """The pairs of inputs: x1 (n1, 1, *s, d), x2 (1, n2, *s, d)."""
    covariance = products(x1, x2, everywhere)
    a, b = placed(root1, root2, covariance)
    scale = a * b
    gap, total = scale - covariance, scale + covariance
    near = covariance.abs() > (1 - NEAR) * scale
    if near.any():
        one, other = spread(_units(x1, root1), _units(x2, root2), covariance)
        gap = sharpened(gap, scale, near & (covariance > 0), one, other)
        total = sharpened(total, scale, near & (covariance < 0), one, -other)
    return Pairs(gap, total, None)


def _units(x: Tensor, roots: Tensor) -> Tensor:
    return x / torch.where(roots > 0, roots, 1.0)[..., None]


def _kernels(pairs: Pairs) -> Kernels:
    assert pairs.ntk is not None
    return Kernels(pairs.covariance(), pairs.ntk)


def _tiles(n1: int, n2: int, pairs: int, *, half: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles of at most `pairs` pairs; `half`: those that meet the upper triangle only."""
    size = max(1, math.isqrt(pairs))
    for i in range(0, n1, size):
        for j in range(i if half else 0, n2, size):
            yield slice(i, min(n1, i + size)), slice(j, min(n2, j + size))
