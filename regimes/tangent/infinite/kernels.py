"""Kernels of infinitely wide networks at random weights: output covariance (NNGP) and tangent kernel (NTK)."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, finite, function, real, shapes, without_values
from regimes.tangent.infinite.layers import require_layer
from regimes.tangent.infinite.products import NEAR, products, sharpened, spread
from regimes.tangent.infinite.state import SMALLEST, Kind, Layer, Pairs, Sides, every, joined, mapped, placed, recorded

MEMORY = 512 * 2**20  # bytes that the work may take beside its result
TILE, ROWS = 2**17, 96  # entries of a tile of pairs on a CPU, which stay in its cache, and samples of its shorter side
LARGEST = 1e35  # root of a variance, of which up to the eighth power is formed
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
    the device of x1, whatever their dtype; equal inputs keep all digits, and opposite ones, where
    activations before piecewise linear ones are odd; but after an average pooling angles below 1e-7 count as 0, and
    after a smooth activation other angles are good to 1e-8. Pairs are computed in tiles that take at most `memory`
    bytes beside the result where one pair does; progress(done, pairs) is called after each.
    Differentiable, also at equal inputs and at zeros, with gradient 0 at the kinks of the ReLU kernel; an x that
    requires a gradient is computed in one tile.
    ValueError: inputs that are not finite, layers that do not fit, a net that ends with positions, variances that leave
    the range of float64.
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
    count(caller, "memory", memory)
    function(caller, progress=progress)
    return kernels_of(caller, net, x1, x2, memory=memory, progress=progress)


def kernels_of(
    caller: str,
    net: Layer,
    x1: Tensor,
    x2: Tensor | None,
    *,
    memory: int = MEMORY,
    progress: Callable[[int, int], object] | None = None,
) -> Kernels:
    """infinite_kernels of inputs whose shapes are known to be right."""
    other = x1 if x2 is None else x2
    if x1.device != other.device:
        raise ValueError(f"{caller} needs x1 and x2 on one device; got {x1.device} and {other.device}. Use .to().")
    net, after = net.fitted(Kind(tuple(x1.shape[2:]), x1.shape[1]))
    if after.positions:
        raise ValueError(
            f"{caller} needs a net whose last layers leave no positions; got {after.positions} after it. "
            "Add Flatten() or GlobalAvgPool()."
        )
    size = math.prod(x1.shape[2:]) ** (2 if net.pools else 1)
    room = max(1, memory // (8 * ARRAYS * size))
    left = _samples(caller, "x1", net, x1, room)
    right = left if x2 is None else _samples(caller, "x2", net, other, room)
    if torch.is_grad_enabled() and (left.root.requires_grad or right.root.requires_grad):
        return _kernels(_pairs(net, left.along(1), right.along(0)))
    left, right = left.along(1), right.along(0)
    tile = max(1, min(room, TILE // size) if x1.device.type == "cpu" else room)
    rows = max(1, min(math.isqrt(tile), ROWS)) if x1.device.type == "cpu" else max(1, math.isqrt(tile))
    n1, n2 = len(x1), len(other)
    nngp, ntk = (_empty(n1, n2, x1.device) for _ in range(2))
    done, total = 0, n1 * (n1 + 1) // 2 if x2 is None else n1 * n2
    for one, two in _tiles(n1, n2, rows, tile // rows, half=x2 is None):
        known = x2 is None and x1.ndim == 2 and one.start == two.start
        found = _kernels(_pairs(net, left.part((one,)), right.part((slice(None), two)), known))
        for whole, part in zip((nngp, ntk), found, strict=True):
            if x2 is None:
                _place(whole, part, one, two)
            else:
                whole[one, two] = part
        a, b = (one.stop - one.start, two.stop - two.start)
        done += a * b if x2 is not None or two.start > one.start else a * b - a * (a - 1) // 2
        if progress is not None:
            progress(done, total)
    return Kernels(nngp, ntk)


def _empty(n1: int, n2: int, device: torch.device) -> Tensor:
    """Memory for a kernel; that of numpy comes in large pages on Linux, which are ten times as quick to write first."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty((n1, n2)))
    return torch.empty(n1, n2, dtype=torch.float64, device=device)


def _place(whole: Tensor, part: Tensor, rows: slice, columns: slice) -> None:
    """Write a tile that begins on the diagonal or to the right of it, and its mirror image."""
    if columns.start > rows.start:
        whole[rows, columns] = part
        whole[columns, rows] = part.mT
        return
    size = rows.stop - rows.start
    square = part[:, :size]
    whole[rows, rows] = square.triu() + square.triu(1).mT
    if part.shape[1] > size:
        _place(whole, part[:, size:], rows, slice(rows.stop, columns.stop))


