"""What the layers of an infinitely wide net map: the kernels of all pairs of samples, and the variances of each alone.

A pair (u, v) is centred Gaussian with variances A, B and covariance C. Kept are √(AB) − C and √(AB) + C: near |C| =
√(AB) the angle between u and v would lose half of the digits of a rounded C, and a sum of such differences loses none.
The variances are kept as roots, √A and √B.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST = 1e-70  # root of a variance other than 0: fourth powers are formed
TINY = torch.finfo(torch.float64).tiny  # where both sides are zero, 0/0 is 0


class Pairs(NamedTuple):
    """All pairs, (n1, n2), with positions (n1, n2, *s) or with pairs of positions (n1, n2, *s, *s).

    factor·gap = √(AB) − C, factor·total = √(AB) + C with C the covariance of an output (NNGP); factor·ntk is the
    tangent kernel, None where it is not asked for. Constants gather in the factor: a pass over all pairs for each of
    them would cost as much as the roots and angles.
    """

    gap: Float[Tensor, "n1 n2 *positions"]
    total: Float[Tensor, "n1 n2 *positions"]
    ntk: Float[Tensor, "n1 n2 *positions"] | None
    factor: float = 1.0

    def covariance(self) -> Float[Tensor, "n1 n2 *positions"]:
        """C."""
        return (self.total - self.gap).mul_(self.factor / 2)

    def plain(self) -> "Pairs":
        """The same with factor 1."""
        if self.factor == 1:
            return self
        return Pairs(*(None if each is None else self.factor * each for each in self[:3]))  # pyright: ignore


class Sides(NamedTuple):
    """√variance of each sample, (n, *s), before and after a layer; `inner`: the same for the layers that it holds."""

    before: Float[Tensor, "*left_of_it"]
    after: Float[Tensor, "*right_of_it"]
    inner: tuple["Sides", ...] = ()


class Kind(NamedTuple):
    """What is known of a layer's input without numbers.

    positions: the axes of an image, none for vectors. channels: their number, None where the width is not given.
    gaussian: whether an output is Gaussian with mean 0, so that an activation may follow. fresh: whether it has gone
    through random weights since the last branching.
    """

    positions: tuple[int, ...]
    channels: int | None
    gaussian: bool = False
    fresh: bool = False


@runtime_checkable
class Layer(Protocol):
    """A layer as a map of pairs. `pools`: whether it needs pairs of positions."""

    @property
    def pools(self) -> bool: ...

    def fitted(self, kind: Kind) -> tuple["Layer", Kind]:
        """The layer with what it takes from its input, and the kind of its output; ValueError if they do not fit."""
        ...

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        """√variances (n, *s) after the layer; own: pairs of its own positions, (n, 1, *s, *s)."""
        ...

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        """All pairs after the layer. left (n1, 1, *s) and right (1, n2, *s): what `sides` found, by samples."""
        ...


def root(values: Tensor) -> Tensor:
    """Square root with gradient 0 at 0, where the input of a network is zero."""
    if not values.requires_grad:
        return values.sqrt()
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


def zeroed(values: Tensor, where: Tensor) -> Tensor:
    """The values, but 0 in some places, where the gradient is that of the values."""
    return torch.where(where, values - values.detach() if recorded(values) else 0.0, values)


def recorded(*tensors: Tensor | None) -> bool:
    """Whether gradients are asked for, so that nothing may be written in place."""
    return torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors)


def mapped(sides: Sides, function: Callable[[Tensor], Tensor]) -> Sides:
    """The sides with a function applied to each tensor, once where it ends one layer and begins the next."""
    known: dict[int, Tensor] = {}

    def once(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            known[id(tensor)] = function(tensor)
        return known[id(tensor)]

    def each(sides: Sides) -> Sides:
        return Sides(once(sides.before), once(sides.after), tuple(each(one) for one in sides.inner))

    return each(sides)


def every(sides: Sides) -> Iterator[Tensor]:
    """The √variances before and after each layer."""
    yield sides.before
    yield sides.after
    for each in sides.inner:
        yield from every(each)


def joined(parts: Sequence[Sides]) -> Sides:
    """The sides of all samples from those of parts of them."""
    if len(parts) == 1:
        return parts[0]
    inner = tuple(joined(each) for each in zip(*(part.inner for part in parts), strict=True))
    before, after = (torch.cat(each) for each in list(zip(*parts, strict=True))[:2])
    return Sides(before, after, inner)


def placed(left: Tensor, right: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Left (n1, 1, *s) and right (1, n2, *s) so that they broadcast with the pairs."""
    positions = left.ndim - 2
    if positions == 0 or pairs.ndim == left.ndim:
        return left, right
    ones = (1,) * positions
    return left.reshape(*left.shape, *ones), right.reshape(*right.shape[:2], *ones, *right.shape[2:])


def alone(layer: Layer, before: Tensor, after: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
    """What `sides` returns, once the √variances after the layer are known."""
    if own is not None:
        sides = Sides(before[:, None], after[:, None])
        own = layer.pairs(own, sides, sides)
        own = own if own.gap.ndim > 2 else None  # no positions are left
    return Sides(before, after), own


def deficit(a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor, after: Tensor) -> Tensor:
    """after − a1·b1 − a2·b2 with after = √((a1² + a2²)(b1² + b2²)), without a difference of near numbers."""
    return (a1 * b2 - a2 * b1).square() / (after + a1 * b1 + a2 * b2).clamp(min=TINY)


def with_constant(a: Tensor, b: Tensor, after_a: Tensor, after_b: Tensor, constant: float, factor: float) -> Tensor:
    """√((a² + s²)(b² + s²)) − a·b − s² over a factor, for a constant s > 0, as in `deficit`."""
    size = torch.addcmul((factor * after_a) * after_b, factor * a, b).add_(factor * constant**2)
    return (constant * a - constant * b).square().div_(size)
