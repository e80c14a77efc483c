"""Windows over the positions of images: padding, sums, patches."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from regimes.checks import counts

Padding = Literal["VALID", "SAME", "CIRCULAR"]
PADDINGS = ("VALID", "SAME", "CIRCULAR")


class Windows(NamedTuple):
    """Windows of the given sizes, one entry an axis of the image, at every stride-th position.

    SAME pads with zeros so that size/stride positions come out, CIRCULAR with the other end of the image, as XLA and
    neural-tangents do; VALID pads nothing.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding

    @property
    def entries(self) -> int:
        """Positions of a window."""
        return math.prod(self.sizes)

    def positions(self, caller: str, before: Sequence[int]) -> tuple[int, ...]:
        """Positions after the windows have gone over an image."""
        if len(before) != len(self.sizes):
            raise ValueError(
                f"{caller} has windows {self.sizes} and needs images with {len(self.sizes)} axes of positions; "
                f"got {len(before)}. Give one size for each."
            )
        if self.padding != "VALID":
            return tuple(-(-size // stride) for size, stride in zip(before, self.strides, strict=True))
        after = tuple((n - k) // s + 1 for n, k, s in zip(before, self.sizes, self.strides, strict=True))
        if min(after) < 1:
            raise ValueError(
                f"{caller} needs images at least as large as its windows {self.sizes}; got {tuple(before)}."
            )
        return after

    def padded(self, values: Tensor, axis: int, number: int) -> Tensor:
        """The values with what is before and after them on an axis, the `number`-th of the image."""
        n, k, s = values.shape[axis], self.sizes[number], self.strides[number]
        width = max((-(-n // s) - 1) * s + k - n, 0) if self.padding != "VALID" else 0
        if not width:
            return values
        first, last = width // 2, width - width // 2
        if self.padding == "CIRCULAR":
            index = torch.arange(-first, n + last, device=values.device) % n
            return values.index_select(axis, index)
        shape = list(values.shape)
        ends = []
        for size in (first, last):
            shape[axis] = size
            ends.append(values.new_zeros(shape))
        return torch.cat([ends[0], values, ends[1]], axis)

    def summed(self, values: Tensor, axes: Sequence[Sequence[int]]) -> Tensor:
        """Sums over windows, axis of the image by axis; those of one entry of `axes` move together."""
        for number, together in enumerate(axes):
            for axis in together:
                values = self.padded(values, axis, number)
            total = None
            for offset in range(self.sizes[number]):
                part = values
                for axis in together:
                    part = self._taken(part, axis, number, offset)
                total = part.clone() if total is None else total.add_(part) if not total.requires_grad else total + part
            assert total is not None
            values = total
        return values

    def patches(self, values: Tensor, batch: int) -> Tensor:
        """The entries of every window on a last axis; the axes of the image come after `batch` others."""
        for number in range(len(self.sizes)):
            values = self.padded(values, batch + number, number)
        found = []
        for offsets in product(*(range(size) for size in self.sizes)):
            part = values
            for number, offset in enumerate(offsets):
                part = self._taken(part, batch + number, number, offset)
            found.append(part)
        return torch.stack(found, -1)

    def _taken(self, values: Tensor, axis: int, number: int, offset: int) -> Tensor:
        size, stride = self.sizes[number], self.strides[number]
        end = values.shape[axis] - size + offset + 1
        return values[(slice(None),) * axis + (slice(offset, end, stride),)]


def windows(
    caller: str, sizes: Sequence[int] | int, strides: Sequence[int] | int | None, padding: str, default: int | None
) -> Windows:
    """Windows from what a layer was given; one number counts for both axes of an image."""
    pair = (sizes, sizes) if isinstance(sizes, int) else sizes
    given = counts(caller, "the sizes of its windows", pair)
    steps = strides if strides is not None else given if default is None else (default,) * len(given)
    steps = counts(caller, "strides", (steps,) * len(given) if isinstance(steps, int) else steps, len(given))
    if not isinstance(padding, str) or padding not in PADDINGS:
        raise ValueError(f"{caller} needs padding as one of {', '.join(PADDINGS)}; got {padding!r}.")
    return Windows(given, steps, padding)