class _Samples(NamedTuple):
    """Inputs (n, *s, d) over their lengths, these over √d, and what the net makes of each sample alone."""

    units: Tensor
    root: Tensor
    sides: Sides

    def along(self, axis: int) -> "_Samples":
        """The same with a further axis, over the samples of the other side."""
        units, root = (each.unsqueeze(axis) for each in (self.units, self.root))
        return _Samples(units, root, mapped(self.sides, lambda each: each.unsqueeze(axis)))

    def part(self, places: tuple[slice, ...]) -> "_Samples":
        """Some of the samples."""
        return _Samples(self.units[places], self.root[places], mapped(self.sides, lambda each: each[places]))


def _samples(caller: str, name: str, net: Layer, x: Tensor, room: int) -> _Samples:
    x = x.to(torch.float64).movedim(1, -1)
    lengths = torch.linalg.vector_norm(x, dim=-1)
    if without_values(x) or not bool(
        lengths.isfinite().all()
    ):  # a pass over the lengths is cheaper than one over the entries
        finite(caller, **{name: x})
        raise ValueError(
            f"{caller} needs {name} with squares that float64 can hold; its entries are too large. Scale it."
        )
    units = x / torch.where(lengths > 0, lengths, 1.0)[..., None]  # 0 where x is, with the gradient of x
    roots = lengths / x.shape[-1] ** 0.5
    parts = []
    for one, each in zip(units.split(room), roots.split(room), strict=True):
        own = _inputs(one[:, None], one[:, None], each[:, None], each[:, None], True) if net.pools else None
        parts.append(net.sides(each, own)[0])
    sides = joined(parts)
    _require_held(caller, name, sides)
    return _Samples(units, roots, sides)


def _require_held(caller: str, name: str, sides: Sides) -> None:
    """Refuse samples whose variances, or products of two, leave the range of float64 on their way through the net."""
    for each in every(sides):
        size = each.detach()
        least, most = torch.where(size == 0, 1.0, size).aminmax()
        if not SMALLEST <= float(least) <= float(most) <= LARGEST:
            wrong = float(most) if not float(most) <= LARGEST else float(least)
            raise ValueError(
                f"{caller} needs pre-activations of standard deviations from {SMALLEST:.0e} to {LARGEST:.0e}, or 0, as "
                f"float64 cannot hold their powers; those of {name} come to {wrong:.2g}. "
                "Scale the inputs or the weights."
            )


def _pairs(net: Layer, left: _Samples, right: _Samples, same: bool = False) -> Pairs:
    """left: (n1, 1, ...), right: (1, n2, ...)."""
    pairs = _inputs(left.units, right.units, left.root, right.root, net.pools, same)
    pairs = pairs._replace(ntk=torch.zeros_like(pairs.gap[:1, :1]).expand_as(pairs.gap))
    return net.pairs(pairs, left.sides, right.sides)


def _inputs(
    units1: Tensor, units2: Tensor, root1: Tensor, root2: Tensor, everywhere: bool, same: bool = False
) -> Pairs:
    """The pairs of inputs, by unit vectors (n1, 1, *s, d) and (1, n2, *s, d), and lengths.

    same: the first vectors of the second kind, without positions, are those of the first kind.
    """
    cosine = products(units1, units2, everywhere)
    if same:
        cosine.fill_diagonal_(0)  # not to be looked at: it is known
    least, most = cosine.detach().aminmax()
    scale = torch.mul(*placed(root1, root2, cosine))
    covariance = cosine * scale
    if recorded(covariance) and not bool((scale > 0).all()):  # vectors of zeros are kept as they are: see _samples
        d = units1.shape[-1]
        one, other = (torch.where(each > 0, each, d**-0.5) for each in (root1, root2))
        covariance = cosine * torch.mul(*placed(one, other, cosine))
    gap = scale - covariance
    total = scale + covariance if recorded(covariance) else covariance.add_(scale)
    one, other = spread(units1, units2, cosine)
    if most > 1 - NEAR:
        gap = sharpened(gap, scale, cosine > 1 - NEAR, one, other)
    if least < NEAR - 1:
        total = sharpened(total, scale, cosine < NEAR - 1, one, other, sign=-1)
    if same:
        gap.fill_diagonal_(0)
        total.diagonal().copy_(2 * scale.diagonal())
    return Pairs(gap, total, None)


def _kernels(pairs: Pairs) -> Kernels:
    assert pairs.ntk is not None
    return Kernels(pairs.covariance(), pairs.factor * pairs.ntk)


def _tiles(n1: int, n2: int, rows: int, columns: int, *, half: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles; `half`: of those that meet the upper triangle, from the diagonal on."""
    columns = max(columns, rows)
    for i in range(0, n1, rows):
        for j in range(i if half else 0, n2, columns):
            yield slice(i, min(n1, i + rows)), slice(j, min(n2, j + columns))
